"""Sizes of a whole brain. With `-m soak -s` they run, for minutes, and print what they measured."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dvid_es.bench.client import Address, Connection
from dvid_es.bench.process import cpu_seconds, memory_bytes
from dvid_es.bench.synthetic import voronoi
from dvid_es.bench.volume import from_cells
from dvid_es.bench.workloads import huge
from dvid_es.codecs import messages_pb2
from tests.servers import ServerProcess

SCALE = float(os.environ.get("DVID_ES_SOAK_SCALE", "1"))  # noqa: TID251 - to try the tests themselves
CLEAVES = int(75_000 * SCALE)
ENTRIES = int(100_000_000 * SCALE)
POSTED = int(10_000_000 * SCALE)
"""Entries of one request."""

BODY_OF = 1000
"""Supervoxels of each body of the mapping."""

pytestmark = pytest.mark.soak


class Client:
    """One connection to a server; an answer that is not 200 fails the test."""

    def __init__(self, server: ServerProcess) -> None:
        self.connection = Connection(Address(server.url))

    def ok(self, method: str, path: str, body: bytes = b"") -> bytes:
        answer = self.connection.send(method, path, body)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.body()[:400]!r}"
        return answer.body()

    def seconds(self, method: str, path: str, repeats: int) -> float:
        """Return the median time of a request."""
        times = []
        for _ in range(repeats):
            answer = self.connection.send(method, path)
            assert answer.status == 200
            times.append(answer.seconds)
        return statistics.median(times)

    def json(self, path: str, body: object = None) -> list[int]:
        found: list[int] = json.loads(self.ok("GET", path, json.dumps(body).encode()))
        return found

    def close(self) -> None:
        self.connection.close()


def cpu(server: ServerProcess) -> float:
    return cpu_seconds(server.process.pid) or 0.0


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def told(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    return told


def test_three_quarters_of_a_huge_body_are_cleaved_off_one_by_one(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    with ServerProcess(tmp_path / "data") as server:
        client = Client(server)
        path = server.new_instance(server.new_repo(), "labelmap", "seg")
        client.ok("POST", f"{path}/indices", b"".join(huge.framed([huge.index_of(huge.BODY)])))
        begun, used = time.perf_counter(), cpu(server)
        for sv in range(1, CLEAVES + 1):
            client.ok("POST", f"{path}/cleave/{huge.BODY}", b"[%d]" % sv)
        seconds, used = time.perf_counter() - begun, cpu(server) - used
        say(
            f"{CLEAVES} cleaves off a body of {huge.HUGE}: {seconds:.0f} s, of which the server"
            f" worked {used:.0f} s ({1000 * used / CLEAVES:.2f} ms each)"
        )
        check_cleaved(client, path)
        client.close()
        server.kill()
    begun = time.perf_counter()
    with ServerProcess(tmp_path / "data") as server:
        say(f"start after kill -9: {time.perf_counter() - begun:.1f} s")
        client = Client(server)
        check_cleaved(client, path)
        client.close()


def check_cleaved(client: Client, path: str) -> None:
    rest = list(range(CLEAVES + 1, huge.HUGE + 1))
    assert sorted(client.json(f"{path}/supervoxels/{huge.BODY}")) == rest
    mapped = client.json(f"{path}/mapping", list(range(1, CLEAVES + 1)))
    assert len(set(mapped)) == CLEAVES
    assert not {0, huge.BODY} & set(mapped)


def supervoxels(start: int, count: int, dense: int) -> np.ndarray:
    """Supervoxels `start` ... of the mapping: the first `dense` without gaps, then every seventh."""
    places = np.arange(start, start + count, dtype=np.uint64)
    return np.where(places < dense, places + 1, dense + 7 * (places - dense) + 7).astype(np.uint64)


def mapping_message(svs: np.ndarray) -> bytes:
    message = messages_pb2.MappingOps()
    for at in range(0, len(svs), BODY_OF):
        part = svs[at : at + BODY_OF].tolist()
        message.mappings.add(mapped=part[0], original=part)
    data: bytes = message.SerializeToString()
    return data


def test_a_mapping_of_a_hundred_million_supervoxels_is_as_quick_as_one_of_a_million(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    volume = from_cells(voronoi(512))
    dense = len(volume.body_of)
    dense += -dense % BODY_OF
    data = tmp_path / "data"
    with ServerProcess(data) as server:
        client = Client(server)
        root = server.new_repo()
        small, large = (
            server.new_instance(root, "labelmap", name, BlockSize="64,64,64", MaxDownresLevel="0")
            for name in ("small", "large")
        )
        for path, entries in ((small, ENTRIES // 100), (large, ENTRIES)):
            client.ok("POST", f"{path}/blocks", volume.stream)
            before, begun, used = size_of(data), time.perf_counter(), cpu(server)
            posting = 0.0
            for start in range(0, entries, POSTED):
                svs = supervoxels(start, min(POSTED, entries - start), dense)
                message = mapping_message(svs)
                since = time.perf_counter()
                client.ok("POST", f"{path}/mappings", message)
                posting += time.perf_counter() - since
            each = (size_of(data) - before) / entries
            say(
                f"{entries} entries: imported in {posting:.1f} s (server {cpu(server) - used:.1f} s;"
                f" with the making of the messages {time.perf_counter() - begun:.1f} s),"
                f" {each:.2f} bytes each"
            )
            assert entries < 1_000_000 or each <= 17
        report_reads(client, server, small, large, say)
        check_mapped(client, large, dense)
        client.close()
        assert server.stop() == 0
    begun = time.perf_counter()
    with ServerProcess(data) as server:
        ready = time.perf_counter() - begun
        client = Client(server)
        client.ok("GET", f"{large}/label/100_100_100")
        say(f"start {ready:.2f} s, first mapped answer {time.perf_counter() - begun:.2f} s")
        report_reads(client, server, small, large, say)
        check_mapped(client, large, dense)
        client.close()


def report_reads(
    client: Client, server: ServerProcess, small: str, large: str, say: Callable[[str], None]
) -> None:
    query = "blocks/512_512_512/0_0_0?compression=blocks"
    times: dict[str, list[float]] = {small: [], large: []}
    for _ in range(5):
        for path, found in times.items():
            found.append(client.seconds("GET", f"{path}/{query}", 3))
    memory = (memory_bytes(server.process.pid) or 0) >> 20
    few, many = (1000 * statistics.median(found) for found in times.values())
    say(f"512 blocks, mapped: {few:.1f} ms with few entries, {many:.1f} with many; {memory} MiB")


def check_mapped(client: Client, path: str, dense: int) -> None:
    chance = np.random.default_rng(1)
    places = np.sort(chance.integers(0, ENTRIES, 2000))
    svs = supervoxels(0, 1, dense)[:0]
    svs = np.concatenate([supervoxels(place, 1, dense) for place in places.tolist()])
    firsts = [supervoxels(place - place % BODY_OF, 1, dense)[0] for place in places.tolist()]
    got = client.json(f"{path}/mapping?nolookup=true", svs.tolist())
    assert got == [int(first) for first in firsts]
    beside = [int(sv) + 1 for sv in svs[places >= dense][:100]]
    assert client.json(f"{path}/mapping?nolookup=true", beside) == beside


def size_of(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
