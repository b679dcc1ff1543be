"""The precomputed view: TensorStore reads it as any other volume; numpy and GET raw are what it must say."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tensorstore

from dvid_es.settings import Settings
from tests.datatypes.labelmap.voxel_oracle import Segmentation, cells, halved, segmentation

SIDE = 32
SHAPE = (64, 96, 128)


def opened(live: Any, node: str, scale: int = 0, options: str = "") -> Any:
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {
            "driver": "http",
            "base_url": f"{live.base}{node}/precomputed/{options}",
        },
        "scale_index": scale,
        "recheck_cached_data": True,
    }
    return tensorstore.open(spec, read=True, open=True).result()


def everything(store: Any) -> np.ndarray:
    """All voxels of a volume of TensorStore (x, y, z, channel) as ZYX."""
    return np.asarray(store.read().result())[..., 0].transpose(2, 1, 0)


@pytest.fixture
def seg(live: Any) -> Segmentation:
    return empty(live)


@pytest.fixture(scope="module")
def still(run_server: Any, tmp_path_factory: Any) -> Iterator[Segmentation]:
    """A segmentation that no test changes, with its server."""
    with run_server(Settings(data=tmp_path_factory.mktemp("still") / "data")) as live:
        made = empty(live)
        made.post(cells((32, 32, 32), 3, 2))
        yield made


def empty(live: Any) -> Segmentation:
    root = live.new_repo()
    live.new_instance(
        root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2", VoxelSize="8,8,40"
    )
    return Segmentation(live, root)


@pytest.mark.parametrize("options", ["", "raw/", "raw/supervoxels/", "supervoxels/"])
def test_tensorstore_reads_every_scale_and_any_box(
    live: Any, seg: Segmentation, options: str
) -> None:
    volume = cells(SHAPE, 40, 3)
    seg.post(volume, (-32, 64, 0))
    live.ok("POST", f"{seg.node}/merge", json_body=[5, 6, 7, 8])
    supervoxels = "supervoxels" in options
    random = np.random.default_rng(1)
    for scale in range(3):
        store = opened(live, seg.node, scale, options)
        assert store.dtype.numpy_dtype == np.uint64
        low = np.array(store.domain.origin[:3])
        size = np.array(store.domain.shape[:3])
        query = {"scale": scale, "supervoxels": "true" if supervoxels else "false"}
        expected = seg.read(tuple(size[::-1].tolist()), tuple(low.tolist()), **query)
        assert np.array_equal(everything(store), expected)
        for _ in range(8):
            a = random.integers(low, low + size)
            b = random.integers(a + 1, low + size + 1)
            part = store[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
            (x0, y0, z0), (x1, y1, z1) = (a - low).tolist(), (b - low).tolist()
            assert np.array_equal(everything(part), expected[z0:z1, y0:y1, x0:x1])
    store = opened(live, seg.node, 0, options)
    mapped = volume if supervoxels else np.where(np.isin(volume, [6, 7, 8]), 5, volume)
    assert store.domain.origin[:3] == (-32, 64, 0)
    assert np.array_equal(everything(store), mapped)


def test_lower_scales_are_numpys_downsampling_with_the_resolution_doubled(
    live: Any, seg: Segmentation
) -> None:
    volume = cells((64, 64, 64), 12, 5)
    seg.post(volume)
    info = live.ok("GET", f"{seg.node}/precomputed/info").json()
    assert [scale["resolution"] for scale in info["scales"]] == [
        [8, 8, 40], [16, 16, 80], [32, 32, 160],
    ]  # fmt: skip
    assert [scale["size"] for scale in info["scales"]] == [[64] * 3, [32] * 3, [32] * 3]
    assert {key: info[key] for key in ("@type", "type", "data_type", "num_channels")} == {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation", "data_type": "uint64", "num_channels": 1,
    }  # fmt: skip
    assert np.array_equal(everything(opened(live, seg.node, 1)), halved(volume))
    assert np.array_equal(
        everything(opened(live, seg.node, 2))[:16, :16, :16], halved(halved(volume))
    )


def test_blocks_that_are_not_stored_are_zero(live: Any, seg: Segmentation) -> None:
    volume = cells((32, 32, 32), 5, 9)
    seg.post(volume)
    seg.post(volume, (96, 0, 0))
    expected = np.concatenate([volume, np.zeros((32, 32, 64), np.uint64), volume], axis=2)
    for options in ("", "raw/"):
        assert np.array_equal(everything(opened(live, seg.node, 0, options)), expected)
    hole = live.ok("GET", f"{seg.node}/precomputed/s0/32-64_0-32_0-32").body
    assert not segmentation(hole, (32, 32, 32)).any()


def test_sizes_in_other_units_become_nanometers(live: Any) -> None:
    root = live.new_repo()
    node = live.new_instance(
        root, "labelmap", "fine", BlockSize="16,16,16", VoxelSize="0.5,4,4",
        VoxelUnits="micrometers,nanometers,pixels",
    )  # fmt: skip
    Segmentation(live, root, "fine").post(cells((16, 16, 16), 3, 1))
    info = live.ok("GET", f"{node}/precomputed/info").json()
    assert info["scales"][0]["resolution"] == [500, 4, 4]


def test_extents_that_are_no_whole_blocks_are_rounded_outwards(
    live: Any, seg: Segmentation
) -> None:
    body = {"MinPoint": [-5, 0, 33], "MaxPoint": [40, 31, 70]}
    live.ok("POST", f"{seg.node}/extents", json_body=body)
    scales = live.ok("GET", f"{seg.node}/precomputed/info").json()["scales"]
    assert [(scale["voxel_offset"], scale["size"]) for scale in scales] == [
        ([-32, 0, 32], [96, 32, 64]), ([-32, 0, 0], [64, 32, 64]), ([-32, 0, 0], [64, 32, 32]),
    ]  # fmt: skip


def test_a_version_and_a_past_event_are_read_as_they_were(live: Any, seg: Segmentation) -> None:
    root = seg.node.split("/")[3]
    seg.post(cells((32, 32, 64), 9, 2))
    before = seg.read((32, 32, 64))
    sequence = int(live.ok("GET", f"{seg.node}/precomputed/info").headers["x-dvid-es-seq"])
    live.ok("POST", f"{seg.node}/merge", json_body=[1, 2])
    assert np.array_equal(everything(opened(live, seg.node, 0, f"at-{sequence}/")), before)
    live.commit(root)
    child = live.new_version(root)
    live.ok("POST", f"/api/node/{child}/seg/merge", json_body=[3, 4])
    merged = np.where(before == 2, 1, before)
    assert np.array_equal(everything(opened(live, seg.node)), merged)
    both = np.where(merged == 4, 3, merged)
    assert np.array_equal(everything(opened(live, f"/api/node/{child}/seg")), both)


def test_the_id_of_a_mutation_names_the_moment_behind_it(live: Any, seg: Segmentation) -> None:
    volume = cells((32, 32, 64), 9, 2)
    seg.post(volume)
    made = live.ok("POST", f"{seg.node}/merge", json_body=[1, 2]).json()
    live.ok("POST", f"{seg.node}/merge", json_body=[1, 3])
    options = f"at-{made['MutationID']}/"
    merged = np.where(volume == 2, 1, volume)
    assert np.array_equal(everything(opened(live, seg.node, 0, options)), merged)
    chunk = f"{seg.node}/precomputed/{options}s0/0-32_0-32_0-32"
    assert "immutable" in live.ok("GET", chunk).headers["cache-control"]
    path = f"{seg.node}/precomputed/at-{made['MutationID'] + 77}/info"
    assert live.call("GET", path).status == 400


def test_an_open_store_sees_a_merge_in_an_open_version(live: Any, seg: Segmentation) -> None:
    volume = cells((32, 32, 64), 9, 2)
    seg.post(volume)
    store = opened(live, seg.node)
    assert np.array_equal(everything(store), volume)
    live.ok("POST", f"{seg.node}/merge", json_body=[1, 2])
    assert np.array_equal(everything(store), np.where(volume == 2, 1, volume))


def test_what_can_never_change_may_be_kept_and_the_rest_is_asked_for_again(
    live: Any, seg: Segmentation
) -> None:
    root = seg.node.split("/")[3]
    seg.post(cells((32, 32, 32), 9, 2))
    chunk = f"{seg.node}/precomputed/s0/0-32_0-32_0-32"
    first = live.ok("GET", chunk)
    assert first.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": first.headers["etag"]}
    again = live.call("GET", chunk, headers=known)
    assert (again.status, again.body) == (304, b"")
    live.ok("POST", f"{seg.node}/merge", json_body=[1, 2])
    changed = live.call("GET", chunk, headers=known)
    assert changed.status == 200
    assert changed.body != first.body
    assert changed.headers["etag"] != first.headers["etag"]
    sequence = changed.headers["x-dvid-es-seq"]
    past = f"{seg.node}/precomputed/at-{sequence}/s0/0-32_0-32_0-32"
    assert "immutable" in live.ok("GET", past).headers["cache-control"]
    future = f"{seg.node}/precomputed/at-{int(sequence) + 1}/s0/0-32_0-32_0-32"
    assert live.ok("GET", future).headers["cache-control"] == "no-cache"
    live.commit(root)
    assert "immutable" in live.ok("GET", chunk).headers["cache-control"]
    info = live.ok("GET", f"{seg.node}/precomputed/info")
    assert info.headers["cache-control"] == "no-cache"


def test_chunks_are_zipped_for_clients_that_ask_and_their_tags_differ(
    live: Any, seg: Segmentation
) -> None:
    seg.post(cells((32, 32, 32), 9, 2))
    chunk = f"{seg.node}/precomputed/s0/0-32_0-32_0-32"
    plain = live.ok("GET", chunk)
    zipped = live.ok("GET", chunk, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body
    assert zipped.headers["etag"] != plain.headers["etag"]
    asked = {"Accept-Encoding": "gzip", "Range": "bytes=0-99"}
    assert live.ok("GET", chunk, headers=asked).body == plain.body
    head = live.ok("HEAD", chunk)
    assert head.body == b""
    assert head.headers["etag"] == plain.headers["etag"]
    assert head.headers["content-length"] == str(len(plain.body))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 404), ("s0", 404), ("s3/0-32_0-32_0-32", 404), ("s0/0-32_0-32", 404),
        ("s0/1-33_0-32_0-32", 404), ("s0/0-64_0-32_0-32", 404), ("s0/64-96_0-32_0-32", 404),
        ("s0/32-0_0-32_0-32", 404), ("s0/0-32_0-32_0-32/more", 404), ("sx/0-32_0-32_0-32", 404),
        ("at-x/info", 400), ("at-/info", 400), ("s0/0-32_0-32_0-9999999999", 404),
        ("s0/\u0663-32_0-32_0-32", 404), ("mesh/info", 404),
    ],
)  # fmt: skip
def test_what_is_no_file_of_the_volume_is_refused_with_a_reason(
    still: Segmentation, path: str, status: int
) -> None:
    answer = still.live.call("GET", f"{still.node}/precomputed/{quote(path)}")
    assert answer.status == status
    assert len(answer.text) > 20


def test_without_extents_there_is_no_volume(live: Any, seg: Segmentation) -> None:
    answer = live.call("GET", f"{seg.node}/precomputed/info")
    assert answer.status == 404
    assert "no extents" in answer.text


def test_below_a_version_merge_both_parents_are_read(live: Any, seg: Segmentation) -> None:
    root = seg.node.split("/")[3]
    volume = cells((32, 32, 64), 9, 2)
    seg.post(volume)
    live.commit(root)
    parents = []
    for name, labels in (("a", [1, 2]), ("b", [3, 4])):
        made = live.ok("POST", f"/api/node/{root}/branch", json_body={"branch": name}).json()
        live.ok("POST", f"/api/node/{made['child']}/seg/merge", json_body=labels)
        live.commit(made["child"])
        parents.append(made["child"])
    body = {"mergeType": "conflict-free", "parents": parents, "note": ""}
    child = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    expected = np.where(volume == 2, 1, np.where(volume == 4, 3, volume))
    assert np.array_equal(everything(opened(live, f"/api/node/{child}/seg")), expected)
