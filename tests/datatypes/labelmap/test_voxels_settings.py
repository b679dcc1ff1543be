from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap import instance_settings
from dvid_es.errors import InvalidRequest
from dvid_es.settings import Settings
from tests.datatypes.labelmap.voxel_oracle import Segmentation


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("voxels") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as server:
        yield server


def new(live: Any, **config: Any) -> tuple[str, Segmentation]:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", **config)
    return root, Segmentation(live, root)


def extended(live: Any, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = live.ok("GET", f"/api/node/{uuid}/seg/info").json()["Extended"]
    return found


def test_defaults_and_settings_in_any_case(live: Any) -> None:
    root, _ = new(live)
    info = live.ok("GET", f"/api/node/{root}/seg/info").json()
    assert info["Base"]["Compression"] == "gzip compression, level -1"
    shown = info["Extended"]
    assert shown["BlockSize"] == [64, 64, 64]
    assert shown["VoxelSize"] == [8, 8, 8]
    assert shown["VoxelUnits"] == ["nanometers"] * 3
    assert (shown["MaxDownresLevel"], shown["IndexedLabels"]) == (0, True)
    assert shown["MinPoint"] is shown["MaxIndex"] is None
    root, _ = new(
        live,
        blocksize="16,32,64",
        VOXELSIZE="4,4,40.5",
        indexedLabels="0",
        MinPoint="-1,0,0",
        MaxPoint="5,40,200",
        Unknown="x",
    )
    shown = extended(live, root)
    assert shown["BlockSize"] == [16, 32, 64]
    assert shown["VoxelSize"] == [4, 4, 40.5]
    assert shown["IndexedLabels"] is False
    assert (shown["MinIndex"], shown["MaxIndex"]) == ([-1, 0, 0], [0, 1, 3])


@pytest.mark.parametrize(
    "config",
    [
        {"blocksize": "12,13,14"},
        {"blocksize": "64,64"},
        {"blocksize": "a,b,c"},
        {"blocksize": "0,16,16"},
        {"blocksize": "-16,16,16"},
        {"blocksize": "2048,16,16"},
        {"maxdownreslevel": "many"},
        {"maxdownreslevel": "256"},
        {"maxdownreslevel": "-1"},
        {"indexedlabels": "perhaps"},
        {"voxelsize": "1,2"},
        {"voxelsize": "1,2,nan"},
        {"voxelsize": "1,2,-3"},
        {"voxelunits": "nm"},
        {"minpoint": "1,2"},
        {"maxpoint": "1,2,99999999999"},
        {"compression": "zstd"},
        {"gridstore": "nowhere"},
        {"checksum": "md5"},
    ],
)
def test_wrong_settings_are_refused(config: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        instance_settings.create(config)


def test_settings_change_and_refused_changes_change_nothing(live: Any) -> None:
    root, seg = new(live)
    answer = live.ok(
        "POST", f"{seg.node}/info", json_body={"MaxDownresLevel": "2", "VoxelSize": "1,2,3"}
    )
    assert answer.text == (
        "Changed 'seg' based on received configuration:\n{map[maxdownreslevel:2 voxelsize:1,2,3]}\n"
    )
    live.ok("POST", f"{seg.node}/info")
    before = extended(live, root)
    assert (before["MaxDownresLevel"], before["VoxelSize"]) == (2, [1, 2, 3])
    for body in (
        b'{"MaxDownresLevel":"x"}',
        b'{"MaxDownresLevel":3}',
        b'{"GridStore":"nowhere"}',
        b"[]",
        b"{",
        b'{"BlockSize":"1,2,3"}',
    ):
        assert live.call("POST", f"{seg.node}/info", body).status == 400
    assert extended(live, root) == before
    live.ok("POST", f"{seg.node}/info", json_body={"BlockSize": "32,32,32"})
    volume = np.full((32, 32, 32), 7, np.uint64)
    seg.post(volume)
    half = seg.read((16, 16, 16), scale=1)
    assert (half == 7).all(), "the level that was set is followed"
    refused = live.call("POST", f"{seg.node}/info", json_body={"BlockSize": "64,64,64"})
    assert refused.status == 400
    assert b"blocks are stored" in refused.body
    live.ok("POST", f"{seg.node}/info", json_body={"BlockSize": "32,32,32"})
    assert (seg.read((32, 32, 32)) == volume).all()


def test_extents_belong_to_a_version_and_resolution_to_all(live: Any) -> None:
    root, seg = new(live, BlockSize="32,32,32")
    low, high = [68, 127, 210], [1023, 4811, 12187]
    live.ok("POST", f"{seg.node}/extents", json_body={"MinPoint": low, "MaxPoint": high})
    assert live.ok("GET", f"{seg.node}/extents").json() == {"MinPoint": low, "MaxPoint": high}
    live.commit(root)
    child = live.new_version(root)
    there = Segmentation(live, child)
    assert extended(live, child)["MinPoint"] == low
    there.post(np.full((32, 32, 32), 7, np.uint64), (-32, 0, 0))
    assert extended(live, child)["MinPoint"] == [-32, 0, 0]
    assert extended(live, child)["MaxPoint"] == high
    assert extended(live, root)["MinPoint"] == low
    live.ok(
        "POST", f"{there.node}/extents", json_body={"MinPoint": [1, 2, 3], "MaxPoint": [4, 5, 6]}
    )
    assert extended(live, child)["MaxPoint"] == [4, 5, 6], "set extents may shrink"
    for body in (
        b"{",
        b"{}",
        b'{"MinPoint":[1,2],"MaxPoint":[3,4]}',
        b'{"MinPoint":[9,9,9],"MaxPoint":[1,1,1]}',
    ):
        assert live.call("POST", f"{there.node}/extents", body).status == 400
    live.ok("POST", f"{there.node}/resolution", b"[10, 20.5, 30]")
    for uuid in (root, child):
        assert live.ok("GET", f"/api/node/{uuid}/seg/resolution").json() == [10, 20.5, 30]
    for body in (b"[1,2]", b"{}", b"[1,2,0]", b'["1",2,3]', b"[true,2,3]"):
        assert live.call("POST", f"{there.node}/resolution", body).status == 400
    refused = live.call(
        "POST", f"{seg.node}/extents", json_body={"MinPoint": low, "MaxPoint": high}
    )
    assert refused.status == 400
    assert b"locked" in refused.body


@pytest.mark.parametrize("typename", ["labelmap", "labelarray", "labelblk", "uint64blk"])
def test_where_no_voxels_are_seen_the_extents_are_those_of_other_branches(
    live: Any, typename: str
) -> None:
    # neuroglancer asks the repository where a volume lies, and draws none that lies nowhere.
    root = live.new_repo()
    live.new_instance(root, typename, "seg")
    live.commit(root)
    master = live.new_version(root)
    side, other = (
        live.ok("POST", f"/api/node/{root}/branch", json_body={"branch": name}).json()["child"]
        for name in ("side", "other")
    )

    def shown(uuid: str) -> list[Any]:
        found = extended(live, uuid)
        return [found["MinPoint"], found["MaxPoint"]]

    def of_repository() -> list[Any]:
        info = live.ok("GET", f"/api/repo/{root}/info").json()["DataInstances"]["seg"]
        return [info["Extended"]["MinPoint"], info["Extended"]["MaxPoint"]]

    assert shown(root) == of_repository() == [None, None]
    for uuid, offset in ((side, "64_0_0"), (other, "0_128_0")):
        body = np.ones(64**3, np.uint64).tobytes()
        live.ok("POST", f"/api/node/{uuid}/seg/raw/0_1_2/64_64_64/{offset}", body)
    assert shown(side) == [[64, 0, 0], [127, 63, 63]]
    assert shown(other) == [[0, 128, 0], [63, 191, 63]]
    around = [[0, 0, 0], [127, 191, 63]]
    assert shown(root) == shown(master) == of_repository() == around
    axes = live.ok("GET", f"/api/node/{root}/seg/metadata").json()["Axes"]
    assert [axis["Size"] for axis in axes] == [128, 192, 64]


def test_metadata_has_the_axes(live: Any) -> None:
    _, seg = new(live, VoxelUnits="nm,nm,um", MinPoint="3,0,0", MaxPoint="12,0,7")
    answer = live.ok("GET", f"{seg.node}/metadata")
    assert answer.headers["content-type"].startswith("application/vnd.dvid-nd-data+json")
    axes = answer.json()["Axes"]
    assert [axis["Label"] for axis in axes] == ["X", "Y", "Z"]
    assert [axis["Size"] for axis in axes] == [10, 1, 8]
    assert [axis["Offset"] for axis in axes] == [3, 0, 0]
    assert [axis["Units"] for axis in axes] == ["nm", "nm", "um"]


def test_voxels_of_an_instance_without_index_have_no_bodies(live: Any) -> None:
    root, seg = new(live, BlockSize="32,32,32", IndexedLabels="false", MaxDownresLevel="1")
    volume = np.full((32, 32, 64), 9, np.uint64)
    seg.post(volume)
    assert (seg.read(volume.shape) == volume).all()
    assert (seg.read((16, 16, 32), scale=1) == 9).all()
    assert live.ok("GET", f"{seg.node}/existing-labels").json() == []
    assert live.call("GET", f"{seg.node}/maxlabel").status == 400
    assert extended(live, root)["MaxPoint"] == [63, 31, 31]
