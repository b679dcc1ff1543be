"""A labelmap and an annotation that follows it, small enough to be known by heart."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np


def element(x: int, y: int, z: int, kind: str = "Note", **more: Any) -> dict[str, Any]:
    return {"Pos": [x, y, z], "Kind": kind, "Tags": [], "Prop": {}, "Rels": [], **more}


def slabs(width: int = 8) -> np.ndarray:
    """Labels 1, 2, 3 ... in slabs along x, in 64^3 voxels."""
    return np.broadcast_to(1 + np.arange(64, dtype=np.uint64) // width, (64, 64, 64)).copy()


class Pair(NamedTuple):
    live: Any
    root: str

    def seg(self, uuid: str = "") -> str:
        return f"/api/node/{uuid or self.root}/seg"

    def syn(self, uuid: str = "") -> str:
        return f"/api/node/{uuid or self.root}/syn"

    def paint(self, volume: np.ndarray, uuid: str = "", mutate: bool = True) -> None:
        z, y, x = volume.shape
        path = f"{self.seg(uuid)}/raw/0_1_2/{x}_{y}_{z}/0_0_0?mutate={str(mutate).lower()}"
        self.live.ok("POST", path, volume.astype("<u8").tobytes())

    def post(self, *elements: dict[str, Any], uuid: str = "") -> None:
        self.live.ok("POST", f"{self.syn(uuid)}/elements", json_body=list(elements))

    def blocks(self, blocks: dict[str, Any], uuid: str = "") -> None:
        self.live.ok("POST", f"{self.syn(uuid)}/blocks", json_body=blocks)

    def edit(self, path: str, body: Any, uuid: str = "") -> Any:
        answer = self.live.ok("POST", f"{self.seg(uuid)}/{path}", json.dumps(body).encode())
        return answer.json() if answer.body.startswith(b"{") else None

    def get(self, path: str, uuid: str = "", **query: Any) -> Any:
        return self.live.ok("GET", f"{self.syn(uuid)}/{path}", **query).json()

    def at(self, label: int, uuid: str = "", **query: Any) -> list[list[int]]:
        """Where the elements of a body are."""
        return [one["Pos"] for one in self.get(f"label/{label}", uuid, **query)]


def pair(live: Any, volume: np.ndarray | None = None, typename: str = "labelmap") -> Pair:
    root = live.new_repo()
    config = {} if typename == "labelblk" else {"MaxDownresLevel": "0"}
    live.new_instance(root, typename, "seg", BlockSize="32,32,32", **config)
    live.new_instance(root, "annotation", "syn")
    live.ok("POST", f"/api/node/{root}/syn/sync", json_body={"sync": "seg"})
    made = Pair(live, root)
    if volume is not None:
        made.paint(volume, mutate=False)
    return made
