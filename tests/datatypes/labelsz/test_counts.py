"""labelsz: counts of elements by label and kind beside voxels, bodies and elements in plain Python."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.annotation import looked_into
from dvid_es.datatypes.labelsz import endpoints, reads
from dvid_es.datatypes.labelsz.reads import INDEX_TYPES
from dvid_es.settings import Settings
from tests.conftest import Live
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.labelmap.split_cases import blob_of

SIDE = 32
KINDS = ("PostSyn", "PreSyn", "Gap", "Note", "Unknown")
LABELS = 16
Point = tuple[int, int, int]


def slabs() -> np.ndarray:
    """Labels 1 to 16, each four voxels thick along X."""
    return np.broadcast_to(
        1 + np.arange(2 * SIDE, dtype=np.uint64) // 4, (SIDE, SIDE, 2 * SIDE)
    ).copy()


def made(live: Live, sync: bool = True, **config: str) -> str:
    """Root of labels "seg", an annotation "syn" that follows them, and counts "sz" of it."""
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="0")
    live.new_instance(root, "annotation", "syn")
    live.new_instance(root, "labelsz", "sz", **config)
    live.ok("POST", f"/api/node/{root}/syn/sync", json_body={"sync": "seg"})
    if sync:
        live.ok("POST", f"/api/node/{root}/sz/sync", json_body={"sync": "syn"})
    write(live, root, slabs())
    return root


def write(live: Live, uuid: str, volume: np.ndarray) -> int:
    path = f"/api/node/{uuid}/seg/raw/0_1_2/64_32_32/0_0_0?mutate=true"
    return int(live.ok("POST", path, volume.tobytes()).headers["x-dvid-es-seq"])


def post(live: Live, uuid: str, elements: dict[Point, str]) -> int:
    body = [{"Pos": list(point), "Kind": kind} for point, kind in elements.items()]
    answer = live.ok("POST", f"/api/node/{uuid}/syn/elements", json_body=body)
    return int(answer.headers["x-dvid-es-seq"])


def some_points(dice: random.Random, most: int) -> dict[Point, str]:
    """Elements at random places, some of them without a label."""
    return {
        (dice.randrange(-2, 66), dice.randrange(SIDE), dice.randrange(SIDE)): dice.choice(KINDS)
        for _ in range(dice.randrange(1, most))
    }


class State:
    """What one version holds."""

    def __init__(
        self, volume: np.ndarray, bodies: dict[int, int], elements: dict[Point, str]
    ) -> None:
        self.volume = volume
        self.bodies = bodies
        """By supervoxels; those that are not in it are bodies themselves."""
        self.elements = elements

    def copy(self) -> State:
        return State(self.volume.copy(), dict(self.bodies), dict(self.elements))

    def supervoxel(self, point: Point) -> int:
        x, y, z = point
        inside = 0 <= x < 2 * SIDE and 0 <= y < SIDE and 0 <= z < SIDE
        return int(self.volume[z, y, x]) if inside else 0

    def members(self, body: int) -> list[int]:
        svs = np.unique(self.volume).tolist()
        return [sv for sv in svs if sv and self.bodies.get(sv, sv) == body]

    def counts(self, index_type: str) -> Counter[int]:
        found: Counter[int] = Counter()
        for point, kind in self.elements.items():
            sv = self.supervoxel(point)
            if sv and kind in INDEX_TYPES[index_type]:
                found[self.bodies.get(sv, sv)] += 1
        return found


def check(live: Live, uuid: str, state: State, dice: random.Random, at: int | None = None) -> None:
    """All requests for counts show a state."""
    node, more = f"/api/node/{uuid}/sz", {} if at is None else {"at": at}
    for index_type in INDEX_TYPES:
        counts = state.counts(index_type)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        expected = [{"Label": label, "Size": size} for label, size in ranked]
        many = dice.randrange(0, 20)
        got = live.ok("GET", f"{node}/top/{many}/{index_type}", **more).json()
        assert got == expected[:many], index_type
        least, offset, n = dice.randrange(0, 5), dice.randrange(0, 4), dice.choice((1, 3, 100))
        query = {"offset": offset, "n": n, **more}
        got = live.ok("GET", f"{node}/threshold/{least}/{index_type}", **query).json()
        assert got == [one for one in expected if one["Size"] >= least][offset : offset + n]
        labels = [*range(LABELS + 3), *counts, 999]
        body = f"[{','.join(map(str, labels))}]".encode()
        got = live.ok("GET", f"{node}/counts/{index_type}", body, **more).json()
        assert got == [{"Label": label, index_type: counts[label]} for label in labels]
    label = dice.randrange(1, LABELS)
    got = live.ok("GET", f"{node}/count/{label}/AllSyn", **more).json()
    assert got == {"Label": label, "AllSyn": state.counts("AllSyn")[label]}


def check_ranking(live: Live, uuid: str, state: State) -> None:
    for index_type in INDEX_TYPES:
        counts = state.counts(index_type)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        expected = [{"Label": label, "Size": size} for label, size in ranked]
        got = live.ok("GET", f"/api/node/{uuid}/sz/top/100/{index_type}").json()
        assert got == expected, index_type


class Walk:
    """Random elements, edits of bodies, written voxels and versions, beside what they come to."""

    def __init__(self, live: Live, seed: int) -> None:
        self.live = live
        self.dice = random.Random(seed)
        self.root = made(live)
        self.states = {self.root: State(slabs(), {}, {})}
        self.open = [self.root]
        self.past: list[tuple[int, str, State]] = []

    def step(self) -> None:
        kinds = [self.add] * 4 + [self.delete, self.move, self.merge, self.cleave, self.paint]
        uuid = self.dice.choice(self.open)
        sequence = self.dice.choice([*kinds, self.version])(uuid, self.states[uuid])
        if sequence and self.dice.random() < 0.3:
            self.past.append((sequence, uuid, self.states[uuid].copy()))
        if self.dice.random() < 0.4:
            # Rankings begin with those made before, of this version or of an ancestor.
            uuid = self.dice.choice(list(self.states))
            check_ranking(self.live, uuid, self.states[uuid])

    def seq(self, answer: Any) -> int:
        return int(answer.headers["x-dvid-es-seq"])

    def add(self, uuid: str, state: State) -> int:
        # Also at places that are taken: kinds change then.
        elements = some_points(self.dice, 30)
        taken = self.dice.sample(sorted(state.elements), min(3, len(state.elements)))
        elements |= {point: self.dice.choice(KINDS) for point in taken}
        state.elements |= elements
        return post(self.live, uuid, elements)

    def delete(self, uuid: str, state: State) -> int:
        if not state.elements:
            return 0
        point = self.dice.choice(sorted(state.elements))
        del state.elements[point]
        path = f"/api/node/{uuid}/syn/element/{'_'.join(map(str, point))}"
        return self.seq(self.live.ok("DELETE", path))

    def move(self, uuid: str, state: State) -> int:
        if not state.elements:
            return 0
        source = self.dice.choice(sorted(state.elements))
        target = (
            self.dice.randrange(2 * SIDE),
            self.dice.randrange(SIDE),
            self.dice.randrange(SIDE),
        )
        if target in state.elements:
            return 0
        state.elements[target] = state.elements.pop(source)
        names = ("_".join(map(str, point)) for point in (source, target))
        return self.seq(self.live.ok("POST", f"/api/node/{uuid}/syn/move/{'/'.join(names)}"))

    def merge(self, uuid: str, state: State) -> int:
        there = sorted({state.bodies.get(sv, sv) for sv in np.unique(state.volume).tolist()} - {0})
        if len(there) < 3:
            return 0
        target, *others = self.dice.sample(there, self.dice.choice((2, 3)))
        moved = [sv for body in others for sv in state.members(body)]
        state.bodies |= dict.fromkeys(moved, target)
        path = f"/api/node/{uuid}/seg/merge"
        return self.seq(self.live.ok("POST", path, json_body=[target, *others]))

    def cleave(self, uuid: str, state: State) -> int:
        several = [body for body in range(LABELS + 1) if len(state.members(body)) > 1]
        if not several:
            return 0
        body = self.dice.choice(several)
        svs = state.members(body)
        chosen = self.dice.sample(svs, self.dice.randrange(1, len(svs)))
        answer = self.live.ok("POST", f"/api/node/{uuid}/seg/cleave/{body}", json_body=chosen)
        state.bodies |= dict.fromkeys(chosen, answer.json()["CleavedLabel"])
        return self.seq(answer)

    def paint(self, uuid: str, state: State) -> int:
        # Labels that are supervoxels now, or none.
        label = self.dice.choice([0, *np.unique(state.volume).tolist()])
        start = self.dice.randrange(2 * SIDE)
        state.volume[:, self.dice.randrange(SIDE) :, start : start + 9] = label
        return write(self.live, uuid, state.volume)

    def version(self, uuid: str, state: State) -> int:
        if len(self.states) < 5:
            self.live.commit(uuid)
            self.open.remove(uuid)
            for _ in range(2):
                body = {"branch": f"b{len(self.states)}"}
                path = f"/api/node/{uuid}/branch"
                child = self.live.ok("POST", path, json_body=body).json()["child"]
                self.states[child] = state.copy()
                self.open.append(child)
        return 0


@pytest.mark.parametrize(("seed", "page"), [(1, reads.PAGE_ENTRIES), (2, 100), (3, 7)])
def test_counts_follow_elements_bodies_and_voxels_over_versions_and_moments(
    live: Live, seed: int, page: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PAGE_ENTRIES", page)
    monkeypatch.setattr(looked_into, "PAGE_ENTRIES", page)
    monkeypatch.setattr(looked_into, "NEIGHBOURS", page)
    walk = Walk(live, seed)
    for _ in range(60):
        walk.step()
    assert len(walk.states) > 2
    for uuid, state in walk.states.items():
        check(live, uuid, state, walk.dice)
    for at, uuid, state in walk.dice.sample(walk.past, min(5, len(walk.past))):
        check(live, uuid, state, walk.dice, at)
    check_rebuilt(live, tmp_path)


def test_answers_are_written_as_dvid_writes_them(live: Live) -> None:
    root = made(live)
    post(live, root, {(1, 1, 1): "PreSyn", (2, 1, 1): "PreSyn", (5, 1, 1): "PreSyn"})
    node = f"/api/node/{root}/sz"
    for path, body, text in (
        ("count/1/PreSyn", None, '{"Label":1,"PreSyn":2}'),
        ("counts/PreSyn", b"[2,1,9,2]", ('[{"Label":2,"PreSyn":1},{"Label":1,"PreSyn":2},'
         '{"Label":9,"PreSyn":0},{"Label":2,"PreSyn":1}]')),
        ("counts/Note", b"[]", "[]"), ("counts/Note", b"null", "[]"),
        ("top/5/AllSyn", None, '[{"Label":1,"Size":2},{"Label":2,"Size":1}]'),
        ("top/0/AllSyn", None, "[]"),
        ("threshold/2/PreSyn", None, '[{"Label":1,"Size":2}]'),
        ("threshold/0/PreSyn?offset=-1&n=2", None, '[{"Label":1,"Size":2}]'),
        ("threshold/0/Voxels", None, "[]"),
    ):  # fmt: skip
        answer = live.ok("GET", f"{node}/{path}", body)
        assert answer.text == text, path
        assert answer.headers["content-type"] == "application/json"
    shown = live.ok("GET", f"{node}/info").json()
    assert shown["Extended"] == {"StaticROI": ""}
    assert shown["Base"]["Syncs"] == ["syn"]


def test_what_was_there_before_the_sync_counts_from_a_reload_on(live: Live, tmp_path: Path) -> None:
    root = made(live, sync=False)
    node = f"/api/node/{root}"
    assert live.ok("POST", f"{node}/sz/reload").body == b""
    old, new = {(1, 1, 1): "PreSyn", (1, 2, 1): "Gap"}, {(2, 1, 1): "PreSyn"}
    state = State(slabs(), {}, {})
    post(live, root, old)
    dice = random.Random(1)
    check(live, root, state, dice)
    live.ok("POST", f"{node}/sz/sync", json_body={"sync": "syn"})
    check(live, root, state, dice)
    post(live, root, new)
    state.elements |= new
    check(live, root, state, dice)
    live.commit(root)
    child = live.new_version(root)
    before = live.ok("POST", f"/api/node/{child}/sz/reload")
    assert before.body == b""
    whole = State(slabs(), {}, {**old, **new})
    check(live, child, whole, dice)
    check(live, root, state, dice)
    # Without a sync, counts stay as they are.
    live.ok("POST", f"/api/node/{child}/sz/sync?replace=true", json_body={"sync": ""})
    post(live, child, {(3, 3, 3): "PreSyn"})
    live.ok("POST", f"/api/node/{child}/seg/merge", json_body=[2, 1])
    check(live, child, whole, dice)
    # A sync with another annotation counts that one.
    live.new_instance(child, "annotation", "other")
    live.ok("POST", f"/api/node/{child}/other/sync", json_body={"sync": "seg"})
    live.ok("POST", f"/api/node/{child}/sz/sync", json_body={"sync": "other"})
    body = [{"Pos": [9, 9, 9], "Kind": "Note"}]
    live.ok("POST", f"/api/node/{child}/other/elements", json_body=body)
    check(live, child, State(slabs(), {1: 2}, {(9, 9, 9): "Note"}), dice)
    check_rebuilt(live, tmp_path)


def test_only_elements_in_the_region_count_as_it_was_at_the_sync(live: Live) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="0")
    live.new_instance(root, "annotation", "syn")
    live.new_instance(root, "roi", "half", BlockSize="32,32,32")
    spec = f"half,{root[:9]}"
    for name, roi in (("sz", spec), ("nowhere", f"half,{'f' * 32}"), ("none", f"kv,{root}")):
        live.new_instance(root, "labelsz", name, ROI=roi)
    node = f"/api/node/{root}"
    live.ok("POST", f"{node}/half/roi", json_body=[[0, 0, 0, 0]])
    live.ok("POST", f"{node}/syn/sync", json_body={"sync": "seg"})
    for name in ("sz", "nowhere", "none"):
        live.ok("POST", f"{node}/{name}/sync", json_body={"sync": "syn"})
    write(live, root, slabs())
    live.ok("POST", f"{node}/half/roi", json_body=[[0, 0, 0, 9]])
    inside, outside = {(31, 5, 5): "Gap"}, {(32, 5, 5): "Gap"}
    post(live, root, inside | outside)
    dice = random.Random(2)
    check(live, root, State(slabs(), {}, inside), dice)
    assert live.ok("GET", f"{node}/sz/info").json()["Extended"] == {"StaticROI": spec}
    for name in ("nowhere", "none"):
        assert live.ok("GET", f"{node}/{name}/top/9/AllSyn").json() == []
    live.ok("POST", f"{node}/sz/reload")
    check(live, root, State(slabs(), {}, inside | outside), dice)


@pytest.mark.parametrize("ranked", [False, True])
def test_a_version_merge_counts_what_both_parents_have(live: Live, ranked: bool) -> None:
    root = made(live)
    common = {(1, 1, 1): "PreSyn"}
    post(live, root, common)
    live.commit(root)
    parents, elements = [], dict(common)
    for name, more in (
        ("a", {(2, 1, 1): "PreSyn"}),
        ("b", {(3, 1, 1): "PreSyn", (9, 9, 9): "Note"}),
    ):
        body = {"branch": name}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        post(live, uuid, more)
        elements |= more
        live.commit(uuid)
        parents.append(uuid)
    if ranked:
        check_ranking(live, parents[0], State(slabs(), {}, {**common, (2, 1, 1): "PreSyn"}))
    body = {"mergeType": "conflict-free", "parents": parents, "note": "both"}
    both = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    # Two elements on one label were counted in different branches: a counter would have lost one.
    check(live, both, State(slabs(), {}, elements), random.Random(3))


BAD = [
    "count", "count/1", "count/1/presyn", "count/1/Unknown", "count/x/PreSyn", "count/-1/PreSyn",
    "count/18446744073709551616/PreSyn", "counts", "counts/presyn", "top/3", "top/-1/PreSyn",
    "top/x/PreSyn", "top/4294967296/PreSyn", "top/3/Synapse", "threshold/1", "threshold/-1/PreSyn",
    "threshold/1/x", "threshold/1/PreSyn?n=-1", "threshold/1/PreSyn?n=x", "threshold/1/PreSyn?n=1.5",
    "threshold/1/PreSyn?offset=x", "threshold/1/PreSyn?offset=99999999999999999999", "tags", "sync",
    "reload", "nothing",
]  # fmt: skip


def test_what_is_refused_changes_nothing(live: Live) -> None:
    root = made(live)
    post(live, root, {(1, 1, 1): "PreSyn"})
    node = f"/api/node/{root}/sz"
    before = live.ok("GET", f"/api/repo/{root}/info").headers["x-dvid-es-seq"]
    for path in BAD:
        answer = live.call("GET", f"{node}/{path}")
        assert answer.status == 400, path
        assert answer.text.strip(), path
    for body in (b"", b'{"a":1}', b'["1"]', b"[-1]", b"[1.5]", b"[18446744073709551616]", b"[1"):
        assert live.call("GET", f"{node}/counts/PreSyn", body).status == 400, body
    for path in ("count/1/PreSyn", "counts/PreSyn", "top/1/PreSyn", "threshold/1/PreSyn"):
        for method in ("POST", "PUT", "DELETE"):
            assert live.call(method, f"{node}/{path}", b"[1]").status == 400, (method, path)
    for method, path, body in (
        ("DELETE", "reload", None), ("POST", "sync", b'{"sync": "nobody"}'), ("POST", "sync", b"x"),
        ("POST", "sync", b'{"sync": "sz"}'), ("POST", "tags", b'{"a": "b"}'),
    ):  # fmt: skip
        assert live.call(method, f"{node}/{path}", body).status == 400, (method, path)
    for roi in ("half", "a,b,c", ""):
        body = {"typename": "labelsz", "dataname": "bad", "ROI": roi}
        assert live.call("POST", f"/api/repo/{root}/instance", json_body=body).status == 400, roi
    assert live.ok("GET", f"/api/repo/{root}/info").headers["x-dvid-es-seq"] == before
    live.commit(root)
    assert live.call("POST", f"{node}/reload").status == 400
    assert live.ok("GET", f"{node}/count/1/PreSyn").json() == {"Label": 1, "PreSyn": 1}


def test_pages_of_lists_and_many_labels_give_the_same_counts(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PAGE_ENTRIES", 7)
    monkeypatch.setattr(reads, "LABELS_AT_ONCE", 3)
    monkeypatch.setattr(endpoints, "LABELS_AT_ONCE", 5)
    monkeypatch.setattr(endpoints, "FEW_LABELS", 5)
    dice = random.Random(4)
    root = made(live)
    state = State(slabs(), {}, {})
    for _ in range(3):
        more = some_points(dice, 60)
        post(live, root, more)
        state.elements |= more
        check(live, root, state, dice)
    # More rows of one entry than a page has.
    for number in range(20):
        again = {(9, 9, 9): KINDS[number % len(KINDS)]}
        post(live, root, again)
        state.elements |= again
    endpoints._KEPT.clear()
    check(live, root, state, dice)


class Made:
    """How rankings were made: how often from all lists, and of how many supervoxels otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.whole = 0
        self.parts: list[int] = []

        def rank(*args: Any) -> Any:
            self.whole += 1
            return reads.rank(*args)

        def of_supervoxels(txn: Any, what: Any, svs: Any) -> Any:
            self.parts.append(len(svs))
            return part(txn, what, svs)

        part = reads._of_supervoxels
        monkeypatch.setattr(endpoints, "rank", rank)
        monkeypatch.setattr(reads, "_of_supervoxels", of_supervoxels)


def test_a_ranking_follows_what_has_changed_since_the_last_one(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of = Made(monkeypatch)
    root = made(live)
    elements = {(x, 1, 1): "PreSyn" for x in range(64)}
    post(live, root, elements)
    state = State(slabs(), {}, elements)
    check_ranking(live, root, state)
    assert (made_of.whole, made_of.parts) == (1, [])
    # Neither other requests nor other data cost anything.
    live.ok("POST", f"/api/node/{root}/note", json_body={"note": "something else"})
    check_ranking(live, root, state)
    assert (made_of.whole, made_of.parts) == (1, [])
    state.elements[(3, 2, 2)] = "Gap"
    post(live, root, {(3, 2, 2): "Gap"})
    check_ranking(live, root, state)
    assert (made_of.whole, made_of.parts) == (1, [1, 1])
    live.ok("POST", f"/api/node/{root}/seg/merge", json_body=[5, 6, 7])
    state.bodies |= {6: 5, 7: 5}
    check_ranking(live, root, state)
    assert (made_of.whole, made_of.parts[2:]) == (1, [2, 0])
    # A child begins with what its parent has.
    live.commit(root)
    child, other = (
        live.ok("POST", f"/api/node/{root}/branch", json_body={"branch": name}).json()["child"]
        for name in ("a", "b")
    )
    post(live, child, {(3, 2, 2): "PreSyn"})
    changed = State(slabs(), state.bodies, state.elements | {(3, 2, 2): "PreSyn"})
    check_ranking(live, child, changed)
    check_ranking(live, other, state)
    check_ranking(live, root, state)
    assert (made_of.whole, made_of.parts[4:]) == (1, [1, 1])
    # A reload may change everything.
    live.ok("POST", f"/api/node/{child}/sz/reload")
    check_ranking(live, child, changed)
    assert made_of.whole == 2


def test_a_ranking_follows_splits_and_what_is_undone(live: Live) -> None:
    root = made(live)
    node = f"/api/node/{root}/seg"
    elements = {(x, x % 32, 7): "PostSyn" for x in range(64)}
    post(live, root, elements)
    state = State(slabs(), {}, elements)
    check_ranking(live, root, state)
    merged = live.ok("POST", f"{node}/merge", json_body=[3, 2, 1]).json()
    state.bodies |= {1: 3, 2: 3}
    check_ranking(live, root, state)
    mask = (slabs() == 1) & (np.arange(SIDE)[:, None] < 2)  # y of 0 and 1
    answer = live.ok("POST", f"{node}/split-supervoxel/1", blob_of(mask)).json()
    split, remain = answer["SplitSupervoxel"], answer["RemainSupervoxel"]
    state.volume[state.volume == 1] = remain
    state.volume[mask] = split
    state.bodies |= {split: 3, remain: 3}
    check_ranking(live, root, state)
    live.ok("POST", f"{node}/cleave/3", json_body=[split])
    live.ok("POST", f"{node}/undo", json_body={"mutation": merged["MutationID"] + 2})
    check_ranking(live, root, state)
    live.ok("POST", f"{node}/undo", json_body={"mutation": merged["MutationID"] + 1})
    live.ok("POST", f"{node}/undo", json_body={"mutation": merged["MutationID"]})
    check_ranking(live, root, State(slabs(), {}, elements))


@pytest.mark.parametrize("typename", ["labelarray", "labelblk"])
def test_labels_without_supervoxels_are_followed_as_well(live: Live, typename: str) -> None:
    root = live.new_repo()
    live.new_instance(root, typename, "seg", BlockSize="32,32,32", MaxDownresLevel="0")
    live.new_instance(root, "annotation", "syn")
    live.new_instance(root, "labelsz", "sz")
    live.ok("POST", f"/api/node/{root}/syn/sync", json_body={"sync": "seg"})
    live.ok("POST", f"/api/node/{root}/sz/sync", json_body={"sync": "syn"})
    write(live, root, slabs())
    elements = {(x, x % 32, 7): "PostSyn" for x in range(64)}
    post(live, root, elements)
    state = State(slabs(), {}, elements)
    dice = random.Random(8)
    check(live, root, state, dice)
    if typename == "labelarray":
        live.ok("POST", f"/api/node/{root}/seg/merge", json_body=[3, 2, 1])
        state.volume[state.volume < 3] = 3
    else:
        state.volume[:, 5:9] = 7
        write(live, root, state.volume)
    check(live, root, state, dice)


def test_instances_without_versions_count_what_lies_at_the_root(live: Live) -> None:
    root = made(live, versioned="false")
    first, second = {(1, 1, 1): "PreSyn"}, {(2, 2, 2): "PreSyn"}
    post(live, root, first)
    live.commit(root)
    child = live.new_version(root)
    post(live, child, second)
    dice = random.Random(9)
    for uuid in (root, child):
        check(live, uuid, State(slabs(), {}, first), dice)


def test_few_rankings_are_kept(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "RANKINGS", 2)
    root = made(live)
    post(live, root, {(1, 1, 1): "PreSyn"})
    for name in ("one", "two", "three"):
        live.new_instance(root, "labelsz", name)
        assert live.ok("GET", f"/api/node/{root}/{name}/top/1/PreSyn").json() == []
    assert len(endpoints._KEPT[live.engine]) == 2
    assert live.ok("GET", f"/api/node/{root}/sz/top/1/PreSyn").json() == [{"Label": 1, "Size": 1}]


def test_many_changes_are_read_anew(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_into, "CHANGED_MAX", 4)
    made_of = Made(monkeypatch)
    root = made(live)
    state = State(slabs(), {}, {})
    check_ranking(live, root, state)
    for count in (3, 30):
        more = {(x, count, 1): "PreSyn" for x in range(0, 2 * count, 2)}
        post(live, root, more)
        state.elements |= more
        check_ranking(live, root, state)
    assert made_of.whole == 2


def test_counts_survive_a_restart(run_server: Any, settings: Settings) -> None:
    elements = some_points(random.Random(5), 40)
    with run_server(settings) as live:
        root = made(live)
        post(live, root, elements)
    with run_server(settings) as live:
        check(live, root, State(slabs(), {}, elements), random.Random(6))


def test_a_dry_run_of_a_reload_counts_nothing_more(live: Live) -> None:
    root = made(live, sync=False)
    post(live, root, {(1, 1, 1): "PreSyn"})
    node = f"/api/node/{root}/sz"
    live.ok("POST", f"{node}/sync", json_body={"sync": "syn"})
    live.ok("POST", f"{node}/reload", dryrun="true")
    assert live.ok("GET", f"{node}/top/1/PreSyn").json() == []
    live.ok("POST", f"{node}/reload")
    assert live.ok("GET", f"{node}/top/1/PreSyn").json() == [{"Label": 1, "Size": 1}]
