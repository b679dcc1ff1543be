from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.servers import dvid_es

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "body_sizes.py"


def table(live: Any, root: str, path: Path) -> dict[int, int]:
    command = [sys.executable, str(SCRIPT), root, "seg", str(path), "--server", live.base, "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return {int(label): size for label, size in json.loads(path.read_text())["sizes"].items()}


def true_sizes(live: Any, root: str) -> dict[int, int]:
    labels = live.ok("GET", f"/api/node/{root}/seg/existing-labels").json()
    sizes = live.ok("GET", f"/api/node/{root}/seg/sizes", json_body=labels).json()
    return dict(zip(labels, sizes, strict=True))


def test_a_follower_keeps_its_table_of_sizes_true(live: Any, tmp_path: Path) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    seg, path = f"/api/node/{root}/seg", tmp_path / "sizes.json"
    volume = oracle.cells((64, 64, 64), 30, 7)
    live.ok("POST", f"{seg}/raw/0_1_2/64_64_64/0_0_0", volume.tobytes())
    assert table(live, root, path) == true_sizes(live, root)
    rng = np.random.default_rng(3)
    for number in range(12):
        bodies = [int(one) for one in rng.choice(list(true_sizes(live, root)), 2, replace=False)]
        made = live.ok("POST", f"{seg}/merge", json_body=bodies).json()
        if number % 3 == 0:
            live.ok("POST", f"{seg}/cleave/{bodies[0]}", json_body=[bodies[1]])
        elif number % 3 == 1:
            live.ok("POST", f"{seg}/undo", json_body={"mutation": made["MutationID"]})
    live.ok("POST", f"{seg}/raw/0_1_2/32_32_32/0_0_0?mutate=true", volume[:32, :32, 32:].tobytes())
    assert table(live, root, path) == true_sizes(live, root)


def test_subscribe_prints_events_and_moves_its_cursor(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "keyvalue", "kv")
    for value in (b"1", b"2"):
        live.ok("POST", f"/api/node/{root}/kv/key/a?u=ann", value)
    words = ("subscribe", root, "--server", live.base, "--cursor", "mine")
    done = dvid_es(*words, "--json", "--type", "keyvalue.put")
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["type"] for message in messages] == ["keyvalue.put"] * 2
    last = messages[-1]["sequence"]
    assert live.ok("GET", f"/api/repo/{root}/cursors").json() == {"mine": last}
    live.ok("POST", f"/api/node/{root}/kv/key/a?u=bob", b"3")
    done = dvid_es(*words)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(last + 1)]
    assert "keyvalue.put" in done.stdout
    assert "bob" in done.stdout
    assert dvid_es("subscribe", root, "--server", live.base, "--from", "x").returncode == 4
