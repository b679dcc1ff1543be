"""Merges and cleaves of few supervoxels are decided and folded as those of many are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, few
from dvid_es.datatypes.labelmap.bodies.bodyrow import NO_LABELS, Base, Body, Last
from dvid_es.datatypes.labelmap.bodies.commands import Cleave, Merge
from dvid_es.replay.verify import verify
from tests.datatypes.labelmap.test_bodies_model import Walk

LAST = Last(77, "2026-01-01T00:00:00Z", "ä user", "app")
OTHER = Last(2**60, "then", "u" * 70_000, "")


@pytest.mark.parametrize("seed", [11, 12])
def test_random_mutations_of_few_are_those_of_many(
    live: Any, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: list[str] = []
    merged, cleaved = few.merged, few.cleaved

    def merged_twice(context: Any, instance: int, target: int, bodies: list[int]) -> Any:
        event = merged(context, instance, target, bodies)
        if event is not None:
            assert event == Merge(target, tuple(bodies))._merged(context, instance)
            short.append("merge")
        return event

    def cleaved_twice(context: Any, instance: int, label: int, posted: Any) -> Any:
        event = cleaved(context, instance, label, posted)
        if event is not None:
            assert event == Cleave(label, tuple(posted))._cleaved(context, instance)
            short.append("cleave")
        return event

    monkeypatch.setattr(few, "merged", merged_twice)
    monkeypatch.setattr(few, "cleaved", cleaved_twice)
    walk = Walk(live, seed)
    for _ in range(80):
        walk.step()
    walk.check()
    assert {"merge", "cleave"} <= set(short)
    monkeypatch.setattr(few, "FEW", 0)  # everything is folded as many are
    engine = live.engine
    report = verify(
        engine.store, engine.streams.all(), engine.projector, row_kinds(), tmp_path / "scratch"
    )
    assert report.differences == []


def test_refusals_are_the_same(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(live, 13)
    node = walk.node(walk.root)
    live.ok("POST", f"{node}/merge", json_body=[1, 2, 3])
    asked = [
        ("merge", [1, 0]),
        ("merge", [0, 1]),
        ("merge", [1, 1]),
        ("merge", [1, 2]),
        ("merge", [1, 4, 5, 99_999]),
        ("merge", [99_999, 1]),
        ("cleave/1", [1, 2, 3]),
        ("cleave/1", [1, 2, 3, 3, 1]),
        ("cleave/1", [4]),
        ("cleave/1", [1, 4]),
        ("cleave/1", []),
        ("cleave/99999", [1]),
        ("cleave/4", [4]),
    ]

    def answers() -> list[tuple[int, bytes]]:
        found = [live.call("POST", f"{node}/{path}", json_body=body) for path, body in asked]
        return [(answer.status, answer.body) for answer in found]

    first = answers()
    assert {status for status, _ in first} == {400}
    monkeypatch.setattr(few, "FEW", 0)
    assert answers() == first


def body_of(chance: np.random.Generator, size: int, last: Last, flags: bool, bases: int) -> Body:
    some = np.unique(chance.integers(1, 2**63, size, np.uint64))
    parts = tuple(Base(n + 1, 5, 0, 300, some[:n].copy()) for n in range(bases))
    return Body(1000 + size, len(some) + 300 * bases, last, parts, some, flags)


@pytest.mark.parametrize("last", [Last(), LAST, OTHER])
@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("bases", [0, 1, 3])
@pytest.mark.parametrize("size", [0, 1, 2, 9, 189, 190, 191, 192])
def test_rows_that_gain_and_lose_few_are_those_of_bodies_that_do(
    size: int, bases: int, flags: bool, last: Last
) -> None:
    chance = np.random.default_rng(size)
    body = body_of(chance, size, last, flags, bases)
    new = np.setdiff1d(np.unique(chance.integers(1, 2**63, 3, np.uint64)), body.added)
    row = bodyrow.grown(bodyrow.encode(body), new.tolist(), 7, LAST)
    if size + len(new) > 192:
        assert row is None
    else:
        added = np.union1d(body.added, new)
        grown = body._replace(
            voxels=body.voxels + 7, members=body.members + len(new), last=LAST, added=added
        )
        assert row == bodyrow.encode(grown)
    gone = chance.permutation(body.added)[: chance.integers(1, 5)]
    row = bodyrow.shrunk(bodyrow.encode(body), set(gone.tolist()), 3, LAST)
    if bases or flags:
        assert row is None
    else:
        kept = np.setdiff1d(body.added, gone)
        assert row == bodyrow.encode(Body(3, len(kept), LAST, (), kept))


def test_a_row_made_of_few_is_that_of_their_body() -> None:
    body = Body(9, 2, LAST, (), np.array([4, 2**64 - 1], np.uint64))
    assert bodyrow.encode_few([4, 2**64 - 1], 9, LAST) == bodyrow.encode(body)
    assert bodyrow.pack_labels([]) == NO_LABELS.tobytes()
    assert bodyrow.unpack_labels(body.added.tobytes()) == (4, 2**64 - 1)


def test_small_mutations_of_a_large_body_are_those_of_many(
    live: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its set has bases: it is made of more supervoxels than its row lists."""
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    labels = np.arange(1, 513, dtype=np.uint64).reshape(8, 8, 8)
    volume = labels.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    path = f"/api/node/{root}/seg"
    live.ok("POST", f"{path}/raw/0_1_2/32_32_32/0_0_0", volume.astype("<u8").tobytes())
    live.ok("POST", f"{path}/merge", json_body=list(range(1, 301)))
    for body in range(301, 311):
        live.ok("POST", f"{path}/merge", json_body=[1, body])
    assert live.call("POST", f"{path}/merge", json_body=[400, 5]).status == 400
    new = live.ok("POST", f"{path}/cleave/1", json_body=[7, 305]).json()["CleavedLabel"]
    live.ok("POST", f"{path}/merge", json_body=[400, new, 1])
    assert live.call("POST", f"{path}/cleave/400", json_body=[311]).status == 400
    live.ok("POST", f"{path}/cleave/400", json_body=[8, 308, 400])
    got = live.ok("GET", f"{path}/supervoxels/400").json()
    assert sorted(got) == [n for n in range(1, 311) if n not in (8, 308)]
    engine = live.engine
    stream, repo, _ = engine.resolve(root)
    with engine.store.read(root, stream.packs) as txn:
        body = bodysets.read(txn, repo.names["seg"].id, 400, txn.view(1))
    assert body is not None
    assert body.bases
    monkeypatch.setattr(few, "FEW", 0)
    report = verify(
        engine.store, engine.streams.all(), engine.projector, row_kinds(), tmp_path / "scratch"
    )
    assert report.differences == []
