"""Grey volumes and tiles as neuroglancer, libdvid, neuclease and TensorStore's server ask for them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.clients.wire import Session
from tests.datatypes.imageblk import volume_model as model

SHAPE = (64, 128, 128)
HEADERS = {"Accept": "*/*", "Content-Type": "application/octet-stream"}


@pytest.fixture
def dvid(live: Any) -> Iterator[Session]:
    with Session(live.port, HEADERS, u="somebody", app="viewer") as session:
        yield session


@pytest.fixture(params=["jpeg", "none"])
def grey(request: pytest.FixtureRequest, dvid: Session) -> tuple[str, str, np.ndarray]:
    """Node, compression and voxels of a volume of 64-cubed blocks."""
    root = dvid.json("POST", "/api/repos", {"alias": "grey"}).json()["root"]
    settings = {
        "typename": "uint8blk", "dataname": "grayscale", "BlockSize": "64,64,64",
        "Compression": request.param,
    }  # fmt: skip
    dvid.json("POST", f"/api/repo/{root}/instance", settings)
    node = f"/api/node/{root}/grayscale"
    volume = model.smooth(SHAPE)
    path = f"{node}/raw/0_1_2/128_128_64/0_0_0?mutate=true&throttle=on&scale=0&compression=lz4"
    dvid.ok("POST", path, volume.tobytes())
    return node, request.param, volume


def test_neuroglancer_reads_one_jpeg_for_a_chunk_by_the_compression_that_info_tells(
    dvid: Session, grey: tuple[str, str, np.ndarray]
) -> None:
    node, compression, volume = grey
    info = dvid.ok("GET", f"{node}/info").json()
    assert (info["Base"]["TypeName"], info["Extended"]["BlockSize"]) == ("uint8blk", [64] * 3)
    assert info["Extended"]["MinPoint"] == [0, 0, 0]
    assert info["Extended"]["MaxPoint"] == [127, 127, 63]
    if info["Base"]["Compression"].startswith("jpeg"):
        answer = dvid.ok("GET", f"{node}/subvolblocks/64_64_64/64_0_0?compression=jpeg")
        assert struct.unpack_from("<4i", answer.content) == (1, 0, 0, len(answer.content) - 16)
        jpeg = answer.content[16:]
    else:
        assert compression == "none"
        jpeg = dvid.ok("GET", f"{node}/raw/0_1_2/64_64_64/64_0_0/jpeg").content
    pixels = model.picture(jpeg)
    assert pixels.shape == (64 * 64, 64)
    part = volume[:, :64, 64:].reshape(64 * 64, 64)
    assert np.abs(pixels.astype(int) - part).mean() < 4


def test_libdvid_reads_and_writes_rows_of_blocks_and_throttled_volumes(
    dvid: Session, grey: tuple[str, str, np.ndarray]
) -> None:
    node, _, volume = grey
    box = dvid.ok("GET", f"{node}/raw/0_1_2/50_40_30/5_6_7?throttle=on")
    got = np.frombuffer(box.content, np.uint8).reshape(30, 40, 50)
    assert np.abs(got.astype(int) - volume[7:37, 6:46, 5:55]).max() < 12
    suffixed = dvid.ok("GET", f"{node}/raw/0_1_2/50_40_30/5_6_7/octet-stream")
    assert suffixed.content == box.content
    dvid.ok("POST", f"{node}/blocks/0_0_1/2", volume[:, :64].tobytes()[::-1])
    row = dvid.ok("GET", f"{node}/blocks/0_0_1/2").content
    assert len(row) == 2 * 64**3
    metadata = dvid.ok("GET", f"{node}/metadata").json()
    assert [axis["Label"] for axis in metadata["Axes"]] == ["X", "Y", "Z"]
    assert metadata["Properties"]["Values"][0]["DataType"] == "uint8"


def test_scattered_blocks_come_with_their_coordinates(
    dvid: Session, grey: tuple[str, str, np.ndarray]
) -> None:
    node, _, volume = grey
    path = f"{node}/specificblocks?compression=uncompressed&blocks=1,1,0,9,9,9,0,0,0"
    found = dict(model.split_stream(dvid.ok("GET", path).content))
    assert found.keys() == {(1, 1, 0), (0, 0, 0)}
    got = np.frombuffer(found[1, 1, 0], np.uint8).reshape(64, 64, 64)
    assert np.abs(got.astype(int) - volume[:, 64:, 64:]).max() < 12


def test_a_viewer_of_tiles_puts_and_reads_them(dvid: Session) -> None:
    root = dvid.json("POST", "/api/repos", {"alias": "tiles"}).json()["root"]
    settings = {"typename": "imagetile", "dataname": "tiles", "Format": "jpg"}
    dvid.json("POST", f"/api/repo/{root}/instance", settings)
    node = f"/api/node/{root}/tiles"
    level = {"Resolution": [8.0, 8.0, 8.0], "TileSize": [512, 512, 512]}
    metadata = {"MinTileCoord": [0, 0, 0], "MaxTileCoord": [1, 1, 1], "Levels": {"0": level}}
    dvid.ok("POST", f"{node}/metadata", json.dumps(metadata).encode())
    dvid.ok("POST", f"{node}/tile/xy/0/0_1_17", b"\xff\xd8 a tile")
    answer = dvid.ok("GET", f"{node}/tile/xy/0/0_1_17")
    assert (answer.headers["content-type"], answer.content) == ("image/jpeg", b"\xff\xd8 a tile")
    assert dvid.ok("GET", f"{node}/metadata").json()["Levels"]["0"]["TileSize"] == [512] * 3
