"""Random edits of a labelmap over versions and branches, beside a model that also knows lineages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap.body_model import BLOCK, Model, mapping_ops, volume_of

SHAPE = (32, 64, 64)
LABELS = 24

Sequences = frozenset[int]
NONE: Sequences = frozenset()


class Lineages:
    """Of each body and supervoxel of one version: the sequences of what made it what it is."""

    def __init__(self) -> None:
        self.bodies: dict[int, Sequences] = {}
        self.gone: dict[int, Sequences] = {}
        self.mapped: dict[int, Sequences] = {}
        self.voxels: dict[int, Sequences] = {}
        self.erased: set[int] = set()

    def changed(self, body: int, sequence: int, *origins: int) -> None:
        parts = [self.bodies.get(origin, NONE) for origin in (body, *origins)]
        self.bodies[body] = NONE.union({sequence}, *parts)

    def ended(self, body: int, sequence: int) -> None:
        self.gone[body] = self.bodies.pop(body) | {sequence}

    def of_body(self, body: int) -> Sequences:
        return self.bodies.get(body) or self.gone.get(body, NONE)

    def of_supervoxel(self, sv: int) -> Sequences:
        return self.mapped.get(sv, NONE) | self.voxels.get(sv, NONE)

    def moved(self, svs: Any, sequence: int) -> None:
        for sv in svs:
            self.mapped[sv] = self.mapped.get(sv, NONE) | {sequence}

    def split(self, sv: int, parts: Any, sequence: int) -> None:
        whole = self.of_supervoxel(sv) | {sequence}
        for part in parts:
            self.mapped[part] = whole
            self.voxels[part] = whole
        self.moved([sv], sequence)
        self.painted(sv, sequence, there=False)

    def painted(self, sv: int, sequence: int, *, there: bool) -> None:
        before = NONE if sv in self.erased else self.voxels.get(sv, NONE)
        self.voxels[sv] = before | {sequence}
        (self.erased.discard if there else self.erased.add)(sv)


class Edit(NamedTuple):
    """One granted request."""

    kind: str
    mutation: int
    """0 if it has none."""

    sequence: int
    version: str


class Walk:
    """A repository with a labelmap, the model of each version, and random edits of open ones."""

    def __init__(self, live: Any, seed: int, *, versions: int = 5, levels: int = 1) -> None:
        self.live, self.versions = live, versions
        self.rng = np.random.default_rng(seed)
        self.root = live.new_repo()
        config = {"BlockSize": "32,32,32", "MaxDownresLevel": str(levels)}
        live.new_instance(self.root, "labelmap", "seg", **config)
        self.models = {self.root: Model(np.zeros(SHAPE, np.uint64))}
        self.lineages = {self.root: Lineages()}
        self.open = [self.root]
        self.ids: set[int] = {9999, 123456}
        self.edits: list[Edit] = []
        self.replay: dict[int, Callable[[Model], None]] = {}
        self.paint(self.root, volume_of(SHAPE, LABELS, seed))

    def node(self, uuid: str) -> str:
        return f"/api/node/{uuid}/seg"

    def post(
        self, kind: str, uuid: str, path: str, data: bytes | None = None, body: Any = None
    ) -> Any:
        """Send an edit; None if it was refused."""
        answer = self.live.call("POST", f"{self.node(uuid)}/{path}", data, json_body=body)
        if answer.status != 200:
            assert answer.status == 400, answer.body
            return None
        sequence = int(answer.headers["x-dvid-es-seq"])
        made = answer.json() if answer.body.startswith(b"{") else {}
        mutation = made.get("MutationID", 0)
        if kind == "renumber":
            records = self.live.ok("GET", f"{self.node(uuid)}/mutations").json()
            mutation = records[-1]["MutationID"]
        self.edits.append(Edit(kind, mutation, sequence, uuid))
        return made

    def do(self, uuid: str, edit: Callable[[Model], None]) -> None:
        """Do to the model what was granted last."""
        edit(self.models[uuid])
        self.replay[self.last] = edit

    @property
    def last(self) -> int:
        return self.edits[-1].sequence

    def pick(self, items: Any, count: int = 1) -> list[int]:
        items = sorted(items)
        return [int(n) for n in self.rng.choice(items, min(count, len(items)), replace=False)]

    def run(self, edits: int, kinds: dict[str, int] | None = None) -> None:
        """Make so many edits, with new versions after each third of them."""
        for part in (1, 2, 3):
            while 3 * len(self.edits) < part * edits:
                self.step(kinds or ALL_KINDS)
            self.version(self.open[0], self.models[self.open[0]])

    def step(self, kinds: dict[str, int]) -> None:
        uuid = self.open[self.rng.integers(len(self.open))]
        weights = np.array(list(kinds.values()), float)
        kind = str(self.rng.choice(list(kinds), p=weights / weights.sum()))
        edit: Callable[[str, Model], None] = getattr(self, kind)
        edit(uuid, self.models[uuid])

    def merge(self, uuid: str, model: Model) -> None:
        chosen = self.pick(model.bodies, int(self.rng.integers(2, 5)))
        made = self.post("merge", uuid, "merge", body=chosen) if len(chosen) > 1 else None
        if made is None:
            return
        lineages, target = self.lineages[uuid], chosen[0]
        lineages.changed(target, self.last, *chosen[1:])
        for body in chosen[1:]:
            lineages.ended(body, self.last)
            lineages.moved(model.bodies[body], self.last)
        self.do(uuid, lambda one: one.merge(target, chosen[1:], made["MutationID"]))

    def cleave(self, uuid: str, model: Model) -> None:
        large = [body for body, svs in model.bodies.items() if len(svs) > 1]
        if not large:
            return
        body = self.pick(large)[0]
        svs = self.pick(model.bodies[body], int(self.rng.integers(1, len(model.bodies[body]))))
        made = self.post("cleave", uuid, f"cleave/{body}", body=svs)
        assert made is not None
        new, lineages = made["CleavedLabel"], self.lineages[uuid]
        lineages.changed(new, self.last, body)
        lineages.changed(body, self.last)
        lineages.moved([*svs, new], self.last)
        self.do(uuid, lambda one: one.cleave(body, svs, new, made["MutationID"]))
        self.ids.add(new)

    def renumber(self, uuid: str, model: Model) -> None:
        old, new = self.pick(model.bodies)[0], int(self.rng.integers(1000, 1040))
        if self.post("renumber", uuid, "renumber", body=[new, old]) is None:
            return
        lineages = self.lineages[uuid]
        if new not in model.mapping and new not in model.counts():
            lineages.moved([new], self.last)
        lineages.bodies.pop(new, None)
        lineages.changed(new, self.last, old)
        lineages.ended(old, self.last)
        lineages.moved(model.bodies[old], self.last)
        self.do(uuid, lambda one: one.renumber(new, old))
        model.last[new] = self.edits[-1].mutation
        self.ids.update((new, old))

    def mappings(self, uuid: str, model: Model) -> None:
        svs = self.pick(model.counts(), 2)
        entries = {sv: int(self.rng.choice([sv, svs[0], 4321])) for sv in svs}
        self.post("mappings", uuid, "mappings", mapping_ops(entries))
        self.lineages[uuid].moved(entries, self.last)
        self.do(uuid, lambda one: one.mapping.update(entries))

    def ball(self, inside: Any, most: int = 30) -> Any:
        centre = self.rng.choice(np.argwhere(inside))
        z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        radius = int(self.rng.integers(2, most))
        return sum((a - c) ** 2 for a, c in zip((z, y, x), centre, strict=True)) <= radius**2

    def split_supervoxel(self, uuid: str, model: Model) -> None:
        sv = self.pick(model.counts())[0]
        mask = (model.volume == sv) & self.ball(model.volume == sv)
        made = self.post("split-supervoxel", uuid, f"split-supervoxel/{sv}", cases.blob_of(mask))
        if made is None:
            return
        lineages = self.lineages[uuid]
        lineages.changed(model.mapped(sv, False), self.last)
        lineages.split(sv, (made["SplitSupervoxel"], made["RemainSupervoxel"]), self.last)
        self.ids.update((made["SplitSupervoxel"], made["RemainSupervoxel"]))
        self.do(uuid, lambda one: cases.split_supervoxel(one, sv, mask, made))

    def split(self, uuid: str, model: Model) -> None:
        body = self.pick(model.bodies)[0]
        own = model.mask(model.bodies[body])
        mask = self.ball(own) & (own | (model.volume == 0))
        made = self.post("split", uuid, f"split/{body}", cases.blob_of(mask))
        if made is None:
            return
        records = self.live.ok("GET", f"{self.node(uuid)}/mutations").json()
        parts = records[-1]["SVSplits"].items()
        splits = {int(sv): (part["Split"], part["Remain"]) for sv, part in parts}
        lineages = self.lineages[uuid]
        lineages.changed(made["label"], self.last, body)
        lineages.changed(body, self.last)
        for sv, pair in splits.items():
            lineages.split(sv, pair, self.last)
        self.ids.update(part for pair in splits.values() for part in pair)
        self.do(uuid, lambda one: cases.split_body(one, body, mask, made, splits))
        self.ids.add(made["label"])

    def write(self, uuid: str, model: Model) -> None:
        volume = model.volume.copy()
        mask = self.ball(volume >= 0, 12)
        label = int(self.rng.choice([0, *self.pick(model.counts(), 2), 503]))
        volume[mask] = label
        self.paint(uuid, volume)

        def again(one: Model) -> None:
            painted = one.volume.copy()
            painted[mask] = label
            one.write(painted)

        self.replay[self.last] = again

    def paint(self, uuid: str, volume: Any) -> None:
        z, y, x = volume.shape
        path = f"raw/0_1_2/{x}_{y}_{z}/0_0_0?mutate=true"
        self.post("write", uuid, path, volume.astype("<u8").tobytes())
        model, lineages = self.models[uuid], self.lineages[uuid]
        before, were, blocks = model.counts(), copy.deepcopy(model.bodies), per_block(model.volume)
        model.write(volume)
        after = model.counts()
        for sv in before.keys() | after.keys():
            if blocks.get(sv) != per_block(volume).get(sv):
                lineages.painted(sv, self.last, there=sv in after)
        for body in were.keys() | model.bodies.keys():
            sizes = [
                {sv: counts[sv] for sv in bodies.get(body, ()) if sv in counts}
                for bodies, counts in ((were, before), (model.bodies, after))
            ]
            if sizes[0] != sizes[1]:
                lineages.changed(body, self.last)
                if body not in model.bodies:
                    lineages.ended(body, self.last)
        self.ids |= after.keys()

    def version(self, uuid: str, model: Model) -> None:
        if len(self.models) >= self.versions:
            return
        self.live.commit(uuid)
        self.open.remove(uuid)
        for branch in range(int(self.rng.integers(1, 3))):
            body = {"branch": f"b{len(self.models)}-{branch}"}
            child = self.live.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()["child"]
            self.models[child] = model.child()
            self.lineages[child] = copy.deepcopy(self.lineages[uuid])
            self.open.append(child)


def per_block(volume: Any) -> dict[int, dict[tuple[int, ...], int]]:
    """Voxels of each supervoxel in each block."""
    found: dict[int, dict[tuple[int, ...], int]] = {}
    for cell in np.ndindex(*(side // BLOCK for side in volume.shape)):
        part = volume[tuple(slice(BLOCK * at, BLOCK * (at + 1)) for at in cell)]
        for sv, count in zip(*np.unique(part, return_counts=True), strict=True):
            if sv:
                found.setdefault(int(sv), {})[cell] = int(count)
    return found


ALL_KINDS = {
    "merge": 6, "cleave": 4, "renumber": 2, "mappings": 1, "split_supervoxel": 3, "split": 2,
    "write": 2,
}  # fmt: skip
