"""neuroglancer: the description of a volume, its chunks in parallel, meshes, another origin."""

from __future__ import annotations

import concurrent.futures
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.settings import Settings
from tests.clients.wire import Session, Volume, block_stream, boxed, pyramid
from tests.datatypes.labelmap import voxel_oracle as oracle

ORIGIN = "https://viewer.example"
HEADERS = {
    "Origin": ORIGIN, "Accept-Encoding": "gzip, deflate, br, zstd", "User-Agent": "Mozilla/5.0",
    "Sec-Fetch-Mode": "cors",
}  # fmt: skip
SHAPE = (128, 128, 64)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return oracle.cells(SHAPE, 14, seed=6, first=2**40)


@pytest.fixture
def served(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "served", cors_domains=(ORIGIN,))
    with run_server(found) as live:
        yield live


@pytest.fixture
def root(served: Any, volume: Volume) -> str:
    root: str = served.new_repo()
    node = served.new_instance(
        root, "labelmap", "segmentation", BlockSize="64,64,64", MaxDownresLevel="1",
        VoxelSize="8.0,8.0,8.0",
    )  # fmt: skip
    served.ok("POST", f"{node}/blocks?scale=0&downres=true", block_stream(volume))
    served.new_instance(root, "keyvalue", "segmentation_meshes")
    return root


def test_chunks_of_all_scales_fetched_at_once_as_the_info_says(
    served: Any, root: str, volume: Volume
) -> None:
    with Session(served.port, HEADERS) as viewer:
        reply = viewer.ok("GET", "/api/repos/info")
        assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN)
        repo = reply.json()[root]
        assert repo["DAG"]["Nodes"][root]["UUID"] == root
        assert "segmentation" in repo["DataInstances"]
        info = viewer.ok("GET", f"/api/node/{root}/segmentation/info").json()
    assert info["Base"]["TypeName"] == "labelmap"
    extended = info["Extended"]
    assert extended["VoxelSize"] == [8, 8, 8]
    assert (extended["MinPoint"], extended["MaxPoint"]) == ([0, 0, 0], [63, 127, 127])
    assert extended["MaxDownresLevel"] == 1, "it must be positive to be shown"
    block = extended["BlockSize"]
    scales = pyramid(volume, 1)
    chunks = []
    for scale in range(extended["MaxDownresLevel"] + 1):
        upper = [-(-(end + 1) // 2**scale) for end in extended["MaxPoint"]]
        for z in range(0, upper[2], block[2]):
            for y in range(0, upper[1], block[1]):
                for x in range(0, upper[0], block[0]):
                    high = [min(a + b, n) for a, b, n in zip((x, y, z), block, upper, strict=True)]
                    chunks.append((scale, ((z, y, x), tuple(high[::-1]))))
    assert len(chunks) == 5

    def fetch(chunk: Any) -> None:
        scale, box = chunk
        with Session(served.port, HEADERS, u="viewer", app="Neuroglancer") as viewer:
            path = f"/api/node/{root}/segmentation/raw/0_1_2/{boxed(box)}"
            reply = viewer.ok("GET", f"{path}?compression=googlegzip&scale={scale}")
        assert reply.headers["content-encoding"] == "gzip"
        assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN)
        shape = tuple(np.subtract(box[1], box[0]).tolist())
        voxels = oracle.segmentation(gzip.decompress(reply.content), shape)
        where = tuple(slice(a, b) for a, b in zip(*box, strict=True))
        assert np.array_equal(voxels, scales[scale][where])

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(fetch, chunk) for chunk in chunks * 8]:
            done.result()


def test_chunks_outside_of_what_is_stored_are_background(served: Any, root: str) -> None:
    with Session(served.port, HEADERS) as viewer:
        path = f"/api/node/{root}/segmentation/raw/0_1_2/64_64_64/640_0_0"
        reply = viewer.ok("GET", f"{path}?compression=googlegzip&scale=0")
        voxels = oracle.segmentation(gzip.decompress(reply.content), (64, 64, 64))
        assert not voxels.any(), "DVID answers 400 or 500 here"
        odd = viewer.send("GET", f"{path.replace('64_64_64/', '63_64_64/')}?compression=googlegzip")
        assert odd.status == 400


def test_a_merge_is_seen_in_the_next_chunk(served: Any, root: str, volume: Volume) -> None:
    first, second = sorted(oracle.sizes(volume))[:2]
    node = f"/api/node/{root}/segmentation"
    with Session(served.port, HEADERS) as viewer:
        path = f"{node}/raw/0_1_2/64_64_64/0_0_0?compression=googlegzip&scale=0"
        viewer.ok("GET", path)
        served.ok("POST", f"{node}/merge", json_body=[first, second])
        content = gzip.decompress(viewer.ok("GET", path).content)
    block = volume[:64, :64]
    truth = np.where(block == second, np.uint64(first), block)
    assert np.array_equal(oracle.segmentation(content, (64, 64, 64)), truth)


def test_meshes_and_skeletons_by_key(served: Any, root: str) -> None:
    mesh = np.array([3], "<u4").tobytes() + np.arange(9, dtype="<f4").tobytes() + bytes(12)
    with Session(served.port, HEADERS) as viewer:
        keys = f"/api/node/{root}/segmentation_meshes/key"
        served.ok("POST", f"{keys}/17.ngmesh", mesh)
        reply = viewer.ok("GET", f"{keys}/17.ngmesh")
        assert reply.content == mesh
        assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN)
        for key in ("18.ngmesh", "17_swc"):
            reply = viewer.send("GET", f"{keys}/{key}")
            assert reply.status == 404
            assert b"not found" in reply.content
            assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN)
        nothing = viewer.send("GET", f"/api/node/{root}/segmentation_skeletons/key/17_swc")
        assert nothing.status == 400


def test_a_viewer_with_a_token_asks_first(served: Any, root: str) -> None:
    asking = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    path = f"/api/node/{root}/segmentation/info"
    with Session(served.port, HEADERS) as viewer:
        reply = viewer.send("OPTIONS", path, headers=asking)
        assert reply.status in (200, 204)
        assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN)
        assert "authorization" in reply.headers["access-control-allow-headers"].lower()
        viewer.ok("GET", path, headers={"Authorization": "Bearer abc"})
