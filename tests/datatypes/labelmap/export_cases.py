"""Exports as clients begin them, and what other libraries read of their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from tests.datatypes.labelmap.voxel_oracle import Segmentation


def refused(seg: Segmentation, kind: str, body: Any) -> str:
    live = seg.live
    answer = live.call("POST", f"{seg.node}/export/{kind}", json_body=body)
    assert answer.status == 400, answer.text
    assert live.ok("GET", "/api/server/jobs").json() == []
    return str(answer.text)


def begin(live: Any, seg: Segmentation, kind: str, **body: Any) -> str:
    answer = live.call("POST", f"{seg.node}/export/{kind}", json_body=body)
    assert answer.status == 202, answer.text
    return str(answer.headers["location"])


def ended(live: Any, path: str) -> Any:
    job = live.ok("GET", path, wait=60).json()
    assert job["state"] in ("done", "failed", "cancelled")
    return job


def finished(live: Any, path: str) -> Path:
    job = ended(live, path)
    assert job["state"] == "done", job
    assert job["done"] == job["total"] > 0
    folder = Path(job["result"]["folder"])
    manifest = json.loads((folder / "export.json").read_bytes())
    assert manifest["finished"]
    assert not list(folder.rglob("*.new"))
    return folder


def opened(folder: Path, scale: int) -> Any:
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "scale_index": scale,
    }
    return tensorstore.open(spec, read=True, open=True).result()


def everything(store: Any) -> np.ndarray:
    return np.asarray(store.read().result())[..., 0].transpose(2, 1, 0)


def check_volume(folder: Path, seg: Segmentation, scales: int = 3, **query: str) -> None:
    for scale in range(scales):
        store = opened(folder, scale)
        got = everything(store)
        expected = seg.read(got.shape, tuple(store.domain.origin[:3]), scale=scale, **query)
        assert np.array_equal(got, expected)
