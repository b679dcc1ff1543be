from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import messages_pb2
from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, mutationlog
from dvid_es.datatypes.labelmap.undo import classic, deciding, endpoints
from dvid_es.datatypes.labelmap.undo.events import Reversal
from dvid_es.events import decode
from dvid_es.settings import Settings
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap.body_model import (
    Model,
    check_version,
    index_message,
    mapping_ops,
    volume_of,
)
from tests.datatypes.labelmap.edit_walk import ALL_KINDS, LABELS, SHAPE, Walk
from tests.datatypes.labelmap.undo_cases import (
    Line,
    change,
    everything,
    handle,
    same,
    verified,
)

UNDOABLE = {kind: weight for kind, weight in ALL_KINDS.items() if kind != "write"}


@pytest.fixture
def served(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "served", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


@pytest.fixture(params=["short rows", "bases"])
def bases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of bodies as they are, or in bases as those of large bodies."""
    if request.param == "bases":
        monkeypatch.setattr(bodyrow, "_ROW_LABELS", 1)
        monkeypatch.setattr(bodysets, "_BASES_MAX", 2)


@pytest.mark.usefixtures("bases")
@pytest.mark.parametrize("seed", [1])
def test_a_history_undone_in_reverse_order_is_as_if_it_had_never_been(
    served: Any, seed: int, tmp_path: Path
) -> None:
    walk = Line(served, seed, levels=2)
    first = len(walk.edits)
    states = []
    while len(walk.edits) < 24:
        before = len(walk.edits)
        state = everything(walk, walk.open[0])
        walk.step(UNDOABLE)
        if len(walk.edits) > before:
            states.append((walk.edits[-1], state))
        if len(walk.edits) in (9, 16) and len(walk.edits) > before:
            walk.version(walk.open[0], walk.models[walk.open[0]])
    assert len({edit.version for edit in walk.edits[first:]}) == 3
    assert len({edit.kind for edit in walk.edits[first:]}) == len(UNDOABLE)
    uuid = walk.open[0]
    last = everything(walk, uuid)
    by_id = dict(last)
    undone = []
    for edit, before in states[::-1]:
        answer = change(walk, "undo", handle(edit), uuid)
        assert answer.status == 200, (edit, answer.text)
        undone.append(answer.json()["MutationID"])
        # More ids are asked for by now than when it was read: those must say what they said at first.
        now = everything(walk, uuid)
        for name, value in before.items():
            if not isinstance(value, list):
                assert now[name] == value, (edit, name)
        by_id = now
    walk.ids |= {0}
    assert len(undone) == len(set(undone)) == len(states)
    for number, (edit, before) in enumerate(states):
        now = served.ok("GET", f"{walk.node(uuid)}/mappings").body
        assert now == before["mappings"]
        redone = handle(edit) if number % 2 else undone[::-1][number]
        answer = change(walk, "redo", redone, uuid)
        assert answer.status == 200, (edit, answer.text)
    walk.ids -= {0}
    same(last, everything(walk, uuid))
    assert by_id["existing-labels"] == states[0][1]["existing-labels"]
    assert verified(served, tmp_path / "scratch")


@pytest.mark.usefixtures("bases")
@pytest.mark.parametrize("seed", [5])
def test_what_is_undone_out_of_order_is_as_if_it_alone_had_never_been(
    served: Any, seed: int, tmp_path: Path
) -> None:
    walk = Walk(served, seed, levels=2)
    kinds = {**ALL_KINDS, "mappings": 0}
    while len(walk.edits) < 40:
        walk.step(kinds)
    standing = dict.fromkeys(edit.sequence for edit in walk.edits[1:])
    granted = refused = 0
    for edit in walk.rng.permutation(len(walk.edits) - 1):
        chosen = walk.edits[1 + int(edit)]
        if granted == 4:
            break
        answer = change(walk, "undo", handle(chosen))
        if chosen.kind == "write":
            assert answer.status == 400
            continue
        if answer.status == 409:
            refused += 1
            found = answer.json()["dependents"]
            assert found
            assert {one["Sequence"] for one in found} <= standing.keys()
            assert all(one["Sequence"] > chosen.sequence for one in found)
            continue
        assert answer.status == 200, answer.text
        granted += 1
        del standing[chosen.sequence]
        check_standing(walk, seed, standing)
    assert granted > 1
    assert refused > 1
    assert verified(served, tmp_path / "scratch")


def check_standing(walk: Walk, seed: int, standing: dict[int, None]) -> None:
    """The version is as after those edits alone."""
    model = Model(np.zeros(SHAPE, np.uint64))
    model.write(volume_of(SHAPE, LABELS, seed))
    for sequence in standing:
        walk.replay[sequence](model)
    node = walk.node(walk.root)
    for body in model.bodies:
        last = walk.live.ok("GET", f"{node}/lastmod/{body}").json()
        model.last[body] = last["mutation id"]
    check_version(walk.live, node, model, sorted(walk.ids))
    cases.check_scales(walk.live, walk.root, model.volume, 2)


def ids_of(answer: Any) -> list[int]:
    return [one["MutationID"] for one in answer.json()["dependents"]]


def test_a_mutation_that_others_build_on_is_refused_with_all_of_them(served: Any) -> None:
    walk = Walk(served, 20)
    node = walk.node(walk.root)
    merge = served.ok("POST", f"{node}/merge", json_body=[1, 2, 3]).json()["MutationID"]
    other = served.ok("POST", f"{node}/merge", json_body=[6, 7]).json()["MutationID"]
    served.ok("POST", f"{node}/merge", json_body=[1, 9])  # nothing of it builds on the first one
    cleave = served.ok("POST", f"{node}/cleave/1", json_body=[2]).json()
    state = cases.state(served)
    answer = change(walk, "undo", merge)
    assert answer.status == 409
    assert answer.headers["content-type"] == "application/json"
    assert ids_of(answer) == [cleave["MutationID"]]
    assert answer.json()["dependents"][0]["Action"] == "cleave"
    said = answer.json()["error"]
    assert f"{merge} cannot be undone: supervoxel 2 changed since by" in said
    assert f"by mutation {cleave['MutationID']}:" in said
    assert cases.state(served) == state
    into = served.ok("POST", f"{node}/merge", json_body=[8, cleave["CleavedLabel"]]).json()
    assert ids_of(change(walk, "undo", merge)) == [cleave["MutationID"], into["MutationID"]]
    assert ids_of(change(walk, "undo", cleave["MutationID"])) == [into["MutationID"]]
    for mutation in (into["MutationID"], cleave["MutationID"], merge):
        assert change(walk, "undo", mutation).status == 200
    bodies = served.ok("GET", f"{node}/existing-labels").json()
    assert {1, 2, 3, 6, 8} <= set(bodies)
    assert 7 not in bodies
    assert change(walk, "undo", other).status == 200


def test_a_mutation_is_undone_once_and_redone_once(served: Any) -> None:
    walk = Walk(served, 21)
    node = walk.node(walk.root)
    merge = served.ok("POST", f"{node}/merge", json_body=[1, 2]).json()["MutationID"]
    answer = change(walk, "redo", merge)
    assert (answer.status, "was never undone" in answer.text) == (400, True)
    made = change(walk, "undo", merge).json()
    assert made == {"MutationID": merge + 1, "Undoes": merge, "Action": "merge"}
    answer = change(walk, "undo", merge)
    assert (answer.status, f"already, by mutation {merge + 1}" in answer.text) == (400, True)
    made = change(walk, "undo", merge + 1).json()
    assert made == {"MutationID": merge + 2, "Redoes": merge, "Action": "merge"}
    answer = change(walk, "redo", merge)
    assert (answer.status, f"already, by mutation {merge + 2}" in answer.text) == (400, True)
    assert change(walk, "undo", merge + 2).json()["Undoes"] == merge
    assert served.ok("GET", f"{node}/supervoxels/1").json() == [1]
    for number in (0, 1_000_000_000, 1_000_000_999, 999):
        assert change(walk, "undo", number).status == 400
    for body in ({}, [], {"mutation": "1"}, {"mutation": -1}, {"mutation": 1, "all": True}):
        assert served.call("POST", f"{node}/undo", json_body=body).status == 400
    assert served.call("GET", f"{node}/undo").status == 400


def test_an_undo_on_one_branch_is_none_on_another_one(served: Any) -> None:
    walk = Walk(served, 22)
    merge = served.ok("POST", f"{walk.node(walk.root)}/merge", json_body=[1, 2]).json()
    served.commit(walk.root)
    sides = [
        served.ok("POST", f"/api/node/{walk.root}/branch", json_body={"branch": name}).json()[
            "child"
        ]
        for name in ("left", "right")
    ]
    assert change(walk, "undo", merge["MutationID"]).status == 400, "the root is locked"
    assert change(walk, "undo", merge["MutationID"], sides[0]).status == 200
    for side, svs in zip(sides, ([1], [1, 2]), strict=True):
        assert served.ok("GET", f"{walk.node(side)}/supervoxels/1").json() == svs
    own = served.ok("POST", f"{walk.node(sides[0])}/merge", json_body=[3, 4]).json()
    answer = change(walk, "undo", own["MutationID"], sides[1])
    assert (answer.status, "is not part of this version" in answer.text) == (400, True)
    assert change(walk, "undo", merge["MutationID"], sides[1]).status == 200


def test_a_dry_run_says_what_would_happen_and_nothing_does(served: Any) -> None:
    walk = Walk(served, 23)
    node = walk.node(walk.root)
    merge = served.ok("POST", f"{node}/merge", json_body=[1, 2]).json()["MutationID"]
    own = walk.models[walk.root].volume == 3
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.argwhere(own)[0])] = True
    split = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(mask)).json()
    state = cases.state(served)
    for mutation, action in ((merge, "merge"), (split["MutationID"], "split-supervoxel")):
        answer = change(walk, "undo", mutation, dryrun="true").json()
        assert [event["event"] for event in answer["events"]] == ["labelmap.undo"]
        assert answer["events"][0]["facts"]["action"] == action
    assert cases.state(served) == state


def test_old_consumers_read_the_nearest_classic_records(served: Any) -> None:
    walk = Walk(served, 24)
    node = walk.node(walk.root)
    sizes = served.ok("GET", f"{node}/sizes", json_body=[1, 2, 3]).json()
    merge = served.ok("POST", f"{node}/merge", json_body=[1, 2, 3]).json()["MutationID"]
    undo = change(walk, "undo", merge, u="ana").json()["MutationID"]
    redo = change(walk, "redo", merge).json()["MutationID"]
    cleaved = served.ok("POST", f"{node}/cleave/1", json_body=[3]).json()
    new, cleave = cleaved["CleavedLabel"], cleaved["MutationID"]
    uncleave = change(walk, "undo", cleave).json()["MutationID"]
    again = change(walk, "redo", cleave).json()["MutationID"]
    served.ok("POST", f"{node}/renumber", json_body=[77, new])
    back = change(walk, "undo", again + 1).json()["MutationID"]
    own = walk.models[walk.root].volume == 3
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.argwhere(own)[0])] = True
    split = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(mask)).json()
    change(walk, "undo", split["MutationID"])
    resplit = change(walk, "redo", split["MutationID"]).json()["MutationID"]
    served.ok("POST", f"{node}/mappings", mapping_ops({6: 7}))
    records = served.ok("GET", f"{node}/mutations").json()
    by_id: dict[int, list[Any]] = {}
    for record in records:
        del record["UUID"], record["Timestamp"]
        by_id.setdefault(record["MutationID"], []).append(record)
    total = sum(sizes)
    assert by_id[undo] == [
        {
            "Action": "cleave-complete", "MutationID": undo, "User": "ana", "Undoes": merge,
            "OrigLabel": 1, "CleavedLabel": body, "CleavedSupervoxels": [body],
            "CleavedSize": sizes[body - 1], "RemainSize": total - sum(sizes[1:body]),
        }
        for body in (2, 3)
    ]  # fmt: skip
    assert by_id[redo] == [{**by_id[merge][0], "MutationID": redo, "Redoes": merge}]
    assert by_id[uncleave] == [
        {
            "Action": "merge-complete", "MutationID": uncleave, "Undoes": cleave, "Target": 1,
            "Labels": [new],
        }
    ]  # fmt: skip
    assert by_id[again] == [{**by_id[cleave][0], "MutationID": again, "Redoes": cleave}]
    assert by_id[back] == [
        {
            "Action": "renumber-complete", "MutationID": back, "Undoes": again + 1,
            "NewLabel": new, "OrigLabel": 77,
        }
    ]  # fmt: skip
    first = by_id[split["MutationID"]][0]
    assert by_id[resplit] == [{**first, "MutationID": resplit, "Redoes": split["MutationID"]}]
    assert split["MutationID"] + 1 not in by_id, "no classic action joins supervoxels"
    lineage = served.ok("GET", f"{node}/lineage/1").json()["mutations"]
    shown = {
        one["MutationID"]: (one["Action"], one.get("Undoes") or one.get("Redoes"))
        for one in lineage
    }
    assert shown[undo] == ("undo", merge)
    assert shown[redo] == ("redo", merge)


def test_the_lineage_of_what_was_undone_tells_both(served: Any) -> None:
    walk = Walk(served, 25)
    node = walk.node(walk.root)
    merge = served.ok("POST", f"{node}/merge", json_body=[1, 2]).json()["MutationID"]
    undo = change(walk, "undo", merge).json()["MutationID"]
    own = walk.models[walk.root].volume == 3
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.argwhere(own)[0])] = True
    made = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(mask)).json()
    split, part = made["MutationID"], made["SplitSupervoxel"]
    join = change(walk, "undo", split).json()["MutationID"]
    first = 1_000_000_000

    def lineage(label: int, **query: str) -> Any:
        found = served.ok("GET", f"{node}/lineage/{label}", **query).json()
        return found["exists"], [one["MutationID"] for one in found["mutations"]]

    for body in (1, 2):
        assert lineage(body) == (True, [undo, merge, first])
    assert lineage(1, supervoxels="true") == (True, [first])
    assert lineage(2, supervoxels="true") == (True, [undo, merge, first])
    assert lineage(3, supervoxels="true") == (True, [join, split, first])
    assert lineage(part, supervoxels="true") == (False, [join, split, first])
    again = change(walk, "redo", split).json()["MutationID"]
    assert lineage(part, supervoxels="true") == (True, [again, join, split, first])
    assert lineage(3, supervoxels="true") == (False, [again, join, split, first])
    assert lineage(3) == (True, [again, join, split, first])
    listed = served.ok("GET", f"{node}/supervoxel-splits").json()
    assert listed == [walk.root, [[split, 3, made["RemainSupervoxel"], part]]]
    change(walk, "undo", split)
    assert served.ok("GET", f"{node}/supervoxel-splits").json() == []


def test_an_undone_split_brings_back_lower_scales_that_a_client_had_posted(served: Any) -> None:
    walk = Walk(served, 26, levels=2)
    node = walk.node(walk.root)
    z, y, x = SHAPE
    lower = np.full((z // 2, y // 2, x // 2), 3, "<u8")
    path = f"raw/0_1_2/{x}_{y}_{z}/0_0_0?supervoxels=true"
    blocks = served.ok("GET", f"{node}/blocks/32_32_32/0_0_0?compression=blocks").body
    served.ok("POST", f"{node}/ingest-supervoxels?scale=1", blocks)
    below = f"raw/0_1_2/{x // 2}_{y // 2}_{z // 2}/0_0_0?supervoxels=true&scale=1"
    were = [served.ok("GET", f"{node}/{one}").body for one in (path, below)]
    assert were[1] != lower.tobytes()
    own = walk.models[walk.root].volume == 3
    split = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(half(own))).json()
    after = [served.ok("GET", f"{node}/{one}").body for one in (path, below)]
    assert after[1] != were[1]
    change(walk, "undo", split["MutationID"])
    assert [served.ok("GET", f"{node}/{one}").body for one in (path, below)] == were
    change(walk, "redo", split["MutationID"])
    assert [served.ok("GET", f"{node}/{one}").body for one in (path, below)] == after


def half(own: Any) -> Any:
    """The lower half of the voxels."""
    mask = own.copy()
    planes = np.flatnonzero(own.any(axis=(1, 2)))
    mask[planes[len(planes) // 2] :] = False
    return mask


def test_a_split_is_undone_in_blocks_that_others_have_written_since(
    served: Any, tmp_path: Path
) -> None:
    walk = Walk(served, 27, levels=2)
    node, model = walk.node(walk.root), walk.models[walk.root]
    walk.rng = np.random.default_rng(0)
    mask = half(model.volume == 3)
    split = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(mask)).json()
    volume = model.volume.copy()
    volume[(volume == 4) & (np.indices(SHAPE)[2] % 2 == 0)] = 6
    painted = volume.copy()
    painted[volume == 3] = split["RemainSupervoxel"]
    painted[mask] = split["SplitSupervoxel"]
    other = served.ok(
        "POST", f"{node}/raw/0_1_2/64_64_32/0_0_0?mutate=true", painted.astype("<u8").tobytes()
    )
    assert change(walk, "undo", split["MutationID"]).status == 200
    model.write(volume)
    check_written(walk, model)
    painted[mask] = 4
    assert change(walk, "redo", split["MutationID"]).status == 200
    served.ok(
        "POST", f"{node}/raw/0_1_2/64_64_32/0_0_0?mutate=true", painted.astype("<u8").tobytes()
    )
    answer = change(walk, "undo", split["MutationID"])
    assert answer.status == 409
    assert [one["Action"] for one in answer.json()["dependents"]] == ["voxels"]
    assert other.status == 200
    assert verified(served, tmp_path / "scratch")


def check_written(walk: Walk, model: Model) -> None:
    node = walk.node(walk.root)
    for body in model.bodies:
        model.last[body] = walk.live.ok("GET", f"{node}/lastmod/{body}").json()["mutation id"]
    check_version(walk.live, node, model, [])
    cases.check_scales(walk.live, walk.root, model.volume, 2)


def test_long_mappings_and_large_bodies_are_undone(served: Any, tmp_path: Path) -> None:
    walk = Walk(served, 28)
    node = walk.node(walk.root)
    before = everything(walk, walk.root)
    svs = range(2000, 2000 + 5000)
    long = int(
        served.ok(
            "POST", f"{node}/mappings", mapping_ops(dict.fromkeys(svs, 1) | {2: 1, 6: 1})
        ).headers["x-dvid-es-seq"]
    )
    short = int(served.ok("POST", f"{node}/mappings", mapping_ops({2: 8})).headers["x-dvid-es-seq"])
    assert change(walk, "undo", long).json()["dependents"][0]["Sequence"] == short
    assert change(walk, "undo", short).status == 200
    mapped = served.ok("GET", f"{node}/mapping?nolookup=true", json_body=[2, 6, 2001, 9000]).json()
    assert mapped == [1, 1, 1, 9000]
    undone = change(walk, "undo", long)
    assert undone.status == 200
    same(before, everything(walk, walk.root))
    assert served.ok("GET", f"{node}/mappings").body == b""
    assert change(walk, "redo", undone.json()["MutationID"]).status == 200
    text = served.ok("GET", f"{node}/mappings").text
    assert text.count("\n") == 5002
    assert verified(served, tmp_path / "scratch")


def test_a_mapping_that_is_too_long_is_refused(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(served, 29)
    node = walk.node(walk.root)
    monkeypatch.setattr(deciding, "MAPPINGS_MAX", 5000)
    entries = dict.fromkeys(range(2000, 7001), 1)
    long = served.ok("POST", f"{node}/mappings", mapping_ops(entries)).headers["x-dvid-es-seq"]
    answer = change(walk, "undo", int(long))
    assert (answer.status, "set 5001 entries" in answer.text) == (400, True)


def test_no_label_may_stand_for_no_entry(served: Any) -> None:
    walk = Walk(served, 30)
    node, none = walk.node(walk.root), 2**64 - 1
    state = cases.state(served)
    assert served.call("POST", f"{node}/mappings", mapping_ops({1: none})).status == 400
    assert served.call("POST", f"{node}/merge", json_body=[none, 1]).status == 400
    assert served.call("POST", f"{node}/renumber", json_body=[none, 1]).status == 400
    assert cases.state(served) == state


def imported(live: Any, seed: int) -> tuple[Walk, Model]:
    """A labelmap loaded in bulk: blocks without indices, then indices and a mapping."""
    walk = Walk(live, seed)
    child = Model(walk.models[walk.root].volume)
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    blocks = live.ok("GET", f"{walk.node(walk.root)}/blocks/64_64_32/0_0_0?compression=blocks").body
    walk.root = root
    node = walk.node(root)
    live.ok("POST", f"{node}/ingest-supervoxels", blocks)
    child.merge(1, [2, 3], 0)
    message = messages_pb2.LabelIndices()
    for body, svs in child.bodies.items():
        message.indices.append(index_message(body, child.blocks(svs)))
    live.ok("POST", f"{node}/indices", message.SerializeToString())
    live.ok("POST", f"{node}/mappings", mapping_ops({2: 1, 3: 1}))
    walk.models = {root: child}
    walk.open = [root]
    return walk, child


def test_edits_of_an_imported_segmentation_are_undone(served: Any, tmp_path: Path) -> None:
    walk, model = imported(served, 31)
    node = walk.node(walk.root)
    before = everything(walk, walk.root)
    merge = served.ok("POST", f"{node}/merge", json_body=[4, 1]).json()["MutationID"]
    cleave = served.ok("POST", f"{node}/cleave/4", json_body=[3]).json()["MutationID"]
    mask = half(model.volume == 3)
    split = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(mask)).json()
    after = everything(walk, walk.root)
    found = served.ok("GET", f"{node}/lineage/4").json()["mutations"]
    actions = [one["Action"] for one in found]
    assert actions == ["cleave", "merge", "index"]
    born = served.ok("GET", f"{node}/diff", **{"from": 0}).json()
    assert born["counts"]["born"] == len(model.bodies)
    ids = (split["MutationID"], cleave, merge)
    for mutation in ids:
        assert change(walk, "undo", mutation).status == 200
    now = everything(walk, walk.root)
    for name in before:
        # The lower scale was never stored before the split.
        assert "scale=" in name or now[name] == before[name], name
    for mutation in ids[::-1]:
        assert change(walk, "redo", mutation).status == 200
    same(after, everything(walk, walk.root))
    assert verified(served, tmp_path / "scratch")


def test_blocks_that_another_split_changed_meanwhile_are_prepared_again(
    served: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    walk = Walk(served, 32, levels=2)
    node, model = walk.node(walk.root), walk.models[walk.root]
    first, second = half(model.volume == 3), half(model.volume == 4)
    made = served.ok("POST", f"{node}/split-supervoxel/3", cases.blob_of(first)).json()
    prepared = endpoints.prepare_blocks
    times = 0

    async def overtaken(*args: Any) -> Any:
        nonlocal times
        times += 1
        found = await prepared(*args)
        if times == 1:
            path = f"{node}/split-supervoxel/4"
            other = asyncio.to_thread(served.ok, "POST", path, cases.blob_of(second))
            cases.split_supervoxel(model, 4, second, (await other).json())
        return found

    monkeypatch.setattr(endpoints, "prepare_blocks", overtaken)
    assert change(walk, "undo", made["MutationID"]).status == 200
    assert times == 2
    check_written(walk, model)
    assert verified(served, tmp_path / "scratch")


def test_a_body_may_be_empty_of_voxels_and_come_back(served: Any) -> None:
    walk = Walk(served, 33)
    node = walk.node(walk.root)
    served.ok("POST", f"{node}/mappings", mapping_ops({9999: 1}))
    cleaved = served.ok("POST", f"{node}/cleave/1", json_body=[9999]).json()
    state = everything(walk, walk.root)
    undone = change(walk, "undo", cleaved["MutationID"])
    assert undone.status == 200, undone.text
    mapped = served.ok("GET", f"{node}/mapping?nolookup=true", json_body=[9999]).json()
    assert mapped == [1]
    assert change(walk, "redo", cleaved["MutationID"]).status == 200
    same(state, everything(walk, walk.root))


def test_fsck_finds_nothing_wrong_after_undo_and_redo(served: Any) -> None:
    walk = Walk(served, 34)
    walk.run(20, UNDOABLE)
    for edit in walk.edits[:0:-1]:
        answer = change(walk, "undo", handle(edit), walk.open[-1])
        assert answer.status in (200, 400, 409)
    for edit in walk.edits[1::2]:
        assert change(walk, "redo", handle(edit), walk.open[-1]).status in (200, 400, 409)
    job = served.call("POST", f"{walk.node(walk.open[-1])}/fsck?deep=true").json()
    ended = served.ok("GET", f"/api/server/jobs/{job['id']}?wait=60").json()
    assert ended["state"] == "done"
    assert ended["result"]["errors"] == 0, ended["result"]["findings"]


def test_a_body_that_grew_since_it_was_made_is_not_unmade(served: Any) -> None:
    walk = Walk(served, 35)
    node = walk.node(walk.root)
    served.ok("POST", f"{node}/merge", json_body=[1, 2, 3])
    cleave = served.ok("POST", f"{node}/cleave/1", json_body=[2]).json()
    grown = served.ok("POST", f"{node}/merge", json_body=[cleave["CleavedLabel"], 7]).json()
    answer = change(walk, "undo", cleave["MutationID"])
    assert answer.status == 409
    assert ids_of(answer) == [grown["MutationID"]]
    assert f"body {cleave['CleavedLabel']} changed since" in answer.json()["error"]
    assert change(walk, "undo", grown["MutationID"]).status == 200
    assert change(walk, "undo", cleave["MutationID"]).status == 200
    renumber = served.ok("POST", f"{node}/renumber", json_body=[77, 1]).headers["x-dvid-es-seq"]
    merged = served.ok("POST", f"{node}/merge", json_body=[77, 4]).json()["MutationID"]
    answer = change(walk, "undo", merged - 1)
    assert (answer.status, ids_of(answer)) == (409, [merged])
    assert int(renumber) == answer.json()["dependents"][0]["Sequence"] - 1


def test_the_classic_records_of_an_event_in_the_log_are_those_that_mutations_lists(
    served: Any,
) -> None:
    walk = Walk(served, 36)
    while len(walk.edits) < 14:
        walk.step({kind: n for kind, n in UNDOABLE.items() if kind != "mappings"})
    undone = [change(walk, "undo", edit.mutation).json() for edit in walk.edits[:-6:-1]]
    done = [change(walk, "redo", one["MutationID"]).json() for one in undone[::-1]]
    listed: dict[int, list[str]] = {}
    for record in served.ok("GET", f"{walk.node(walk.root)}/mutations").json():
        listed.setdefault(record["MutationID"], []).append(record)
    stream, _, _ = served.engine.resolve(walk.root)
    told = {}
    for stored in stream.log.read():
        record = decode(*stored)
        if isinstance(record.event, Reversal):
            entries = classic.entries(record, lambda value: as_bytes(stream.packs, value))
            texts = [mutationlog.to_json(entry, walk.root) for entry in entries]
            told[record.header.mutation_id] = [json.loads(text) for text in texts]
    assert told.keys() == {one["MutationID"] for one in [*undone, *done]}
    for mutation, records in told.items():
        assert records == listed.get(mutation, [])
    assert sum(map(len, told.values())) > 5


def as_bytes(packs: Any, value: Any) -> bytes:
    found: bytes = value if isinstance(value, bytes) else packs.get(value)
    return found
