"""flyemflows: a segmentation loaded by many connections, with its own pyramid, indices and mapping."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import messages_pb2
from tests.clients.wire import Session, Volume, block_stream, boxed, index_of, inflated, pyramid
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.test_fsck import finished

HEADERS = {"User-Agent": "python-requests/2.32.3", "Accept-Encoding": "gzip, deflate"}
SHAPE = (128, 128, 64)
WHOLE = ((0, 0, 0), SHAPE)
BODIES = {50: [51, 52, 53], 60: [60, 61, 62, 63]}


@pytest.fixture(scope="module")
def volume() -> Volume:
    found = oracle.cells(SHAPE, 18, seed=8, first=50)
    found[found == 50] = 54  # a body has the name of none of its supervoxels
    return found


@pytest.fixture
def uuid(live: Any) -> str:
    return str(live.new_repo())


def session(live: Any) -> Session:
    return Session(live.port, HEADERS, u="flyemflows", app="flyemflows")


def created(live: Any, uuid: str, **more: str) -> str:
    settings = {
        "typename": "labelmap", "dataname": "seg", "BlockSize": "64,64,64",
        "VoxelSize": "8.0,8.0,8.0", "IndexedLabels": "true", "MaxDownresLevel": "1", **more,
    }  # fmt: skip
    with session(live) as dvid:
        dvid.json("POST", f"/api/repo/{uuid}/instance", settings)
    return f"/api/node/{uuid}/seg"


def together(live: Any, *tasks: Callable[[Session], Any]) -> None:
    """One connection and thread for each task; any failure fails the test."""
    failed: list[BaseException] = []

    def run(task: Callable[[Session], Any]) -> None:
        try:
            with session(live) as dvid:
                task(dvid)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def throttled(dvid: Session, path: str, body: bytes) -> None:
    """As clients do it: 503 says that others are at work, and to come again later."""
    pause = 0.01
    while (reply := dvid.send("POST", path, body)).status == 503:
        assert b"throttled" in reply.content
        threading.Event().wait(pause)
        pause = min(1.0, 2 * pause)
    assert reply.status == 200, reply.content


def slabs(volume: Volume) -> list[tuple[tuple[int, int, int], Volume]]:
    return [((z, 0, 0), volume[z : z + 64]) for z in range(0, volume.shape[0], 64)]


def body_of(sv: int) -> int:
    return next((body for body, svs in BODIES.items() if sv in svs), sv)


def check(live: Any, node: str, volume: Volume, levels: int) -> None:
    bodies = volume.copy()
    for body, svs in BODIES.items():
        bodies[np.isin(volume, svs)] = body
    with session(live) as dvid:
        for scale, voxels in enumerate(pyramid(volume, levels)):
            box = ((0, 0, 0), voxels.shape)
            path = f"{node}/blocks/{boxed(box)}?compression=blocks&scale={scale}"
            mapped = np.vectorize(lambda sv: body_of(int(sv)), otypes=[np.uint64])(voxels)
            assert np.array_equal(inflated(dvid.ok("GET", path).content, box), mapped)
            path += "&supervoxels=true"
            assert np.array_equal(inflated(dvid.ok("GET", path).content, box), voxels)
        listed = dvid.ok("GET", f"{node}/listlabels?sizes=true").content
        pairs = np.frombuffer(listed, "<u8").reshape(-1, 2).tolist()
        assert dict(pairs) == oracle.sizes(bodies)
        for body, svs in BODIES.items():
            known = [sv for sv in svs if sv in volume]
            assert dvid.ok("GET", f"{node}/supervoxels/{body}").json() == known
    report = finished(live, f"{node}/fsck?deep=true")
    assert report["errors"] == 0, report


def post_mappings(dvid: Session, node: str) -> None:
    ops = messages_pb2.MappingOps()
    for body, svs in BODIES.items():
        ops.mappings.add(mutid=1, mapped=body, original=[sv for sv in svs if sv != body])
    dvid.ok("POST", f"{node}/mappings", ops.SerializeToString())


def post_indices(dvid: Session, node: str, volume: Volume) -> None:
    owned: dict[int, list[int]] = {}
    for sv in oracle.sizes(volume):
        owned.setdefault(body_of(sv), []).append(sv)
    indices = [
        index_of(volume, body, svs, last_mutid=1, last_mod_user="flyemflows")
        for body, svs in owned.items()
    ]
    for start in range(0, len(indices), 5):
        message = messages_pb2.LabelIndices(indices=indices[start : start + 5])
        dvid.ok("POST", f"{node}/indices", message.SerializeToString())


def test_a_segmentation_ingested_scale_by_scale_with_its_indices(
    live: Any, uuid: str, volume: Volume
) -> None:
    node = created(live, uuid)

    def ingest(scale: int, offset: Any, slab: Volume) -> Callable[[Session], Any]:
        return lambda dvid: dvid.ok(
            "POST", f"{node}/ingest-supervoxels?scale={scale}", block_stream(slab, offset)
        )

    together(
        live,
        *(
            ingest(scale, offset, slab)
            for scale, voxels in enumerate(pyramid(volume, 1))
            for offset, slab in slabs(voxels)
        ),
    )
    with session(live) as dvid:
        post_indices(dvid, node, volume)
        post_mappings(dvid, node)
        dvid.ok("POST", f"{node}/maxlabel/{int(volume.max())}?admintoken=secret")
        extents = {"MinPoint": [0, 0, 0], "MaxPoint": [side - 1 for side in SHAPE[::-1]]}
        dvid.json("POST", f"{node}/extents", extents)
        info = dvid.ok("GET", f"{node}/info").json()
        assert info["Extended"]["MaxPoint"] == [63, 127, 127]
    check(live, node, volume, 1)


def test_a_segmentation_written_without_indices_and_scales_that_the_client_makes(
    live: Any, uuid: str, volume: Volume
) -> None:
    node = created(live, uuid)

    def write(scale: int, offset: Any, slab: Volume) -> Callable[[Session], Any]:
        path = f"{node}/blocks?scale={scale}&noindexing=true&throttle=true"
        return lambda dvid: throttled(dvid, path, block_stream(slab, offset))

    for scale, voxels in enumerate(pyramid(volume, 1)):
        together(live, *(write(scale, offset, slab) for offset, slab in slabs(voxels)))
    with session(live) as dvid:
        post_indices(dvid, node, volume)
        post_mappings(dvid, node)
    check(live, node, volume, 1)


def test_a_mapped_segmentation_written_by_many_with_indexing_and_down_resolution(
    live: Any, uuid: str, volume: Volume
) -> None:
    node = created(live, uuid)
    with session(live) as dvid:
        post_mappings(dvid, node)

    def write(offset: Any, block: Volume) -> Callable[[Session], Any]:
        path = f"{node}/blocks?scale=0&downres=true"
        return lambda dvid: dvid.ok("POST", path, block_stream(block, offset))

    quarters = [((z, y, 0), volume[z : z + 64, y : y + 64]) for z in (0, 64) for y in (0, 64)]
    together(live, *(write(offset, block) for offset, block in quarters))
    check(live, node, volume, 1)
