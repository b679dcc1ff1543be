"""Supervoxels that are split in two: the parts stay in the body."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import messages_pb2
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import (
    Model,
    check_version,
    decode_runs,
    index_message,
    mapping_ops,
)


@pytest.fixture
def root(live: Any) -> str:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    oracle.Segmentation(live, root).post(cases.volume_a())
    return root


@pytest.mark.parametrize("merged", [False, True])
def test_a_split_rewrites_voxels_and_leaves_the_body_as_it_was(
    live: Any, root: str, merged: bool
) -> None:
    node = f"/api/node/{root}/seg"
    body, model = 4, Model(cases.volume_a())
    if merged:
        made = live.ok("POST", f"{node}/merge", json_body=[3, 4]).json()
        model.merge(3, [4], made["MutationID"])
        body = 3
    whole = live.ok("GET", f"{node}/sparsevol/{body}").body
    seen = oracle.Segmentation(live, root).read((128, 128, 128))
    mask = cases.part_of_4()
    path = f"{node}/split-supervoxel/4?u=ann&app=neu3"
    answer = live.ok("POST", path, cases.blob_of(mask)).json()
    number = 1_000_000_001 + merged
    assert answer == {"SplitSupervoxel": 5, "RemainSupervoxel": 6, "MutationID": number}
    assert live.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 6}
    assert np.array_equal(oracle.Segmentation(live, root).read((128, 128, 128)), seen)
    assert live.ok("GET", f"{node}/sparsevol/{body}").body == whole
    cases.split_supervoxel(model, 4, mask, answer)
    cases.check_scales(live, root, model.volume, 2)
    assert live.call("GET", f"{node}/size/4?supervoxels=true").status == 400
    sizes = live.ok("GET", f"{node}/sizes?supervoxels=true", json_body=[4, 5, 6]).json()
    assert sizes == [0, 3989, 8011]
    part = live.ok("GET", f"{node}/sparsevol/5?supervoxels=true").body
    assert np.array_equal(decode_runs(part, mask.shape), mask)
    check_version(live, node, model, [4, 5, 6])


def test_a_retired_supervoxel_cannot_be_split_again(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    body = cases.blob_of(cases.part_of_4())
    live.ok("POST", f"{node}/split-supervoxel/4", body)
    before = cases.state(live)
    assert live.call("POST", f"{node}/split-supervoxel/4", body).status == 400
    assert cases.state(live) == before


def test_chosen_labels_are_used_and_raise_the_highest_one(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    body = cases.blob_of(cases.part_of_4())
    path = f"{node}/split-supervoxel/4?split=189417&remain=8506273"
    answer = live.ok("POST", path, body).json()
    assert (answer["SplitSupervoxel"], answer["RemainSupervoxel"]) == (189417, 8506273)
    assert live.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 8506273}
    assert live.ok("GET", f"{node}/nextlabel").json() == {"nextlabel": 8506274}


@pytest.mark.parametrize(
    ("query", "expected"),
    [("split=5", (5, 6)), ("remain=5", (6, 5)), ("split=9", (9, 10)), ("remain=9", (5, 9))],
)
def test_the_label_that_is_not_chosen_is_a_new_one(
    live: Any, root: str, query: str, expected: tuple[int, int]
) -> None:
    node = f"/api/node/{root}/seg"
    body = cases.blob_of(cases.part_of_4())
    answer = live.ok("POST", f"{node}/split-supervoxel/4?{query}", body).json()
    assert (answer["SplitSupervoxel"], answer["RemainSupervoxel"]) == expected
    after = live.ok("GET", f"{node}/nextlabel").json()["nextlabel"]
    assert after == max(*expected) + 1


def test_labels_of_splits_come_from_the_counter_that_was_set(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    live.ok("POST", f"{node}/set-nextlabel/100?admintoken=secret")
    body = cases.blob_of(cases.part_of_4())
    answer = live.ok("POST", f"{node}/split-supervoxel/4?split=101", body).json()
    assert (answer["SplitSupervoxel"], answer["RemainSupervoxel"]) == (101, 102)
    assert live.ok("GET", f"{node}/nextlabel").json() == {"nextlabel": 103}


def test_lower_scales_stay_if_the_request_says_so(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    mask = cases.part_of_4()
    live.ok("POST", f"{node}/split-supervoxel/4?downres=false", cases.blob_of(mask))
    before = cases.volume_a()
    seen = oracle.Segmentation(live, root)
    volume = seen.read((128, 128, 128), supervoxels="true")
    assert np.array_equal(np.unique(volume[before == 4]), [5, 6])
    lower = oracle.halved(before)
    for scale in (1, 2):
        got = seen.read(lower.shape, supervoxels="true", scale=str(scale))
        assert np.array_equal(got, lower)
        lower = oracle.halved(lower)


def test_splits_are_listed_under_the_version_that_made_them(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    live.ok("POST", f"{node}/split-supervoxel/4", cases.blob_of(cases.part_of_4()))
    live.commit(root)
    child = live.new_version(root)
    expected = [root, [[1_000_000_001, 4, 6, 5]]]
    for uuid in (root, child):
        assert live.ok("GET", f"/api/node/{uuid}/seg/supervoxel-splits").json() == expected


def test_a_child_version_splits_what_it_inherits_and_the_parent_keeps_it(
    live: Any, root: str
) -> None:
    live.commit(root)
    child = live.new_version(root)
    parent, below = Model(cases.volume_a()), Model(cases.volume_a())
    mask = cases.part_of_4()
    path = f"/api/node/{child}/seg/split-supervoxel/4"
    answer = live.ok("POST", path, cases.blob_of(mask)).json()
    cases.split_supervoxel(below, 4, mask, answer)
    for uuid, model in ((root, parent), (child, below)):
        check_version(live, f"/api/node/{uuid}/seg", model, [4, 5, 6])
        cases.check_scales(live, uuid, model.volume, 2)
    assert live.call("POST", path.replace(child, root), cases.blob_of(mask)).status == 400


def test_the_record_of_a_split_says_what_happened_and_where_its_runs_are(
    live: Any, root: str
) -> None:
    node = f"/api/node/{root}/seg"
    body = cases.blob_of(cases.part_of_4())
    live.ok("POST", f"{node}/split-supervoxel/4?u=ann&app=neu3", body)
    (record,) = live.ok("GET", f"{node}/mutations").json()
    del record["Timestamp"]
    name = record.pop("Split")
    assert record == {
        "Action": "split-supervoxel-complete", "UUID": root, "MutationID": 1_000_000_001,
        "User": "ann", "App": "neu3", "Supervoxel": 4, "Body": 4, "SplitSupervoxel": 5,
        "RemainSupervoxel": 6, "SplitSize": 3989, "RemainSize": 8011,
    }  # fmt: skip
    assert len(base64.urlsafe_b64decode(name)) == 16
    assert live.ok("GET", f"{node}/blobstore/{name}").body == body[12:]


def test_a_split_works_in_the_negative_octant(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    seen = oracle.Segmentation(live, root)
    volume = np.full((64, 64, 64), 7, np.uint64)
    seen.post(volume, (-64, -64, -64))
    runs = cases.box_runs(range(-40, -20), range(-35, -30), range(-64, -60))
    answer = live.ok("POST", f"{seen.node}/split-supervoxel/7", cases.body_of(runs)).json()
    volume[:] = answer["RemainSupervoxel"]
    volume[0:4, 29:34, 24:44] = answer["SplitSupervoxel"]
    got = seen.read((64, 64, 64), (-64, -64, -64), supervoxels="true")
    assert np.array_equal(got, volume)
    lower = seen.read((32, 32, 32), (-32, -32, -32), supervoxels="true", scale="1")
    assert np.array_equal(lower, oracle.halved(volume))


def test_the_parts_of_a_supervoxel_can_be_cleaved_apart(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    live.ok("POST", f"{node}/split-supervoxel/4", cases.blob_of(cases.part_of_4()))
    made = live.ok("POST", f"{node}/cleave/4", json_body=[5]).json()["CleavedLabel"]
    assert live.ok("GET", f"{node}/sizes", json_body=[4, made]).json() == [8011, 3989]


def test_an_imported_supervoxel_is_split_although_its_voxels_were_never_indexed(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    node = f"/api/node/{root}/seg"
    model = Model(cases.volume_a())
    stream = oracle.stream(model.volume, (0, 0, 0), 32)
    live.ok("POST", f"{node}/ingest-supervoxels", stream)
    model.bodies = {1: {1, 2}, 30: {3, 4}}
    message = messages_pb2.LabelIndices()
    for label, svs in model.bodies.items():
        message.indices.append(index_message(label, model.blocks(svs)))
    live.ok("POST", f"{node}/indices", message.SerializeToString())
    model.mapping = {1: 1, 2: 1, 3: 30, 4: 30}
    live.ok("POST", f"{node}/mappings", mapping_ops(model.mapping))
    mask = cases.part_of_4()
    answer = live.ok("POST", f"{node}/split-supervoxel/4", cases.blob_of(mask)).json()
    assert (answer["SplitSupervoxel"], answer["RemainSupervoxel"]) == (31, 32)
    cases.split_supervoxel(model, 4, mask, answer)
    check_version(live, node, model, [4, 31, 32])
    live.ok("POST", f"{node}/split-supervoxel/1", cases.body_of([(10, 40, 10, 20)]))
    assert live.ok("GET", f"{node}/size/1").json() == {"voxels": 82000}


def test_a_label_that_only_unindexed_voxels_have_is_not_given_to_a_part(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    seen = oracle.Segmentation(live, root)
    volume = np.ones((32, 32, 32), np.uint64)
    volume[:2] = 3
    live.ok("POST", f"{seen.node}/blocks?noindexing=true", oracle.stream(volume, (1, 0, 0), 32))
    seen.post(np.ones((32, 32, 32), np.uint64))
    index = index_message(1, {(0, 0, 0): {1: 32768}, (0, 0, 1): {1: 30720}})
    live.ok("POST", f"{seen.node}/index/1", index.SerializeToString())
    path = f"{seen.node}/split-supervoxel/1"
    before = cases.state(live)
    body = cases.body_of([(30, 5, 5, 4)])
    assert live.call("POST", f"{path}?split=3", body).status == 400
    assert cases.state(live) == before
    assert live.ok("POST", path, body).json()["SplitSupervoxel"] == 4
