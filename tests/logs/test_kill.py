"""A writing process is killed again and again: what it acknowledged is there, all of it is right."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from dvid_es.errors import DvidError
from dvid_es.logs import FileLog, FilePacks, PackRef, verify_log
from tests.logs.crasher import PACK_BYTES, SEGMENT_BYTES, data_of

ROOT = Path(__file__).parents[2]


def write_and_kill(folder: Path, acks: int, program: str = "tests.logs.crasher") -> int:
    """Kill a writer after some of its answers and return the last that it gave."""
    with subprocess.Popen(
        [sys.executable, "-m", program, folder], cwd=ROOT, stdout=subprocess.PIPE
    ) as writer:
        for _ in range(1 + acks):
            line = writer.stdout.readline()
        writer.kill()
        # What it said before it died counts too; the last line may be cut short.
        lines = (line + writer.stdout.read()).splitlines(keepends=True)
    return max(int(line.split()[1]) for line in lines if line.endswith(b"\n"))


def check(folder: Path, acked: int) -> tuple[int, str]:
    """Start after a kill; return how many records are there and what is wrong."""
    log = FileLog(folder / "log", "stream", segment_bytes=SEGMENT_BYTES)
    packs = FilePacks(folder / "packs", pack_bytes=PACK_BYTES)
    try:
        records = list(log.read())
        if not acked <= len(records) == log.end:
            return len(records), f"{acked} were acknowledged, {len(records)} are there"
        refs = [PackRef(*map(int, record.header.split()), record.facts) for record in records]
        if [record.time_ns for record in records] != list(range(len(records))):
            return len(records), "records are wrong"
        if packs.get_many(refs) != [data_of(number) for number in range(len(records))]:
            return len(records), "values are wrong"
        return len(records), ""
    except DvidError as error:
        return 0, str(error)
    finally:
        packs.close()
        log.close()


def cycles(folder: Path, count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    problems = []
    acked = 0
    for cycle in range(count):
        acked = max(acked, write_and_kill(folder, chance.choice((0, 1, 3, 30, 100))))
        # Not after each kill, so that a writer also starts on what a killed one left.
        if cycle % 3 == 2 and (problem := check(folder, acked)[1]):
            problems.append(problem)
    assert list(verify_log(folder / "log")) == []
    return problems


def test_nothing_acknowledged_is_lost_by_kill_9(scratch):
    assert cycles(scratch, 24, seed=1) == []
    assert len(list((scratch / "log").glob("*.log"))) > 2
    assert len(list((scratch / "packs").glob("*.pack"))) > 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_nothing_acknowledged_is_lost_by_kill_9_many_times(scratch, seed):
    assert cycles(scratch, 100, seed) == []


def test_the_recipe_catches_a_log_that_answers_before_it_writes(scratch):
    problems = []
    for cycle in range(3):
        folder = scratch / str(cycle)
        acked = write_and_kill(folder, 5, "tests.logs.late_crasher")
        problems.append(check(folder, acked)[1])
    assert any("acknowledged" in problem for problem in problems)
