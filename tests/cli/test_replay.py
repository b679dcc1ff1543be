from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dvid_es.bootstrap import OpenedData
from dvid_es.errors import InvalidRequest
from dvid_es.replay import copying
from dvid_es.settings import Settings
from tests.servers import dvid_es


@pytest.fixture
def made(run_server: Any, tmp_path: Path) -> tuple[Path, str, list[int], int]:
    """A data folder, its repository, sequences of three values, a mutation before the last of them."""
    data = tmp_path / "data"
    with run_server(Settings(data=data)) as live:
        root = live.new_repo()
        kv = live.new_instance(root, "keyvalue", "kv")
        seg = live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
        wrote = [live.ok("POST", f"{kv}/key/a", bytes([n]) * 3000) for n in (1, 2)]
        voxels = live.ok(
            "POST", f"{seg}/raw/0_1_2/16_16_16/0_0_0", (7).to_bytes(8, "little") * 4096
        )
        wrote.append(live.ok("POST", f"{kv}/key/a", b"3"))
        stream = live.engine.streams.get(root)
        sequence = int(voxels.headers["x-dvid-es-seq"])
        assert stream.log.end - 1 == sequence + 1
    return data, root, [int(one.headers["x-dvid-es-seq"]) for one in wrote], 1_000_000_000


def value(run_server: Any, data: Path, root: str) -> bytes:
    with run_server(Settings(data=data)) as live:
        found: bytes = live.ok("GET", f"/api/node/{root}/kv/key/a").body
        return found


def test_a_repository_is_replayed_up_to_a_moment(
    made: tuple[Path, str, list[int], int], run_server: Any, tmp_path: Path
) -> None:
    data, root, wrote, mutation = made
    words = ("replay", "--data", data, "--repo", root, "--json")
    for name, upto, expected, events in (
        ("first", str(wrote[0]), bytes([1]) * 3000, wrote[0] + 1),
        ("voxels", str(mutation), bytes([2]) * 3000, wrote[2]),
        ("all", "", b"3", wrote[2] + 1),
        ("late", "2999-01-01T00:00:00Z", b"3", wrote[2] + 1),
    ):
        into = tmp_path / name
        done = dvid_es(*words, "--into", into, *(["--upto", upto] if upto else []))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"events": events, "data": str(into)}
        assert value(run_server, into, root) == expected
        if name == "voxels":
            assert dvid_es("verify", "--data", into).returncode == 0
    assert value(run_server, data, root) == b"3"


@pytest.mark.parametrize("upto", ["99999", "1999-01-01T00:00:00Z", "1999999999"])
def test_moments_that_are_none_are_refused(
    made: tuple[Path, str, list[int], int], tmp_path: Path, upto: str
) -> None:
    data, root, _, _ = made
    into = tmp_path / "into"
    done = dvid_es("replay", "--data", data, "--repo", root, "--into", into, "--upto", upto)
    assert done.returncode == 4, done.stderr
    assert not into.exists()
    assert dvid_es("replay", "--data", data, "--repo", root, "--into", data).returncode == 4


def test_events_are_copied_into_an_empty_log_only(
    made: tuple[Path, str, list[int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_EVENTS_PER_APPEND", 2)
    data, root, _, _ = made
    opened = OpenedData(Settings(data=data))
    other = OpenedData(Settings(data=tmp_path / "other"))
    try:
        source, target = opened.streams.get(root).log, other.streams.create(root).log
        copying.copy_events(source, target, source.end)
        assert [one[1:] for one in target.read()] == [one[1:] for one in source.read()]
        with pytest.raises(InvalidRequest):
            copying.copy_events(source, target, source.end)
    finally:
        opened.close()
        other.close()
