"""Bodies that lose any of their voxels to a new body."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import izyx, messages_pb2
from dvid_es.settings import Settings
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import Model, check_version, decode_runs

Counts = dict[tuple[int, int, int], dict[int, int]]


@pytest.fixture
def splitting(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    """A server that is configured to split bodies."""
    found = Settings(data=tmp_path / "splitting", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


def counts_of(live: Any, node: str, label: int) -> Counts:
    """Voxels of each supervoxel in each block (XYZ)."""
    index = messages_pb2.LabelIndex()
    index.ParseFromString(live.ok("GET", f"{node}/index/{label}").body)
    return {
        tuple(izyx.unpack_key(key)[::-1]): dict(value.counts) for key, value in index.blocks.items()
    }


def arbitrary(live: Any) -> str:
    """Supervoxels 1000 and 2000 in blocks of 64^3."""
    volume = np.zeros((128, 128, 128), np.uint64)
    volume[32:96, 32:96, 32:96] = 1000
    volume[32:96, 96:112, 32:112] = 2000
    volume[32:96, 32:96, 96:112] = 2000
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="64,64,64", MaxDownresLevel="1")
    oracle.Segmentation(live, root).post(volume)
    return f"/api/node/{root}/seg"


ARBITRARY = (
    cases.box_runs(range(56, 96), range(32, 64), range(32, 96))
    + cases.box_runs(range(50, 60), range(64, 74), range(32, 42))
    + cases.box_runs(range(80, 88), range(64, 100), range(32, 48))
)


def test_a_split_is_refused_unless_the_server_is_configured_for_it(live: Any) -> None:
    node = arbitrary(live)
    before = cases.state(live)
    body = cases.body_of([(56, 32, 32, 4)])
    answer = live.call("POST", f"{node}/split/1000", body)
    assert answer.status == 400
    assert b"deactivated" in answer.body
    assert cases.state(live) == before


def test_a_split_across_two_supervoxels_moves_the_counts_of_each_block(splitting: Any) -> None:
    node = arbitrary(splitting)
    splitting.ok("POST", f"{node}/merge", json_body=[1000, 2000])
    before = counts_of(splitting, node, 1000)
    assert before[1, 1, 0] == {1000: 32768, 2000: 40960}
    answer = splitting.ok("POST", f"{node}/split/1000", cases.body_of(ARBITRARY)).json()
    assert answer == {"label": 2001, "MutationID": 1_000_000_002}
    (_, listed) = splitting.ok("GET", f"{node}/supervoxel-splits").json()
    parts = {sv: (split, remain) for _, sv, remain, split in listed}
    (split_1, remain_1), (split_2, remain_2) = parts[1000], parts[2000]
    made = counts_of(splitting, node, 2001)
    assert made == {
        (0, 0, 0): {split_1: 8192}, (1, 0, 0): {split_1: 32768}, (0, 1, 0): {split_1: 1000},
        (1, 1, 0): {split_1: 4096, split_2: 512}, (0, 0, 1): {split_1: 8192},
        (1, 0, 1): {split_1: 32768},
    }  # fmt: skip
    left = counts_of(splitting, node, 1000)
    assert left[1, 1, 0] == {remain_1: 28672, remain_2: 40448}
    for block, counts in before.items():
        for sv, (split, remain) in parts.items():
            taken = made.get(block, {}).get(split, 0)
            assert left.get(block, {}).get(remain, 0) == counts.get(sv, 0) - taken


def test_a_supervoxel_split_outside_of_it_fails_and_the_valid_one_counts_right(live: Any) -> None:
    node = arbitrary(live)
    before = cases.state(live)
    outside = ARBITRARY[: 32 * 64] + ARBITRARY[-36 * 16 :]
    path = f"{node}/split-supervoxel/2000"
    assert live.call("POST", path, cases.body_of(outside)).status == 400
    assert cases.state(live) == before
    runs = cases.box_runs(range(96, 112), range(32, 96), range(32, 96))
    live.ok("POST", f"{path}?split=189417&remain=8506273", cases.body_of(runs))
    expected: Counts = {}
    for z in (0, 1):
        expected[1, 0, z] = {189417: 16384}
        expected[0, 1, z] = {8506273: 16384}
        expected[1, 1, z] = {189417: 16384, 8506273: 24576}
    assert counts_of(live, node, 2000) == expected


def test_a_body_of_one_supervoxel_is_split(splitting: Any) -> None:
    root = splitting.new_repo()
    splitting.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    oracle.Segmentation(splitting, root).post(cases.volume_a())
    node = f"/api/node/{root}/seg"
    mask = cases.part_of_4()
    answer = splitting.ok("POST", f"{node}/split/4", cases.blob_of(mask)).json()
    assert answer["label"] == 5
    assert splitting.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 7}
    left = (cases.volume_a() == 4) & ~mask
    for label, expected in ((4, left), (5, mask)):
        got = splitting.ok("GET", f"{node}/sparsevol/{label}").body
        assert np.array_equal(decode_runs(got, mask.shape), expected)
    splits = splitting.ok("GET", f"{node}/supervoxel-splits").json()
    assert splits == [root, [[1_000_000_001, 4, 7, 6]]]
    (record,) = splitting.ok("GET", f"{node}/mutations").json()
    assert record["Action"] == "split-complete"
    assert (record["Target"], record["NewLabel"]) == (4, 5)
    assert record["SVSplits"] == {"4": {"Split": 6, "Remain": 7}}
    model = Model(cases.volume_a())
    cases.split_body(model, 4, mask, answer, {4: (6, 7)})
    check_version(splitting, node, model, [4, 5, 6, 7])
    cases.check_scales(splitting, root, model.volume, 2)


def test_a_supervoxel_that_is_split_off_whole_leaves_a_ghost(splitting: Any) -> None:
    root = splitting.new_repo()
    splitting.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    oracle.Segmentation(splitting, root).post(cases.volume_a())
    node = f"/api/node/{root}/seg"
    model = Model(cases.volume_a())
    merged = splitting.ok("POST", f"{node}/merge", json_body=[3, 4]).json()
    model.merge(3, [4], merged["MutationID"])
    mask = cases.volume_a() == 4
    mask[0, 0, :5] = True  # background, passed over
    answer = splitting.ok("POST", f"{node}/split/3", cases.blob_of(mask)).json()
    assert answer["label"] == 5
    cases.split_body(model, 3, mask, answer, {4: (6, 7)})
    check_version(splitting, node, model, [5, 6, 7])
    assert splitting.ok("GET", f"{node}/mapping", json_body=[7]).json() == [3]
    assert splitting.ok("GET", f"{node}/supervoxels/3").json() == [3], "the ghost has no voxels"
    head, get = (splitting.call(m, f"{node}/sparsevol/7?supervoxels=true") for m in ("HEAD", "GET"))
    assert (head.status, get.status) == (200, 404), "HEAD asks for the body of a supervoxel"
    cleaved = splitting.ok("POST", f"{node}/cleave/3", json_body=[7]).json()["CleavedLabel"]
    assert splitting.ok("GET", f"{node}/mapping", json_body=[7]).json() == [cleaved]


def test_parts_are_numbered_in_the_order_in_which_the_runs_meet_supervoxels(splitting: Any) -> None:
    root = splitting.new_repo()
    splitting.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    volume = np.repeat(np.arange(4, dtype=np.uint64), 8)[None, None].repeat(32, 0).repeat(32, 1)
    oracle.Segmentation(splitting, root).post(np.ascontiguousarray(volume))
    node = f"/api/node/{root}/seg"
    splitting.ok("POST", f"{node}/merge", json_body=[1, 2, 3])
    runs = cases.body_of([(24, 0, 0, 4), (8, 0, 0, 4), (16, 0, 0, 4)])
    assert splitting.ok("POST", f"{node}/split/1", runs).json()["label"] == 4
    splits = splitting.ok("GET", f"{node}/mutations").json()[-1]["SVSplits"]
    assert {int(sv): parts["Split"] for sv, parts in splits.items()} == {3: 5, 1: 7, 2: 9}


def test_refused_splits_of_bodies_change_nothing(splitting: Any) -> None:
    node = arbitrary(splitting)
    splitting.ok("POST", f"{node}/merge", json_body=[1000, 2000])
    whole = cases.box_runs(range(32, 96), range(32, 96), range(32, 96))
    good = cases.body_of([(40, 40, 40, 8)])
    refused = [
        ("1000", cases.body_of([])), ("1000", b""), ("1000", b"\1" + good[1:]), ("0", good),
        ("77", good), ("2000", good), ("x", good), ("", good), ("1000", good[:-1]),
        ("1000", cases.body_of([(40, 40, 40, 8), (44, 40, 40, 8)])),
        ("1000", cases.body_of([(0, 0, 0, 8)])), ("1000", cases.body_of([(200, 0, 0, 8)])),
        ("1000", cases.body_of([(40, 40, 40, 0)])), ("1000", cases.body_of([(40, 40, 40, -8)])),
        ("1000", cases.body_of([(40, 40, 40, 2**31 - 100)])),
        ("1000", cases.body_of(cases.box_runs(range(112), range(112), range(112)))),
    ]  # fmt: skip
    live_before = cases.state(splitting)
    for label, body in refused:
        answer = splitting.call("POST", f"{node}/split/{label}".rstrip("/"), body)
        assert answer.status == 400, (label, answer.body)
        assert cases.state(splitting) == live_before, label
    made = splitting.ok("POST", f"{node}/split/1000", cases.body_of(whole)).json()
    assert made == {"label": 2001, "MutationID": 1_000_000_002}, "no id was spent"


def test_voxels_of_another_body_cannot_be_split_off(splitting: Any) -> None:
    node = arbitrary(splitting)
    before = cases.state(splitting)
    answer = splitting.call("POST", f"{node}/split/1000", cases.body_of([(90, 40, 40, 10)]))
    assert answer.status == 400
    assert cases.state(splitting) == before
