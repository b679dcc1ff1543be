"""libdvid: throttled lz4 volumes, block streams, masks of bodies as blocks, HEAD without a body."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import lz4.block
import numpy as np
import pytest

from tests.clients.wire import (
    SIDE,
    Session,
    Volume,
    block_counts,
    block_stream,
    boxed,
    foreground,
    inflated,
    mask_of_runs,
)
from tests.datatypes.labelmap import voxel_oracle as oracle

HEADERS = {"Accept": "*/*", "Content-Type": "application/octet-stream"}
SHAPE = (64, 128, 128)
WHOLE = ((0, 0, 0), SHAPE)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return oracle.cells(SHAPE, 15, seed=3)


@pytest.fixture
def dvid(live: Any) -> Iterator[Session]:
    with Session(live.port, HEADERS, u="libdvid-user", app="libdvid") as session:
        yield session


@pytest.fixture
def node(dvid: Session) -> str:
    root = dvid.json("POST", "/api/repos", {"alias": "libdvid", "description": ""}).json()["root"]
    assert dvid.send("GET", f"/api/node/{root}/labels/info").status == 400, "not there yet"
    settings = {"typename": "labelmap", "dataname": "labels", "BlockSize": "64,64,64"}
    dvid.json("POST", f"/api/repo/{root}/instance", settings)
    info = dvid.ok("GET", f"/api/node/{root}/labels/info").json()
    assert info["Base"]["TypeName"] == "labelmap"
    assert info["Extended"]["BlockSize"] == [64, 64, 64]
    return f"/api/node/{root}/labels"


def put_labels(dvid: Session, node: str, volume: Volume, *more: str) -> None:
    body = lz4.block.compress(volume.tobytes(), store_size=False)
    path = f"{node}/raw/0_1_2/{boxed(((0, 0, 0), volume.shape))}"
    dvid.ok("POST", path + "?" + "&".join(("throttle=on", "compression=lz4", *more)), body)


def get_labels(dvid: Session, node: str, box: Any, *more: str) -> Volume:
    shape = tuple(np.subtract(box[1], box[0]).tolist())
    query = "&".join(("throttle=on", "compression=lz4", *more))
    content = dvid.ok("GET", f"{node}/raw/0_1_2/{boxed(box)}?{query}").content
    size = int(np.prod(shape)) * 8
    data = lz4.block.decompress(content, uncompressed_size=size)
    return np.frombuffer(data, "<u8").reshape(shape)


def test_labels_put_and_got_in_lz4_without_a_size(dvid: Session, node: str, volume: Volume) -> None:
    put_labels(dvid, node, volume)
    assert np.array_equal(get_labels(dvid, node, WHOLE), volume)
    box = ((7, 30, 11), (50, 100, 128))
    window = volume[7:50, 30:100, 11:128]
    assert np.array_equal(get_labels(dvid, node, box, "supervoxels=true"), window)
    changed = np.where(volume == 5, np.uint64(6), volume)
    put_labels(dvid, node, changed, "mutate=true")
    assert np.array_equal(get_labels(dvid, node, WHOLE), changed)
    sizes = dvid.json("GET", f"{node}/sizes", [4, 5, 6]).json()
    assert sizes == [oracle.sizes(changed).get(label, 0) for label in (4, 5, 6)]


def test_label_blocks_in_the_compressions_that_libdvid_asks_for(
    dvid: Session, node: str, volume: Volume
) -> None:
    path = f"{node}/blocks?throttle=on&scale=0"
    dvid.ok("POST", path, block_stream(volume))
    dvid.json("POST", f"{node}/merge", [1, 2])
    bodies = np.where(volume == 2, np.uint64(1), volume)
    path = f"{node}/blocks/{boxed(WHOLE)}?compression="
    for more, truth in (("", bodies), ("&supervoxels=true", volume)):
        content = dvid.ok("GET", f"{path}blocks&throttle=on{more}&scale=0").content
        assert np.array_equal(inflated(content, WHOLE), truth)
        content = dvid.ok("GET", f"{path}lz4&throttle=on{more}&scale=0").content
        blocks = dict(oracle.split(content))
        assert len(blocks) == 4
        for xyz, data in blocks.items():
            assert np.array_equal(
                oracle.unpacked(data, "lz4", (SIDE, SIDE, SIDE)), oracle.part(truth, xyz, SIDE)
            )
    some = "blocks=0,0,0,1,1,0,9,9,9&scale=0&compression=uncompressed&supervoxels=true"
    got = dict(oracle.split(dvid.ok("GET", f"{node}/specificblocks?{some}").content))
    assert got.keys() == {(0, 0, 0), (1, 1, 0)}
    for xyz, data in got.items():
        voxels = np.frombuffer(data, "<u8").reshape(SIDE, SIDE, SIDE)
        assert np.array_equal(voxels, oracle.part(volume, xyz, SIDE))
    dvid.ok("GET", f"{node}/specificblocks?prefetch=on&blocks=0,0,0")


def test_bodies_exist_and_have_masks_and_coarse_masks(
    dvid: Session, node: str, volume: Volume
) -> None:
    put_labels(dvid, node, volume)
    dvid.json("POST", f"{node}/merge", [3, 4, 8])
    codes = [
        dvid.send("HEAD", f"{node}/sparsevol/{query}").status
        for query in ("3", "4", "4?supervoxels=true", "99", "0")
    ]
    assert codes == [200, 204, 200, 204, 400]
    for label, svs, more in ((3, [3, 4, 8], ""), (4, [4], "&supervoxels=true")):
        content = dvid.ok("GET", f"{node}/sparsevol/{label}?format=blocks&scale=0{more}").content
        assert np.array_equal(foreground(content, label, SHAPE), np.isin(volume, svs))
    reply = dvid.ok("GET", f"{node}/sparsevol-coarse/3")
    cells = np.zeros([side // SIDE for side in SHAPE], bool)
    cells[tuple(np.array(list(block_counts(volume, [3, 4, 8]))).T)] = True
    assert np.array_equal(mask_of_runs(reply.content, cells.shape), cells)
    plane = dvid.ok("GET", f"{node}/sparsevol/3?minz=9&maxz=9&compression=lz4").content
    truth = np.zeros(SHAPE, bool)
    truth[9] = np.isin(volume[9], [3, 4, 8])
    bound = 12 + 16 * int(truth.sum())
    data = lz4.block.decompress(plane, uncompressed_size=bound)
    assert np.array_equal(mask_of_runs(data, SHAPE), truth)
    assert dvid.send("GET", f"{node}/sparsevol-coarse/99").status == 404
    mapped = dvid.send("GET", f"{node}/mapping", b"[3,4,8,99]\n").json()
    assert mapped == [3, 3, 3, 0], "0 for one that does not exist, as DVID has it since"


def test_a_body_that_curl_holds_back_until_it_is_asked_for(
    live: Any, node: str, volume: Volume
) -> None:
    body = lz4.block.compress(volume.tobytes(), store_size=False)
    path = f"{node}/raw/0_1_2/{boxed(WHOLE)}?compression=lz4"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with contextlib.closing(socket.create_connection(("127.0.0.1", live.port), 30)) as connection:
        connection.sendall(head.encode())
        first = b""
        while b"\r\n\r\n" not in first:
            piece = connection.recv(4096)
            assert piece, f"closed after {first!r}"
            first += piece
        assert first.startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200")
    with Session(live.port, HEADERS) as session:
        assert np.array_equal(get_labels(session, node, WHOLE), volume)
