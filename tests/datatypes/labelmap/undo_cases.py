"""Edits that are undone, and everything that a version shows, to be compared before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvid_es.bootstrap import row_kinds
from dvid_es.codecs import messages_pb2
from dvid_es.replay.verify import verify
from tests.datatypes.labelmap.body_model import (
    Model,
)
from tests.datatypes.labelmap.edit_walk import LABELS, SHAPE, Edit, Walk


def handle(edit: Edit) -> int:
    return edit.mutation or edit.sequence


def change(walk: Walk, what: str, number: int, uuid: str = "", **query: Any) -> Any:
    path = f"{walk.node(uuid or walk.root)}/{what}"
    return walk.live.call("POST", path, json_body={"mutation": number}, **query)


def index_of(data: bytes) -> list[Any]:
    """Label indices without what a mutation leaves of its id and time."""
    message = messages_pb2.LabelIndices()
    message.ParseFromString(data)
    return [
        (one.label, {key: dict(block.counts) for key, block in one.blocks.items()})
        for one in message.indices
    ]


def everything(walk: Walk, uuid: str) -> dict[str, Any]:
    """All that a version answers about voxels, mapping, supervoxel index and bodies."""
    node, live = walk.node(uuid), walk.live
    ids = sorted(walk.ids | set(range(1, LABELS + 2)))
    z, y, x = SHAPE
    found: dict[str, Any] = {}
    for path in (
        f"raw/0_1_2/{x}_{y}_{z}/0_0_0",
        f"raw/0_1_2/{x}_{y}_{z}/0_0_0?supervoxels=true",
        f"raw/0_1_2/{x // 2}_{y // 2}_{z // 2}/0_0_0?supervoxels=true&scale=1",
        f"raw/0_1_2/{x // 4}_{y // 4}_{z // 4}/0_0_0?supervoxels=true&scale=2",
        "mappings", "existing-labels", "listlabels?sizes=true", "sparsevols-coarse/1/100000",
        "supervoxel-splits",
    ):  # fmt: skip
        found[path] = live.ok("GET", f"{node}/{path}").body
    for path in ("mapping", "mapping?nolookup=true", "sizes", "sizes?supervoxels=true"):
        found[path] = live.ok("GET", f"{node}/{path}", json_body=ids).json()
    found["indices"] = index_of(live.ok("GET", f"{node}/indices", json_body=ids).body)
    for body in live.ok("GET", f"{node}/existing-labels").json():
        for path in ("supervoxels", "supervoxel-sizes", "sparsevol"):
            found[f"{path}/{body}"] = live.call("GET", f"{node}/{path}/{body}").body
    return found


def verified(live: Any, scratch: Path) -> bool:
    engine = live.engine
    streams, kinds = engine.streams.all(), row_kinds()
    return verify(engine.store, streams, engine.projector, kinds, scratch).differences == []


def same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert second[name] == value, name


class Line(Walk):
    """Edits in one line of versions: undone in the last of them."""

    def version(self, uuid: str, model: Model) -> None:
        self.live.commit(uuid)
        child = self.live.new_version(uuid)
        self.models[child] = model.child()
        self.lineages[child] = self.lineages.pop(uuid)
        self.open = [child]
