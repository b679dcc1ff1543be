"""Random merges, cleaves, renumberings, mappings and writes over versions, against a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.replay.verify import verify
from tests.datatypes.labelmap.body_model import (
    Model,
    check_version,
    mapping_ops,
    volume_of,
)

SHAPE = (32, 64, 64)


class Walk:
    """A repository with a labelmap, the model of each version, and random steps."""

    def __init__(self, live: Any, seed: int) -> None:
        self.live = live
        self.rng = np.random.default_rng(seed)
        self.root = live.new_repo()
        live.new_instance(self.root, "labelmap", "seg", BlockSize="32,32,32")
        volume = volume_of(SHAPE, 24, seed)
        self.post(self.root, volume)
        self.models = {self.root: Model(volume)}
        self.open = [self.root]
        self.ids: set[int] = {9999, 123456}

    def node(self, uuid: str) -> str:
        return f"/api/node/{uuid}/seg"

    def post(self, uuid: str, volume: Any) -> None:
        z, y, x = volume.shape
        path = f"{self.node(uuid)}/raw/0_1_2/{x}_{y}_{z}/0_0_0?mutate=true"
        self.live.ok("POST", path, volume.astype("<u8").tobytes())

    def pick(self, items: Any, count: int) -> list[int]:
        items = sorted(items)
        return [int(n) for n in self.rng.choice(items, min(count, len(items)), replace=False)]

    def step(self) -> None:
        uuid = self.open[self.rng.integers(len(self.open))]
        kinds = ["merge"] * 5 + ["cleave"] * 4 + ["renumber", "mappings", "write", "version"]
        getattr(self, str(self.rng.choice(kinds)))(uuid, self.models[uuid])

    def merge(self, uuid: str, model: Model) -> None:
        chosen = self.pick(model.bodies, int(self.rng.integers(2, 5)))
        if len(chosen) < 2:
            return
        shared = [sv for body in chosen for sv in model.bodies[body]]
        answer = self.live.call("POST", f"{self.node(uuid)}/merge", json_body=chosen)
        if len(shared) != len(set(shared)):
            assert answer.status == 400, "a supervoxel in two bodies"
            return
        assert answer.status == 200, answer.body
        model.merge(chosen[0], chosen[1:], answer.json()["MutationID"])

    def cleave(self, uuid: str, model: Model) -> None:
        large = [body for body, svs in model.bodies.items() if len(svs) > 1]
        if not large:
            return
        body = self.pick(large, 1)[0]
        svs = self.pick(model.bodies[body], int(self.rng.integers(1, len(model.bodies[body]))))
        answer = self.live.ok("POST", f"{self.node(uuid)}/cleave/{body}", json_body=svs).json()
        new = answer["CleavedLabel"]
        for other in self.models.values():
            known = other.bodies.keys() | other.mapping.keys() | other.counts().keys()
            assert new not in known, "a new label is new in every version"
        model.cleave(body, svs, new, answer["MutationID"])
        self.ids.add(new)

    def renumber(self, uuid: str, model: Model) -> None:
        old = self.pick(model.bodies, 1)[0]
        new = int(self.rng.integers(1000, 1100))
        if new in model.bodies:
            return
        self.live.ok("POST", f"{self.node(uuid)}/renumber", json_body=[new, old])
        model.renumber(new, old)
        records = self.live.ok("GET", f"{self.node(uuid)}/mutations").json()
        model.last[new] = records[-1]["MutationID"]
        self.ids.update((new, old))

    def mappings(self, uuid: str, model: Model) -> None:
        svs = self.pick(model.counts(), 2)
        entries = {sv: int(self.rng.choice([sv, svs[0], 4321])) for sv in svs}
        self.live.ok("POST", f"{self.node(uuid)}/mappings", mapping_ops(entries))
        model.mapping.update(entries)

    def write(self, uuid: str, model: Model) -> None:
        volume = model.volume.copy()
        z, y, x = (int(self.rng.integers(0, side - 8)) for side in SHAPE)
        label = int(self.rng.choice([0, 3, 7, 500 + int(self.rng.integers(4))]))
        volume[z : z + 8, y : y + 8, x : x + 8] = label
        self.post(uuid, volume)
        self.ids |= set(np.unique(volume[volume != model.volume]).tolist()) - {0}
        model.write(volume)

    def version(self, uuid: str, model: Model) -> None:
        if len(self.models) >= 6:
            return
        self.live.commit(uuid)
        self.open.remove(uuid)
        for branch in range(int(self.rng.integers(1, 3))):
            body = {"branch": f"b{len(self.models)}-{branch}"}
            child = self.live.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()
            self.models[child["child"]] = model.child()
            self.open.append(child["child"])

    def check(self) -> None:
        for uuid, model in self.models.items():
            check_version(self.live, self.node(uuid), model, sorted(self.ids))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_read_follows_random_mutations_over_versions(
    live: Any, seed: int, tmp_path: Path
) -> None:
    walk = Walk(live, seed)
    for number in range(60):
        walk.step()
        if number % 20 == 19:
            walk.check()
    check_overlay(walk)
    engine = live.engine
    report = verify(
        engine.store, engine.streams.all(), engine.projector, row_kinds(), tmp_path / "scratch"
    )
    assert report.differences == []


def check_overlay(walk: Walk) -> None:
    """The overlay in memory and the rows say the same, for every version and every moment."""
    engine = walk.live.engine
    stream, repo, _ = engine.resolve(walk.root)
    svs = set(walk.ids) | set(range(1, 30))
    for model in walk.models.values():
        svs |= model.mapping.keys()
    labels = np.array(sorted(svs), np.uint64)
    instance = repo.names["seg"].id
    for at in (None, *range(0, repo.sequence, 3)):
        txn = engine.store.begin_read(repo, stream.packs, at)
        try:
            for version in repo.graph.by_id:
                view = txn.view(version)
                mapped, found = mapping.Mapping.at(txn, instance, view).look_up(labels)
                rows, there = mapping.lookup_rows(txn, instance, view, labels)
                assert np.array_equal(mapped, rows)
                assert np.array_equal(found, there)
        finally:
            engine.store.finish_read(txn)


def test_a_long_mapping_is_a_run_and_later_changes_lie_over_it(live: Any) -> None:
    walk = Walk(live, 4)
    node = walk.node(walk.root)
    model = walk.models[walk.root]
    rng = np.random.default_rng(0)
    svs = rng.choice(10**6, mapruns.MIN_ENTRIES + 100, replace=False) + 10_000
    entries = {int(sv): int(sv) // 7 for sv in svs}
    live.ok("POST", f"{node}/mappings", mapping_ops(entries))
    model.mapping.update(entries)
    few = {int(svs[0]): 77, int(svs[1]): int(svs[1]), 3: 78}
    live.ok("POST", f"{node}/mappings", mapping_ops(few))
    model.mapping.update(few)
    live.commit(walk.root)
    child = live.new_version(walk.root)
    below = model.child()
    again = {int(sv): int(sv) // 9 for sv in svs[: mapruns.MIN_ENTRIES]}
    live.ok("POST", f"{walk.node(child)}/mappings", mapping_ops(again))
    below.mapping.update(again)
    asked = [*map(int, svs[:500]), *map(int, svs[-50:]), 1, 2, 3, 5_000_000]
    for uuid, expected in ((walk.root, model), (child, below)):
        got = live.ok("GET", f"{walk.node(uuid)}/mapping?nolookup=true", json_body=asked).json()
        assert got == [expected.mapped(sv, False) for sv in asked]
        pairs = np.frombuffer(
            live.ok("GET", f"{walk.node(uuid)}/mappings?format=binary").body, "<u8"
        ).reshape(-1, 2)
        assert pairs.tolist() == sorted(
            [sv, body] for sv, body in expected.mapping.items() if sv != body
        )
    walk.ids.update(map(int, svs[:50]))
    check_overlay(walk)
