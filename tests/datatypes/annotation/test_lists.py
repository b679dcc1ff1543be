"""annotation: lists of labels and tags, where they differ from the elements on purpose, and at the edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.annotation import reads, rows
from dvid_es.projections.txn import ReadTxn
from tests.datatypes.annotation.kit import Pair, element, pair, slabs
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.labelmap.body_model import mapping_ops
from tests.datatypes.labelmap.split_cases import blob_of


def texts(answer: Any) -> str:
    return answer.body.decode()


def test_posted_blocks_come_back_byte_for_byte_and_are_listed_by_a_reload(live: Any) -> None:
    made = pair(live, slabs())
    blocks = {
        "0,0,0": [
            {"Pos": [9, 1, 1], "Kind": "PreSyn", "Tags": ["b", "a"], "Prop": {"a": "1", "z": "2"},
             "Rels": [{"Rel": "PreSynTo", "To": [40, 2, 3]}]},
            {"Pos": [1, 2, 3], "Kind": "Note", "Tags": None, "Prop": None, "Rels": None},
            {"Pos": [1, 2, 3], "Kind": "Gap", "Tags": [], "Prop": {}, "Rels": []},
            {"Pos": [500, 2, 3], "Kind": "Gap", "Tags": ["a"], "Prop": {}, "Rels": []},
        ],
        "1,0,0": [],
        "-1,0,0": None,
    }  # fmt: skip
    made.blocks(blocks)
    sent = {name: blocks[name] for name in ("-1,0,0", "0,0,0", "1,0,0")}
    wanted = json.dumps(sent, separators=(",", ":"))
    assert texts(live.ok("GET", f"{made.syn()}/all-elements")) == wanted
    assert made.get("scan") == {"num kv pairs": 3, "num empty blocks": 0}
    assert made.get("tag/a") == made.get("label/2") == []
    live.ok("POST", f"{made.syn()}/reload")
    assert [one["Pos"] for one in made.get("tag/a")] == [[9, 1, 1], [500, 2, 3]]
    assert made.at(2) == [[9, 1, 1]]
    assert made.at(1) == [[1, 2, 3]]
    # A list names what lies in another block; the block of its place does not have it.
    assert [one["Pos"] for one in made.get("tag/a", relationships="true")] == [[9, 1, 1]]


def test_lists_stay_when_blocks_are_replaced_until_a_reload(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1, Tags=["t"]), element(2, 2, 2, Tags=["t"], Prop={"n": "1"}))
    made.blocks({"0,0,0": [element(2, 2, 2, "Gap", Tags=["u"], Prop={"n": "2"})]})
    before = [element(1, 1, 1, Tags=["t"]), element(2, 2, 2, Tags=["t"], Prop={"n": "1"})]
    for one in before:
        del one["Rels"]
    assert made.get("tag/t") == made.get("label/1") == before
    verbose = made.get("label/1", relationships="verbose")
    assert [one["Pos"] for one in verbose] == [[1, 1, 1], [2, 2, 2]]
    live.ok("POST", f"{made.syn()}/reload?check=true")
    assert made.get("tag/t") == []
    after = {"Pos": [2, 2, 2], "Kind": "Gap", "Tags": ["u"], "Prop": {"n": "2"}}
    assert made.get("tag/u") == made.get("label/1") == [after]


def test_a_reload_of_lists_that_are_right_writes_nothing(live: Any) -> None:
    made = pair(live, slabs())
    made.post(*(element(x, 3, 3, Tags=[f"t{x}"]) for x in range(0, 64, 5)))
    before = live.engine.streams.all()[0].log.end
    for query in ("", "?check=true", "?inmemory=false"):
        live.ok("POST", f"{made.syn()}/reload{query}")
    assert live.engine.streams.all()[0].log.end == before


def test_a_reload_goes_over_many_parts(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvid_es.datatypes.annotation import reloading

    monkeypatch.setattr(reloading, "ELEMENTS_AT_ONCE", 3)
    monkeypatch.setattr(reloading, "ENTRIES_AT_ONCE", 3)
    made = pair(live, slabs())
    made.post(*(element(x, 5, 5, Tags=["old", f"t{x % 4}"]) for x in range(64)))
    made.blocks(
        {
            f"{n},0,0": [element(x, 7, 5, Tags=["new"]) for x in range(32 * n, 32 * n + 32)]
            for n in (0, 1)
        }
    )
    live.ok("POST", f"{made.syn()}/reload")
    assert made.get("tag/old") == []
    assert all(made.get(f"tag/t{n}") == [] for n in range(4))
    assert [one["Pos"][0] for one in made.get("tag/new")] == list(range(64))
    assert [at[0] for at in made.at(3)] == list(range(16, 24))


def test_posted_lists_follow_the_bodies_that_they_lie_in(live: Any, tmp_path: Path) -> None:
    made = pair(live, slabs())
    lists = {"1": [element(1, 1, 1), element(2, 60, 60)], "2": [element(9, 1, 1)],
             "3": [element(1, 50, 1)], "77": [element(500, 500, 500)]}  # fmt: skip
    for found in lists.values():
        for one in found:
            del one["Rels"]
    body = {label: json.dumps(found) for label, found in lists.items()}
    live.ok("POST", f"{made.syn()}/labels", json_body=body)
    for label, found in lists.items():
        assert made.get(f"label/{label}") == found
    assert made.get("all-elements") == {}
    made.edit("merge", [2, 1])
    assert made.at(2) == [[1, 1, 1], [9, 1, 1], [2, 60, 60]]
    assert made.at(1) == []
    new = made.edit("cleave/2", [1])["CleavedLabel"]
    assert made.at(new) == [[1, 1, 1], [2, 60, 60]]
    assert made.at(3) == [[1, 50, 1]], "listed by name, though it lies elsewhere"
    live.ok("POST", f"{made.syn()}/labels", json_body={str(new): "[]", "3": body["2"]})
    assert made.at(new) == []
    assert made.get("label/3") == made.get("label/2") == lists["2"]
    check_rebuilt(live, tmp_path)


def test_lists_stay_when_the_sync_is_removed(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1), element(9, 1, 1), element(17, 1, 1))
    made.edit("merge", [1, 2])
    live.ok("POST", f"{made.syn()}/sync?replace=true", json_body={"sync": ""})
    made.edit("merge", [1, 3])
    assert made.at(1) == [[1, 1, 1], [9, 1, 1]]
    assert made.at(3) == [[17, 1, 1]]
    live.ok("DELETE", f"{made.syn()}/element/1_1_1")
    assert made.at(1) == [[1, 1, 1], [9, 1, 1]], "without labels nobody knows where to look"
    live.ok("POST", f"{made.syn()}/sync", json_body={"sync": "seg"})
    assert made.at(1) == [[1, 1, 1], [9, 1, 1], [17, 1, 1]]
    live.ok("POST", f"{made.syn()}/reload")
    assert made.at(1) == [[9, 1, 1], [17, 1, 1]]


def test_posted_mappings_are_followed_after_a_reload(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1), element(9, 1, 1), element(17, 1, 1))
    live.ok("POST", f"{made.seg()}/mappings", mapping_ops({2: 1, 3: 4321}))
    assert made.at(1) == [[1, 1, 1]]
    assert made.at(2) == [[9, 1, 1]]
    live.ok("POST", f"{made.syn()}/reload")
    assert made.at(1) == [[1, 1, 1], [9, 1, 1]]
    assert made.at(2) == made.at(3) == []
    assert made.at(4321) == [[17, 1, 1]]
    made.post(element(18, 1, 1))
    assert made.at(4321) == [[17, 1, 1], [18, 1, 1]]
    live.ok("POST", f"{made.seg()}/mappings", mapping_ops({2: 2}))
    live.ok("POST", f"{made.syn()}/reload")
    assert made.at(2) == [[9, 1, 1]]
    assert made.at(1) == [[1, 1, 1]]


def test_reads_at_an_earlier_moment_show_elements_and_bodies_as_they_were(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1), element(9, 1, 1))
    answer = live.call("POST", f"{made.seg()}/merge", b"[1, 2]")
    merged = int(answer.headers["x-dvid-es-seq"])
    live.ok("POST", f"{made.syn()}/move/9_1_1/60_1_1")
    live.ok("DELETE", f"{made.syn()}/element/1_1_1")
    assert made.at(1) == []
    assert made.at(8) == [[60, 1, 1]]
    assert made.at(1, at=merged) == [[1, 1, 1], [9, 1, 1]]
    assert made.at(2, at=merged) == []
    assert made.at(2, at=merged - 1) == [[9, 1, 1]]
    assert [one["Pos"] for one in made.get("elements/99_9_9/0_0_0", at=merged)] == [
        [1, 1, 1],
        [9, 1, 1],
    ]


def test_elements_of_branches_meet_in_a_version_merge(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1, Tags=["t"]), element(2, 1, 1), element(3, 1, 1))
    live.commit(made.root)
    left, right = (
        live.ok("POST", f"/api/node/{made.root}/branch", json_body={"branch": name}).json()["child"]
        for name in ("left", "right")
    )
    made.post(element(4, 1, 1), element(2, 1, 1, "Gap"), uuid=left)
    live.ok("DELETE", f"{made.syn(left)}/element/1_1_1")
    made.post(element(5, 1, 1), element(3, 1, 1, "PreSyn"), uuid=right)
    made.edit("merge", [8, 1], uuid=right)
    for uuid in (left, right):
        live.commit(uuid)
    body = {"mergeType": "conflict-free", "parents": [left, right], "note": "both"}
    child = live.ok("POST", f"/api/repo/{made.root}/merge", json_body=body).json()["child"]
    # Both changed one block; what they changed are different elements of it.
    both = [(2, "Gap"), (3, "PreSyn"), (4, "Note"), (5, "Note")]
    found = made.get("label/8", child)
    assert [(one["Pos"][0], one["Kind"]) for one in found] == both
    assert {one["Pos"][0] for one in made.get("all-elements", child)["0,0,0"]} == {2, 3, 4, 5}
    assert made.get("tag/t", child) == []


def test_parents_that_disagree_about_an_element_are_told_and_can_be_settled(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1))
    live.commit(made.root)
    children = []
    for kind in ("Gap", "PreSyn"):
        body = {"branch": kind}
        uuid = live.ok("POST", f"/api/node/{made.root}/branch", json_body=body).json()["child"]
        made.post(element(1, 1, 1, kind), uuid=uuid)
        live.commit(uuid)
        children.append(uuid)
    body = {"mergeType": "conflict-free", "parents": children, "note": "no"}
    child = live.ok("POST", f"/api/repo/{made.root}/merge", json_body=body).json()["child"]
    assert made.get("elements/9_9_9/0_0_0", child) is None, "nobody can say which"
    made.post(element(1, 1, 1, "PostSyn"), uuid=child)
    assert [one["Kind"] for one in made.get("label/1", child)] == ["PostSyn"]
    body = {"parents": children[::-1], "data": ["syn"], "note": "settled"}
    settled = live.ok("POST", f"/api/repo/{made.root}/resolve", json_body=body).json()["child"]
    for path in ("elements/9_9_9/0_0_0", "label/1"):
        assert [one["Kind"] for one in made.get(path, settled)] == ["PreSyn"]


@pytest.mark.parametrize("typename", ["labelarray", "labelblk"])
def test_labels_that_are_bodies_themselves_are_followed(live: Any, typename: str) -> None:
    made = pair(live, None, typename)
    made.post(element(1, 1, 1), element(9, 1, 1), element(9, 40, 1))
    assert made.at(1) == []
    made.paint(slabs(), mutate=False)
    assert made.at(1) == [[1, 1, 1]]
    assert made.at(2) == [[9, 1, 1], [9, 40, 1]]
    changed = slabs()
    changed[:, 32:, 8:16] = 70
    made.paint(changed)
    assert made.at(2) == [[9, 1, 1]]
    assert made.at(70) == [[9, 40, 1]]
    if typename == "labelarray":
        made.edit("merge", [1, 70])
        assert made.at(1) == [[1, 1, 1], [9, 40, 1]]
        assert made.at(70) == []
        mask = np.zeros((64, 64, 64), bool)
        mask[:, 39:42, 8:16] = True
        split = live.ok("POST", f"{made.seg()}/split/1", blob_of(mask)).json()
        assert made.at(split["label"]) == [[9, 40, 1]]


def test_voxels_that_follow_a_labelvol_are_followed(live: Any) -> None:
    made = pair(live, None, "labelblk")
    live.new_instance(made.root, "labelvol", "bodies", BlockSize="32,32,32")
    bodies = f"/api/node/{made.root}/bodies"
    live.ok("POST", f"{bodies}/sync", json_body={"sync": "seg"})
    live.ok("POST", f"{made.seg()}/sync", json_body={"sync": "bodies"})
    made.paint(slabs(), mutate=False)
    made.post(element(1, 1, 1), element(9, 1, 1))
    live.ok("POST", f"{bodies}/merge", json_body=[1, 2])
    assert made.at(1) == [[1, 1, 1], [9, 1, 1]]
    assert made.at(2) == []


def test_split_voxels_take_their_elements_along(live: Any) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1), element(1, 50, 1))
    mask = np.zeros((64, 64, 64), bool)
    mask[:, :10, :8] = True
    halves = live.ok("POST", f"{made.seg()}/split-supervoxel/1", blob_of(mask)).json()
    assert made.at(1) == [[1, 1, 1], [1, 50, 1]]
    new = made.edit("cleave/1", [halves["SplitSupervoxel"]])["CleavedLabel"]
    assert made.at(new) == [[1, 1, 1]]
    assert made.at(1) == [[1, 50, 1]]


def test_elements_at_negative_places_have_the_labels_that_lie_there(live: Any) -> None:
    made = pair(live)
    volume = (
        np.arange(1, 9, dtype=np.uint64).reshape(2, 2, 2).repeat(16, 0).repeat(16, 1).repeat(16, 2)
    )
    path = f"{made.seg()}/raw/0_1_2/32_32_32/-32_-32_-32"
    made.post(element(-1, -1, -1))
    live.ok("POST", path, volume.tobytes())
    made.post(element(-32, -32, -32), element(-1, -32, -17))
    assert made.at(8) == [[-1, -1, -1]]
    assert made.at(1) == [[-32, -32, -32]]
    assert made.at(2) == [[-1, -32, -17]]


def test_unversioned_elements_are_listed_with_the_bodies_of_each_version(live: Any) -> None:
    made = pair(live, slabs())
    live.new_instance(made.root, "annotation", "loose", versioned="false")
    loose = f"/api/node/{made.root}/loose"
    live.ok("POST", f"{loose}/sync", json_body={"sync": "seg"})
    live.commit(made.root)
    child = live.new_version(made.root)
    live.ok("POST", f"{loose}/elements", json_body=[element(1, 1, 1), element(9, 1, 1)])
    made.edit("merge", [1, 2], uuid=child)
    below = f"/api/node/{child}/loose"
    assert len(live.ok("GET", f"{below}/label/1").json()) == 2
    assert len(live.ok("GET", f"{loose}/label/1").json()) == 1
    live.ok("DELETE", f"{below}/element/9_1_1")
    assert len(live.ok("GET", f"{loose}/all-elements").json()["0,0,0"]) == 1


class Counted:
    """A transaction that counts how often it is asked."""

    def __init__(self, txn: ReadTxn) -> None:
        self.txn, self.count = txn, 0

    def seek(self, start: bytes) -> Any:
        self.count += 1
        return self.txn.seek(start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.txn, name)


def test_a_list_of_a_body_of_many_supervoxels_costs_what_it_lists(live: Any) -> None:
    made = pair(live, slabs(1))
    made.post(*(element(x, y, 3) for x in (5, 30, 31, 60) for y in (1, 2)))
    stream = live.engine.streams.all()[0]
    with live.engine.store.read(made.root, stream.packs) as txn:
        instance = txn.repo.names["syn"]
        counted = Counted(txn)
        svs = np.arange(1, 100_001, dtype=np.uint64)
        found = list(reads.entries_of_supervoxels(counted, instance.id, txn.view(1), svs))  # type: ignore[arg-type]
        assert [rows.point_of(point)[::-1] for point, _ in found] == [
            (x, y, 3) for x in (5, 30, 31, 60) for y in (1, 2)
        ]
        assert counted.count < 12, "it leaps over supervoxels without elements"


def test_a_list_below_a_version_merge_leaps_too(live: Any) -> None:
    made = pair(live, slabs(1))
    made.post(*(element(x, 1, 3) for x in (5, 30, 31, 60)))
    live.commit(made.root)
    children = [
        live.ok("POST", f"/api/node/{made.root}/branch", json_body={"branch": name}).json()["child"]
        for name in ("left", "right")
    ]
    for x, uuid in zip((7, 33), children, strict=True):
        made.post(element(x, 1, 3), uuid=uuid)
        live.commit(uuid)
    body = {"mergeType": "conflict-free", "parents": children, "note": "both"}
    child = live.ok("POST", f"/api/repo/{made.root}/merge", json_body=body).json()["child"]
    stream = live.engine.streams.get(made.root)
    with live.engine.store.read(made.root, stream.packs) as txn:
        instance, version = txn.repo.names["syn"], txn.repo.graph.by_uuid[child].id
        counted = Counted(txn)
        svs = np.arange(1, 100_001, dtype=np.uint64)
        found = list(reads.entries_of_supervoxels(counted, instance.id, txn.view(version), svs))  # type: ignore[arg-type]
    assert [rows.point_of(point)[2] for point, _ in found] == [5, 7, 30, 31, 33, 60]
    assert counted.count < 20


def test_relationships_are_shown_with_what_is_known_of_partners(live: Any) -> None:
    made = pair(live, slabs())
    made.post(
        element(1, 1, 1, "PreSyn", Rels=[{"Rel": "PreSynTo", "To": [40, 1, 1]},
                                         {"Rel": "GroupedWith", "To": [0, 0, 9]}]),
        element(40, 1, 1, "PostSyn", Tags=["<t>"], Prop={"b": "2", "a": "1"}),
    )  # fmt: skip
    assert texts(live.ok("GET", f"{made.syn()}/label/1?relationships=verbose")) == (
        '[{"Pos":[1,1,1],"Kind":"PreSyn","Tags":[],"Prop":{},"Rels":[{"Rel":"PreSynTo","To":[40,1,1],'
        '"Kind":"PostSyn","Tags":["\\u003ct\\u003e"],"Prop":{"a":"1","b":"2"}},'
        '{"Rel":"GroupedWith","To":[0,0,9]}]}]'
    )


def test_everything_of_a_version_can_be_deleted(live: Any, tmp_path: Path) -> None:
    made = pair(live, slabs())
    made.post(element(1, 1, 1, Tags=["t"]), element(40, 1, 1))
    live.commit(made.root)
    child = live.new_version(made.root)
    live.ok("POST", f"{made.syn(child)}/delete-all")
    assert made.get("all-elements", child) == {}
    assert made.get("scan", child)["num kv pairs"] == 0
    assert made.get("tag/t", child) == made.get("label/1", child) == []
    assert made.at(1) == [[1, 1, 1]]
    check_rebuilt(live, tmp_path)


def test_one_sided_relationships_go_with_what_they_lead_to(live: Any) -> None:
    made: Pair = pair(live)
    rels = [{"Rel": "PostSynTo", "To": [1, 1, 1]}]
    made.post(element(1, 1, 1), element(100, 1, 1, Rels=rels), element(2, 2, 2, Rels=rels))
    live.ok("POST", f"{made.syn()}/move/1_1_1/300_1_1")
    for path in ("elements/1_1_1/100_1_1", "elements/1_1_1/2_2_2"):
        assert made.get(path)[0]["Rels"] == [{"Rel": "PostSynTo", "To": [300, 1, 1]}]
    live.ok("DELETE", f"{made.syn()}/element/300_1_1")
    for path in ("elements/1_1_1/100_1_1", "elements/1_1_1/2_2_2"):
        assert made.get(path)[0]["Rels"] == []


def test_a_block_keeps_the_order_in_which_its_elements_came(live: Any) -> None:
    made = pair(live)

    def order() -> list[int]:
        return [one["Pos"][0] for one in made.get("blocks/9_9_9/0_0_0")["0,0,0"]]

    made.post(element(9, 1, 1), element(3, 1, 1))
    made.post(element(7, 1, 1), element(9, 1, 1, "Gap"), element(1, 1, 1))
    assert order() == [9, 3, 7, 1]
    live.ok("DELETE", f"{made.syn()}/element/9_1_1")
    assert order() == [1, 3, 7], "the last one takes the place of one that is deleted, as in DVID"
    live.ok("POST", f"{made.syn()}/move/3_1_1/20_1_1")
    assert order() == [1, 20, 7]
