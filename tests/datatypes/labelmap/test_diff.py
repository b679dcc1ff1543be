from __future__ import annotations

import copy
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.bodies import bodyrow
from dvid_es.projections.store import LmdbTxn
from dvid_es.settings import Settings
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap.body_model import Model
from tests.datatypes.labelmap.edit_walk import ALL_KINDS, SHAPE, Walk


@pytest.fixture
def served(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "served", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


class Moment(NamedTuple):
    """A version as it was just after an event."""

    version: str
    sequence: int
    bodies: dict[int, set[int]]
    volume: Any
    """Of bodies, by their sets."""

    @property
    def spec(self) -> str:
        return f"{self.version}@{self.sequence}"


def moment(version: str, sequence: int, model: Model) -> Moment:
    volume = np.zeros(SHAPE, np.int64)
    for body, svs in model.bodies.items():
        volume[model.mask(svs)] = body
    return Moment(version, sequence, copy.deepcopy(model.bodies), volume)


def sizes(one: Moment, body: int) -> dict[str, int] | None:
    if body not in one.bodies:
        return None
    return {"voxels": int((one.volume == body).sum()), "supervoxels": len(one.bodies[body])}


def counted(volume: Any, mask: Any, body: int) -> dict[int, int]:
    labels, counts = np.unique(volume[mask], return_counts=True)
    found = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    found.pop(body, None)
    return found


def expected(first: Moment, second: Moment) -> dict[int, dict[str, Any]]:
    """What became of each body whose voxels are not the same, from whole volumes."""
    found: dict[int, dict[str, Any]] = {}
    twins = {}
    for body in sorted(first.bodies.keys() | second.bodies.keys()):
        was, now = first.volume == body, second.volume == body
        into, out_of = counted(second.volume, was, body), counted(first.volume, now, body)
        if body in first.bodies and body in second.bodies and (was == now).all():
            continue
        others = into.keys() - {0}
        to = body
        if body not in first.bodies:
            word = "born"
        elif body not in second.bodies:
            word = "split" if len(others) > 1 else "merged" if others else "gone"
            if len(into) == 1 and others:
                (twin,) = others
                if twin not in first.bodies and (was == (second.volume == twin)).all():
                    word, to = "renumbered", twin
                    twins[twin] = body
        elif others:
            word = "split"
        elif was.sum() == now.sum():
            word = "moved"
        elif not into:
            word = "grown"
        elif not out_of:
            word = "shrunk"
        else:
            word = "grown" if now.sum() > was.sum() else "shrunk"
        found[body] = {
            "label": body, "change": word, "from": sizes(first, body), "to": sizes(second, to),
            "into": sorted(map(list, into.items())), "out_of": sorted(map(list, out_of.items())),
            **({"renumbered_to": to} if to != body else {}),
        }  # fmt: skip
    for twin in twins:
        del found[twin]
    return found


def diff(walk: Walk, first: str, second: str, **query: Any) -> Any:
    path = f"{walk.node(walk.root)}/diff"
    return walk.live.ok("GET", path, **{"from": first, "to": second, **query})


KINDS = {**ALL_KINDS, "mappings": 0}


@pytest.mark.parametrize(("seed", "row_labels"), [(1, 192), (2, 1), (3, 1)])
def test_the_diff_of_any_two_moments_is_that_of_their_volumes(
    served: Any, seed: int, row_labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sets of bodies lie in bases, as those of large bodies do, where rows hold few labels.
    monkeypatch.setattr(bodyrow, "_ROW_LABELS", row_labels)
    walk = Walk(served, seed, versions=4)
    moments = []
    for part in range(4):
        goal = 12 * (part + 1)
        while len(walk.edits) < goal:
            before = len(walk.edits)
            walk.step(KINDS)
            if len(walk.edits) > before:
                last = walk.edits[-1]
                moments.append(moment(last.version, last.sequence, walk.models[last.version]))
        walk.version(walk.open[0], walk.models[walk.open[0]])
    assert len({one.version for one in moments}) > 2
    words = set()
    for _ in range(40):
        first, second = (moments[at] for at in walk.rng.integers(0, len(moments), 2))
        answer = diff(walk, first.spec, second.spec).json()
        truth = expected(first, second)
        assert {one["label"]: one for one in answer["bodies"]} == truth, (first.spec, second.spec)
        assert [one["label"] for one in answer["bodies"]] == sorted(truth)
        for end, point in (("from", first), ("to", second)):
            assert answer[end] == {"version": point.version, "sequence": point.sequence}
        counts = {word: n for word, n in answer["counts"].items() if n and word != "same"}
        changes = [one["change"] for one in truth.values()]
        assert counts == {word: changes.count(word) for word in set(changes)}
        words |= set(changes)
    assert words >= {"grown", "split", "merged", "born"}


def test_each_edit_has_its_words(served: Any) -> None:
    walk = Walk(served, 11)
    node = walk.node(walk.root)
    voxels = served.ok("GET", f"{node}/sizes", json_body=list(range(10))).json()
    served.ok("POST", f"{node}/merge", json_body=[1, 2])
    new = served.ok("POST", f"{node}/cleave/1", json_body=[2]).json()["CleavedLabel"]
    served.ok("POST", f"{node}/renumber", json_body=[50, 3])
    served.ok("POST", f"{node}/merge", json_body=[4, 6])
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.argwhere(walk.models[walk.root].volume == 7)[0])] = True
    served.ok("POST", f"{node}/split-supervoxel/7", cases.blob_of(mask))

    def size(*bodies: int) -> dict[str, int]:
        return {"voxels": sum(voxels[body] for body in bodies), "supervoxels": len(bodies)}

    whole = diff(walk, "1000000000", "", same="true").json()
    first = whole["from"]["sequence"]
    assert whole["bodies"] == [
        {"label": 1, "change": "same", "from": size(1), "to": size(1), "into": [], "out_of": []},
        {
            "label": 2, "change": "renumbered", "renumbered_to": new, "from": size(2),
            "to": size(2), "into": [[new, voxels[2]]], "out_of": [],
        },
        {
            "label": 3, "change": "renumbered", "renumbered_to": 50, "from": size(3),
            "to": size(3), "into": [[50, voxels[3]]], "out_of": [],
        },
        {
            "label": 4, "change": "grown", "from": size(4), "to": size(4, 6), "into": [],
            "out_of": [[6, voxels[6]]],
        },
        {
            "label": 6, "change": "merged", "from": size(6), "to": None,
            "into": [[4, voxels[6]]], "out_of": [],
        },
        {
            "label": 7, "change": "same", "from": size(7),
            "to": {"voxels": voxels[7], "supervoxels": 2}, "into": [], "out_of": [],
        },
    ]  # fmt: skip
    assert whole["counts"] == {
        "same": 2, "grown": 1, "shrunk": 0, "moved": 0, "split": 0, "merged": 1, "renumbered": 2,
        "born": 0, "gone": 0,
    }  # fmt: skip
    plain = diff(walk, str(first), "").json()
    assert plain["bodies"] == [one for one in whole["bodies"] if one["change"] != "same"]
    back = diff(walk, "", str(first), **{"from": f"{walk.root}"}).json()["bodies"]
    assert {one["label"]: one["change"] for one in back} == {
        4: "split", 6: "born", 50: "renumbered", new: "renumbered",
    }  # fmt: skip


def test_voxel_writes_have_their_words(served: Any) -> None:
    walk = Walk(served, 15)
    model = walk.models[walk.root]
    first = moment(walk.root, walk.last, model)
    volume = model.volume.copy()
    for label, part in ((3, 0), (4, 0), (2, 503), (6, 1)):
        own = np.argwhere(volume == label)
        some = own if label == 4 else own[:20]
        volume[tuple(some.T)] = part
    empty = np.argwhere(volume == 0)
    volume[tuple(empty[100:120].T)] = 7
    swapped = np.argwhere(volume == 8)[:5]
    volume[tuple(swapped.T)] = 0
    volume[tuple(empty[200:205].T)] = 8
    walk.paint(walk.root, volume)
    second = moment(walk.root, walk.last, model)
    answer = diff(walk, first.spec, second.spec).json()
    assert {one["label"]: one for one in answer["bodies"]} == expected(first, second)
    assert {one["label"]: one["change"] for one in answer["bodies"]} == {
        1: "grown", 2: "split", 3: "shrunk", 4: "gone", 6: "split", 7: "grown", 8: "moved",
        503: "born",
    }  # fmt: skip


def test_a_diff_comes_as_a_table_and_in_pages(served: Any) -> None:
    walk = Walk(served, 12)
    walk.run(14, KINDS)
    last = walk.open[-1]
    whole = diff(walk, "1000000000", last).json()
    pages, after = [], 0
    while True:
        page = diff(walk, "1000000000", last, limit=3, after=after).json()
        assert page["counts"] == whole["counts"]
        pages += page["bodies"]
        if page["next"] is None:
            break
        after = page["next"]
    assert pages == whole["bodies"]
    answer = diff(walk, "1000000000", last, format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(whole["bodies"])
    for row, one in zip(rows, whole["bodies"], strict=True):
        assert (int(row["label"]), row["change"]) == (one["label"], one["change"])
        assert row["into"] == ";".join(f"{label}:{n}" for label, n in one["into"])
        for end in ("from", "to"):
            for name in ("voxels", "supervoxels"):
                text = row[f"{end}_{name}"]
                assert text == ("" if one[end] is None else str(one[end][name]))
    short = diff(walk, "1000000000", last, format="csv", limit=2)
    assert short.headers["x-dvid-es-next"] == rows[1]["label"]


def test_what_cannot_be_compared_is_refused(served: Any) -> None:
    walk = Walk(served, 13)
    node = walk.node(walk.root)
    other = served.new_repo()
    for query in (
        {}, {"from": "nothing"}, {"from": "1000000999"}, {"from": other}, {"from": "1@x"},
        {"from": "0", "limit": 0}, {"from": "0", "format": "xml"}, {"from": "0", "after": "a"},
    ):  # fmt: skip
        answer = served.call("GET", f"{node}/diff", **query)
        assert answer.status == 400, query
    assert diff(walk, "0", "").json()["counts"]["born"] == len(walk.models[walk.root].bodies)


def test_what_was_undone_is_the_same(served: Any) -> None:
    walk = Walk(served, 14)
    node = walk.node(walk.root)
    walk.run(12, {kind: n for kind, n in KINDS.items() if kind != "write"})
    line = [edit for edit in walk.edits[1:] if edit.version == walk.root]
    last = max(edit.sequence for edit in line)
    child = served.ok(
        "POST", f"/api/node/{walk.root}/branch", json_body={"branch": "again"}
    ).json()["child"]
    for edit in line[::-1]:
        served.ok("POST", f"{walk.node(child)}/undo", json_body={"mutation": edit.mutation})
    answer = served.ok(
        "GET", f"{node}/diff", **{"from": walk.edits[0].sequence, "to": child}
    ).json()
    assert answer["bodies"] == []
    assert answer["counts"]["same"] > 1
    there = served.ok("GET", f"{node}/diff", **{"from": last, "to": child}).json()
    back = served.ok("GET", f"{node}/diff", **{"from": last, "to": walk.edits[0].sequence}).json()
    assert there["bodies"] == back["bodies"] != []


def test_the_cost_is_that_of_the_answer_however_much_else_has_happened(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(served, 16)
    node = walk.node(walk.root)
    first = served.ok("POST", f"{node}/merge", json_body=[1, 2]).json()["MutationID"]
    last = served.ok("POST", f"{node}/merge", json_body=[1, 3]).json()["MutationID"]
    others = walk.pick(walk.models[walk.root].bodies.keys() - {1, 2, 3}, 10)
    rows = 0

    def counting(name: str) -> None:
        method = getattr(LmdbTxn, name)

        def counted_call(txn: Any, *args: Any) -> Any:
            nonlocal rows
            rows += len(args[0]) if name in ("seek_many", "seek_table") else 1
            found = method(txn, *args)
            return each(found) if name == "scan" else found

        def each(found: Any) -> Any:
            nonlocal rows
            for pair in found:
                rows += 1
                yield pair

        monkeypatch.setattr(LmdbTxn, name, counted_call)

    def cost(path: str) -> int:
        nonlocal rows
        rows = 0
        served.ok("GET", f"{node}/{path}")
        return rows

    for name in ("get", "seek", "next", "scan", "seek_many", "seek_table"):
        counting(name)
    asked = (f"diff?from={first}&to={last}", "lineage/1", f"lineage/1?at={first}")
    before = [cost(path) for path in asked]
    assert all(0 < one < 100 for one in before)
    for body in others[1:]:
        served.ok("POST", f"{node}/merge", json_body=[others[0], body])
    for _ in range(20):
        new = served.ok("POST", f"{node}/cleave/{others[0]}", json_body=[others[1]]).json()
        served.ok("POST", f"{node}/merge", json_body=[others[0], new["CleavedLabel"]])
    assert [cost(path) for path in asked] == before
    assert cost(f"diff?from={first}") > before[0]
