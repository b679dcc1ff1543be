"""Splits that are refused change nothing; splits that others come in between are made again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.splits import endpoints as endpoints_splits
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import Model, check_version, mapping_ops


@pytest.fixture
def root(live: Any) -> str:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    oracle.Segmentation(live, root).post(cases.volume_a())
    live.ok("POST", f"/api/node/{root}/seg/mappings", mapping_ops({8888: 0, 9999: 4}))
    return root


GOOD = cases.body_of([(75, 40, 60, 8)])
ALL_OF_4 = cases.box_runs(range(75, 95), range(40, 60), range(60, 90))
REFUSED = [
    ("4", cases.body_of([])), ("4", b""), ("4", GOOD[:11]), ("4", GOOD[:-1]), ("4", b"\1" + GOOD[1:]),
    ("4", cases.body_of([(75, 40, 60, 8)], spans=2)), ("4", cases.body_of([(75, 40, 60, 0)])),
    ("4", cases.body_of([(75, 40, 60, -1)])), ("4", cases.body_of(ALL_OF_4)),
    ("4", cases.body_of([], spans=2**32 - 1)), ("4", cases.body_of([(75, 40, 60, 2**31 - 90)])),
    ("4", cases.body_of([(2**31 - 4, 40, 60, 8)])), ("4", cases.body_of([(70, 40, 60, 8)])),
    ("4", cases.body_of([(75, 40, 60, 8), (0, 0, 0, 1)])),
    ("4", cases.body_of([(75, 40, 60, 8), (20, 50, 20, 1)])),
    ("4", cases.body_of([(75, 40, 60, 8), (-200, 0, 0, 1)])),
    ("4", cases.body_of([(75, 40, 60, 8), (80, 40, 60, 8)])),
    ("4", cases.body_of([(75, 40, 60, 8), (75, 40, 60, 8)])),
    ("0", GOOD), ("x", GOOD), ("", GOOD), ("77", GOOD), ("3", GOOD), ("8888", GOOD), ("9999", GOOD),
    ("4?split=x", GOOD), ("4?remain=-1", GOOD), ("4?split=7&remain=7", GOOD),
    ("4?split=3", GOOD), ("4?remain=4", GOOD), ("4?split=9999", GOOD), ("4?remain=8888", GOOD),
    (f"4?split={2**64 - 1}", GOOD), (f"4?split={2**64}", GOOD),
]  # fmt: skip


def test_refused_splits_leave_everything_as_it_was(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    before = cases.state(live)
    for path, body in REFUSED:
        answer = live.call("POST", f"{node}/split-supervoxel/{path}".rstrip("/"), body)
        assert answer.status == 400, f"{path} {body[:40]!r}: {answer.status} {answer.body!r}"
        assert answer.body.endswith(b").\n"), "a message with the path"
        assert cases.state(live) == before, f"{path} {body[:40]!r} changed something"
    for method in ("GET", "PUT", "DELETE"):
        assert live.call(method, f"{node}/split-supervoxel/4").status == 400
    made = live.ok("POST", f"{node}/split-supervoxel/4", GOOD).json()
    assert made == {"SplitSupervoxel": 5, "RemainSupervoxel": 6, "MutationID": 1_000_000_001}


def test_an_instance_without_indices_splits_nothing(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", IndexedLabels="false", BlockSize="32,32,32")
    oracle.Segmentation(live, root).post(cases.volume_a())
    assert live.call("POST", f"/api/node/{root}/seg/split-supervoxel/4", GOOD).status == 400


def test_a_dry_run_of_a_split_changes_nothing(live: Any, root: str) -> None:
    before = cases.state(live)
    answer = live.call("POST", f"/api/node/{root}/seg/split-supervoxel/4?dryrun=true", GOOD)
    assert answer.status == 200
    assert cases.state(live) == before


def meanwhile(live: Any, monkeypatch: pytest.MonkeyPatch, *requests: tuple[str, bytes]) -> None:
    """Let each preparation of a split be followed by one of these before it is decided."""
    rewrite = endpoints_splits._rewrite
    waiting = list(requests)

    async def late(*args: Any) -> Any:
        made = await rewrite(*args)
        if waiting:
            path, body = waiting.pop(0)
            await asyncio.to_thread(live.ok, "POST", path, body)
        return made

    monkeypatch.setattr(endpoints_splits, "_rewrite", late)


def test_labels_that_others_take_meanwhile_are_not_used(
    live: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = f"/api/node/{root}/seg"
    meanwhile(live, monkeypatch, (f"{node}/nextlabel/5", b""), (f"{node}/nextlabel/5", b""))
    model = Model(cases.volume_a())
    model.mapping.update({8888: 0, 9999: 4})
    mask = cases.part_of_4()
    answer = live.ok("POST", f"{node}/split-supervoxel/4", cases.blob_of(mask)).json()
    assert (answer["SplitSupervoxel"], answer["RemainSupervoxel"]) == (10, 11)
    cases.split_supervoxel(model, 4, mask, answer)
    check_version(live, node, model, [5, 6])
    cases.check_scales(live, root, model.volume, 1)


def test_voxels_that_others_write_meanwhile_are_kept(
    live: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = f"/api/node/{root}/seg"
    volume = cases.volume_a()
    volume[64:96, 32:64, 64:96][:8, :16, :12] = 4
    block = np.ascontiguousarray(volume[64:96, 32:64, 64:96])
    path = f"{node}/raw/0_1_2/32_32_32/64_32_64"
    meanwhile(live, monkeypatch, (path, block.tobytes()))
    model = Model(volume)
    model.mapping.update({8888: 0, 9999: 4})
    mask = cases.part_of_4()
    answer = live.ok("POST", f"{node}/split-supervoxel/4", cases.blob_of(mask)).json()
    cases.split_supervoxel(model, 4, mask, answer)
    check_version(live, node, model, [5, 6])
    cases.check_scales(live, root, model.volume, 1)


def test_a_split_of_what_others_split_meanwhile_is_refused(
    live: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/node/{root}/seg/split-supervoxel/4"
    meanwhile(live, monkeypatch, (path, GOOD))
    assert live.call("POST", path, cases.blob_of(cases.part_of_4())).status == 400
    seen = oracle.Segmentation(live, root)
    assert seen.labels([[75, 40, 60], [75, 40, 85]], supervoxels="true") == [5, 6]


def test_splits_of_many_clients_in_the_same_blocks_all_happen(live: Any, root: str) -> None:
    node = f"/api/node/{root}/seg"
    boxes = {
        1: (slice(10, 40), slice(40, 60), slice(10, 30)),
        2: (slice(40, 60), slice(20, 45), slice(30, 80)),
        3: (slice(10, 40), slice(40, 50), slice(40, 60)),
        4: (slice(60, 75), slice(40, 60), slice(75, 95)),
    }
    model = Model(cases.volume_a())
    model.mapping.update({8888: 0, 9999: 4})
    answers: dict[int, Any] = {}
    masks = {}
    for sv, box in boxes.items():
        masks[sv] = np.zeros(model.volume.shape, bool)
        masks[sv][box] = True

    def split(sv: int) -> None:
        path = f"{node}/split-supervoxel/{sv}"
        answers[sv] = live.ok("POST", path, cases.blob_of(masks[sv])).json()

    threads = [threading.Thread(target=split, args=(sv,)) for sv in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sv, answer in answers.items():
        cases.split_supervoxel(model, sv, masks[sv], answer)
    assert len(answers) == 4
    check_version(live, node, model, [])
    cases.check_scales(live, root, model.volume, 1)
