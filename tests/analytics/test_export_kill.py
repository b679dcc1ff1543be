"""An export is killed at each of its calls to the disk: what is there afterwards is good, and goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dvid_es.analytics.columns import Columns, batches, joined
from dvid_es.analytics.parts import read_manifest
from dvid_es.bootstrap import described
from dvid_es.logs.filelog import FileLog
from dvid_es.logs.reader import LogReader
from tests.analytics.synthetic import ROOT, write_history
from tests.servers import environment

EXPORTS = 9
EVENTS = 63
BEFORE = 7
"""Exports that nobody disturbs; the next one joins their parts."""

Ask = Any


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("killed") / "log"
    made: FileLog = write_history(folder, EVENTS - 21)
    made.close()
    return folder


@pytest.fixture(scope="module")
def truth(log: Path) -> Columns:
    return joined(list(batches(LogReader(log).read(), described().events, bytes)))


@contextmanager
def exporter(log: Path, bug: str = "-") -> Iterator[Ask]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.analytics.exporter", str(log), str(EXPORTS), bug],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline() == "ready\n"

        def ask(folder: Path, first: int, last: int, calls: int = 0) -> str:
            stdin.write(f"{folder}\t{first}\t{last}\t{calls}\n")
            stdin.flush()
            return stdout.readline().strip()

        yield ask
        stdin.close()


def problem(folder: Path, truth: Columns) -> str:
    """Return what is wrong with an export; empty if it is good, as far as it goes."""
    manifest = read_manifest(folder / ROOT, ROOT)
    missing = [name for name in manifest.listed() if not (folder / ROOT / name).exists()]
    if missing:
        return f"missing: {missing}"
    for table, rows in (("events", truth.events), ("labels", truth.labels)):
        names = [name for part in manifest.parts for name in getattr(part, table)]
        found = [
            row for name in names for row in pq.ParquetFile(folder / ROOT / name).read().to_pylist()
        ]
        expected = [row for row in rows.to_pylist() if row["seq"] < manifest.upto]
        if sorted(map(repr, found)) != sorted(map(repr, expected)):
            return f"{table} are not those of the first {manifest.upto} events"
    return ""


def kills(log: Path, truth: Columns, folder: Path, bug: str, step: int) -> tuple[list[str], int]:
    """Kill an export at every `step`-th call, then let it finish; return problems and kills."""
    problems = []
    with exporter(log, bug) as ask:
        assert ask(folder / "before", 1, BEFORE) == "done"
        for calls in range(1, 1000, step):
            here = folder / str(calls)
            shutil.copytree(folder / "before", here)
            ended = ask(here, BEFORE + 1, EXPORTS, calls)
            if ended == "done":
                break
            assert ended == "killed"
            if wrong := problem(here, truth):
                problems.append(f"killed at call {calls}: {wrong}")
                break
            assert ask(here, EXPORTS, EXPORTS) == "done"
            manifest = read_manifest(here / ROOT, ROOT)
            assert manifest.upto == EVENTS
            assert len(manifest.parts) < 3
            if wrong := problem(here, truth):
                problems.append(f"resumed after call {calls}: {wrong}")
    return problems, calls


def test_an_export_that_is_killed_is_good_and_goes_on(
    log: Path, truth: Columns, tmp_path: Path
) -> None:
    problems, calls = kills(log, truth, tmp_path, "-", 6)
    assert problems == []
    assert calls > 50


def test_a_bug_that_removes_files_too_early_is_found(
    log: Path, truth: Columns, tmp_path: Path
) -> None:
    problems, _ = kills(log, truth, tmp_path, "unlinks-first", 3)
    assert problems
    assert "missing" in problems[0]
