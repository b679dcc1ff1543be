"""Checks of an instance find every kind of damaged row, and repair puts it right from the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap import VOXEL_ROWS
from dvid_es.datatypes.labelmap.bodies import bodysets
from dvid_es.datatypes.labelmap.fsck import bodies as fsck_bodies
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.projections.catalog import instance_key
from dvid_es.versions import row_suffix
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import mapping_ops

SHAPE = (64, 64, 64)
BOX = "box:0,0,0,64,64,64"


@pytest.fixture
def root(live: Any) -> str:
    root: str = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    volume = oracle.cells(SHAPE, 12, 5)
    live.ok("POST", f"{seg(root)}/raw/0_1_2/64_64_64/0_0_0?downres=true", volume.tobytes())
    live.ok("POST", f"{seg(root)}/merge", json_body=[1, 2, 3])
    live.ok("POST", f"{seg(root)}/merge", json_body=[4, 5])
    live.ok("POST", f"{seg(root)}/cleave/1", json_body=[2])
    return root


def seg(uuid: str) -> str:
    return f"/api/node/{uuid}/seg"


def finished(live: Any, path: str) -> dict[str, Any]:
    job = live.call("POST", path)
    assert job.status == 202, job.text
    ended = live.ok("GET", f"/api/server/jobs/{job.json()['id']}?wait=60").json()
    assert ended["state"] == "done", ended
    result: dict[str, Any] = ended["result"]
    return result


def checked(live: Any, uuid: str) -> dict[str, Any]:
    return finished(live, f"{seg(uuid)}/fsck?deep=true")


def instance_of(live: Any, root: str) -> int:
    number: int = live.engine.streams.get(root).repo.names["seg"].id
    return number


def overwrite(
    live: Any, root: str, kind: int, key: bytes, change: Callable[[bytes], bytes]
) -> None:
    """Damage the newest row of a key behind the server's back."""
    stream = live.engine.streams.get(root)
    with live.engine.store.write() as batch:
        txn = batch.scope(root, stream.repo, stream.packs)
        row, value = txn.seek(instance_key(instance_of(live, root), kind) + key)
        assert row.startswith(instance_key(instance_of(live, root), kind) + key)
        damaged = change(value)
        assert damaged != value
        txn.put(row, damaged)


def label(number: int) -> bytes:
    return number.to_bytes(8, "big")


def flip_last(value: bytes) -> bytes:
    return value[:-4] + bytes((value[-4] ^ 1,)) + value[-3:]


def test_an_instance_that_was_edited_in_all_ways_has_no_findings(live: Any, root: str) -> None:
    live.ok("POST", f"{seg(root)}/split-supervoxel/6", split_of_6(live, root))
    live.ok("POST", f"{seg(root)}/renumber", json_body=[500, 1])
    new = oracle.cells((32, 64, 64), 7, 3, first=600)
    live.ok("POST", f"{seg(root)}/raw/0_1_2/64_64_32/0_0_0?mutate=true&downres=true", new.tobytes())
    found = checked(live, root)
    assert (found["errors"], found["warnings"], found["findings"]) == (0, 0, [])
    looked = found["checked"]
    assert looked["blocks"] == 8
    assert looked["blocks of lower scales"] == 1
    volume = np.frombuffer(
        live.ok("GET", f"{seg(root)}/raw/0_1_2/64_64_64/0_0_0?supervoxels=true").body, "<u8"
    )
    assert looked["supervoxels of bodies"] == len(np.unique(volume[volume != 0]))


def split_of_6(live: Any, root: str) -> bytes:
    volume = np.frombuffer(
        live.ok("GET", f"{seg(root)}/raw/0_1_2/64_64_64/0_0_0?supervoxels=true").body, "<u8"
    ).reshape(SHAPE)
    z, y, x = (int(side[0]) for side in np.nonzero(volume == 6))
    head = bytes((0, 3, 0, 0)) + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    return head + np.array([x, y, z, 1], "<i4").tobytes()


DAMAGES: list[tuple[str, int, bytes, Callable[[bytes], bytes], str, str]] = [
    ("a total", svindex.TOTALS, label(1), flip_last, "supervoxel index", "body:1"),
    ("a region of the index", svindex.REGIONS, label(3), flip_last, "supervoxel index", "body:1"),
    ("a lost region", svindex.REGIONS, label(3), lambda _: b"", "supervoxel index", "body:1"),
    ("the size of a body", bodysets.BODIES, label(1),
     lambda value: value[:12] + b"\x07" + value[13:], "bodies", "body:1"),
    ("a lost body", bodysets.BODIES, label(1), lambda _: b"", "bodies", "body:1"),
    ("a mapping", mapping.ENTRIES, label(5), lambda _: label(9)[::-1], "mapping", "body:4"),
    ("counts of a block", svindex.BLOCK_COUNTS, b"", flip_last, "blocks", BOX),
    ("a lost block", blocks.BLOCKS, b"\0", lambda _: b"", "blocks", BOX),
    ("a lost block below", blocks.BLOCKS, b"\1", lambda _: b"", "lower scales", BOX),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "key", "change", "check", "part"),
    [damage[1:] for damage in DAMAGES],
    ids=[damage[0] for damage in DAMAGES],
)
def test_each_kind_of_damage_is_found_and_put_right(
    live: Any, root: str, kind: int, key: bytes, change: Callable[[bytes], bytes],
    check: str, part: str,
) -> None:  # fmt: skip
    assert checked(live, root)["findings"] == []
    overwrite(live, root, kind, key, change)
    found = checked(live, root)
    assert check in {one["check"] for one in found["findings"]}, found
    assert finished(live, f"{seg(root)}/fsck?repair={part}") == {"rows": 1}
    assert checked(live, root)["findings"] == []
    assert finished(live, f"{seg(root)}/fsck?repair={part}") == {"rows": 0}


def test_a_repair_of_one_body_leaves_other_damage_alone(live: Any, root: str) -> None:
    overwrite(live, root, svindex.TOTALS, label(1), flip_last)
    overwrite(live, root, svindex.TOTALS, label(4), flip_last)
    assert finished(live, f"{seg(root)}/fsck?repair=body:1") == {"rows": 1}
    texts = [one["text"] for one in checked(live, root)["findings"]]
    assert any("supervoxel 4 has" in text for text in texts)
    assert not any("supervoxel 1 has" in text for text in texts)


def test_rows_of_nobody_are_found_and_removed(live: Any, root: str) -> None:
    stream = live.engine.streams.get(root)
    with live.engine.store.write() as batch:
        txn = batch.scope(root, stream.repo, stream.packs)
        for kind in (svindex.TOTALS, bodysets.BODIES):
            at = instance_key(instance_of(live, root), kind)
            value = txn.seek(at + label(1))[1]
            txn.put(at + label(77) + row_suffix(1, 3), value)
    found = checked(live, root)
    assert found["errors"] >= 2
    assert {"supervoxel index", "bodies", "counters"} <= {one["check"] for one in found["findings"]}
    assert finished(live, f"{seg(root)}/fsck?repair=body:77")["rows"] >= 1
    assert finished(live, f"{seg(root)}/fsck?repair=body:1")["rows"] == 0


def test_what_clients_may_do_is_a_warning_at_most(live: Any, root: str) -> None:
    live.ok("POST", f"{seg(root)}/mappings", mapping_ops({7: 8}))
    found = checked(live, root)
    assert found["errors"] == 0
    assert [one["check"] for one in found["findings"]] == ["mapping"]


def test_bodies_are_checked_in_several_passes(
    live: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck_bodies, "PASS_SUPERVOXELS", 3)
    assert checked(live, root)["findings"] == []
    overwrite(live, root, bodysets.BODIES, label(1), lambda _: b"")
    texts = {one["text"] for one in checked(live, root)["findings"]}
    assert {f"supervoxel {sv} has voxels and is in no body" for sv in (1, 3)} <= texts


def test_an_earlier_version_is_checked_as_it_was(live: Any, root: str) -> None:
    live.ok("POST", f"/api/node/{root}/commit", json_body={"note": ""})
    child = live.ok("POST", f"/api/node/{root}/newversion", json_body={}).json()["child"]
    live.ok("POST", f"{seg(child)}/merge", json_body=[6, 7])
    overwrite(live, root, bodysets.BODIES, label(6), lambda _: b"")
    assert checked(live, root)["findings"] == []
    assert checked(live, child)["errors"] > 0


@pytest.mark.parametrize(
    "wanted", ["", "body:0", "body:x", "body:99999999999999999999", "box:1,2,3", "box:0,0,0,0,1,1",
               "box:0,0,0,2000000000,2000000000,2000000000", "all"],
)  # fmt: skip
def test_a_part_that_cannot_be_named_is_refused(live: Any, root: str, wanted: str) -> None:
    assert live.call("POST", f"{seg(root)}/fsck?repair={wanted}").status == 400
    assert live.ok("GET", "/api/server/jobs").json() == []


def test_all_kinds_of_voxel_rows_are_damaged_above() -> None:
    damaged = {damage[1] for damage in DAMAGES}
    assert set(VOXEL_ROWS) - damaged == {66}  # extents are claims, not sums
