"""A server that is killed, or stopped, in the middle of an export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from dvid_es.datatypes.labelmap.export import sharding
from dvid_es.settings import Settings
from tests.datatypes.labelmap.voxel_oracle import cells
from tests.servers import ROOT, ServerProcess, environment


def killed_at(data: Path, chunk: int, bug: str) -> str:
    """Let a server die at a chunk of its export; return the path of the instance."""
    script = Path(__file__).with_name("killed_exporter.py")
    done = subprocess.run(
        [sys.executable, script, data, str(chunk), bug],
        capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr[-2000:]
    return done.stdout.strip()


def is_whole(shard: Path) -> bool:
    """Whether the index of a file leads to its end."""
    data = shard.read_bytes()
    index = np.frombuffer(data[:32], "<u8")
    return len(index) == 4 and bool(index.any()) and 32 + int(index.max()) == len(data)


def check(data: Path, run_server: Any, chunk: int, bug: str = "-") -> None:
    node = killed_at(data, chunk, bug)
    folder = data / "exports" / "x"
    shards = {path: path.stat().st_mtime_ns for path in folder.rglob("*.shard")}
    assert shards
    assert all(map(is_whole, shards))
    assert not (folder / "info").exists()
    manifest = json.loads((folder / "export.json").read_bytes())
    assert not manifest["finished"]
    with run_server(Settings(data=data)) as live:
        assert live.ok("GET", "/api/server/jobs").json() == []
        live.ok("POST", f"{node}/merge", json_body=[1, 2])
        begun = live.call("POST", f"{node}/export/precomputed", json_body={"folder": "x"})
        assert begun.json()["about"]["sequence"] == manifest["sequence"]
        ended = live.ok("GET", begun.headers["location"], wait=60).json()
        assert ended["state"] == "done", ended
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert not list(folder.rglob("*.new"))
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
    }
    store = tensorstore.open(spec, read=True, open=True).result()
    voxels = np.asarray(store.read().result())[..., 0].transpose(2, 1, 0)
    assert np.array_equal(voxels, cells((64, 96, 128), 9, 3))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "PRESHIFT_BITS", 2)
    monkeypatch.setattr(sharding, "MINISHARD_BITS", 1)


def test_after_a_kill_files_are_whole_or_not_there_and_the_export_goes_on(
    tmp_path: Path, run_server: Any
) -> None:
    check(tmp_path / "data", run_server, 15)


def test_the_recipe_catches_files_that_have_their_names_before_they_are_whole(
    tmp_path: Path, run_server: Any
) -> None:
    with pytest.raises(AssertionError):
        check(tmp_path / "data", run_server, 15, bug="named-at-once")


def test_a_server_that_is_asked_to_stop_cancels_its_exports(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        node = server.new_instance(server.new_repo(), "labelmap", "seg", BlockSize="32,32,32")
        voxels = np.ones(32**3, "<u8")
        server.ok("POST", f"{node}/raw/0_1_2/32_32_32/0_0_0", voxels.tobytes())
        # Extents so large that to look for blocks in them takes long.
        extents = {"MinPoint": [0, 0, 0], "MaxPoint": [131071] * 3}
        server.ok("POST", f"{node}/extents", json.dumps(extents).encode())
        status, _, body = server.call("POST", f"{node}/export/precomputed", b'{"folder": "x"}')
        assert status == 202, body
        job = json.loads(body)
        while job["done"] == 0:
            job = json.loads(server.ok("GET", f"/api/server/jobs/{job['id']}?wait=0.05"))
        assert job["state"] == "running"
        assert server.stop() == 0
    folder = Path(job["about"]["folder"])
    assert not list(folder.rglob("*.new"))
    assert not json.loads((folder / "export.json").read_bytes())["finished"]
