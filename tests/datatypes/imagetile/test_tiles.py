"""Tiles over versions, beside a dictionary; pictures from tiles, against numpy; what is refused."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import pytest
from PIL import Image

from dvid_es.datatypes.imagetile import pictures
from dvid_es.settings import Settings
from tests.datatypes.imageblk import volume_model as model
from tests.datatypes.labelarray.label_model import check_rebuilt

SIZE = (32, 24, 16)
LEVELS = {
    "0": {"Resolution": [8, 8, 20], "TileSize": list(SIZE)},
    "1": {"Resolution": [16, 16, 20], "TileSize": [16, 16, 16]},
}
METADATA = {"MinTileCoord": [0, 0, 0], "MaxTileCoord": [3, 3, 3], "Levels": LEVELS}
AXES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: Any) -> Any:
    data = tmp_path_factory.mktemp("tiles") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture
def root(server: Any) -> str:
    return server.new_repo()


def made(server: Any, root: str, name: str = "tiles", **config: str) -> str:
    node = server.new_instance(root, "imagetile", name, **config)
    server.ok("POST", f"{node}/metadata", json_body=METADATA)
    return node


def encode(pixels: np.ndarray, form: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, form)
    return target.getvalue()


class Walk:
    """Random tiles at random versions, beside what each version must have."""

    def __init__(self, live: Any, seed: int) -> None:
        self.live = live
        self.dice = random.Random(seed)
        self.root = live.new_repo()
        made(live, self.root)
        self.known: dict[str, dict[str, bytes]] = {self.root: {}}
        self.open = [self.root]

    def step(self) -> None:
        dice = self.dice
        uuid = dice.choice(self.open)
        if dice.random() < 0.12 and len(self.known) < 6:
            self.live.commit(uuid)
            self.open.remove(uuid)
            for number in range(dice.randrange(1, 3)):
                body = {"branch": f"b{len(self.known)}-{number}"}
                answer = self.live.ok("POST", f"/api/node/{uuid}/branch", json_body=body)
                child = answer.json()["child"]
                self.known[child] = dict(self.known[uuid])
                self.open.append(child)
            return
        place = f"{dice.choice(list(AXES))}/{dice.choice((0, 1, 255))}/{dice.randrange(3)}_1_0"
        data = dice.randbytes(dice.choice((0, 1, 512, 513, 5000)))
        self.live.ok("POST", f"/api/node/{uuid}/tiles/tile/{place}", data)
        self.known[uuid][place] = data


@pytest.mark.parametrize("seed", [1, 2])
def test_every_version_has_the_tiles_that_were_put(live: Any, seed: int, tmp_path: Path) -> None:
    walk = Walk(live, seed)
    for _ in range(120):
        walk.step()
    assert len(walk.known) > 2
    for uuid, known in walk.known.items():
        for plane in AXES:
            for scale in (0, 1, 255):
                for x in range(3):
                    place = f"{plane}/{scale}/{x}_1_0"
                    path = f"/api/node/{uuid}/tiles/tile/{place}"
                    answer = live.call("GET", path, noblanks="true")
                    expected = known.get(place, b"")
                    assert answer.status == (200 if expected else 404), place
                    assert not expected or answer.body == expected
    check_rebuilt(live, tmp_path)


def test_parents_that_differ_are_a_conflict_until_it_is_settled(live: Any, tmp_path: Path) -> None:
    root = live.new_repo()
    made(live, root)
    live.commit(root)
    sides = []
    for value in (b"one", b"two"):
        body = {"branch": value.decode()}
        side = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        live.ok("POST", f"/api/node/{side}/tiles/tile/xy/0/1_2_3", value)
        live.ok("POST", f"/api/node/{side}/tiles/tile/xy/0/{len(sides)}_0_0", value)
        live.commit(side)
        sides.append(side)
    body = {"mergeType": "conflict-free", "parents": sides, "note": ""}
    child = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    node = f"/api/node/{child}/tiles"
    assert live.call("GET", f"{node}/tile/xy/0/1_2_3").status == 400
    assert live.ok("GET", f"{node}/tile/xy/0/0_0_0").body == b"one"
    assert "tile xy/0/1_2_3" in live.ok("GET", f"/api/repo/{child}/conflicts").text
    body = {"data": ["tiles"], "parents": sides[::-1], "note": ""}
    child = live.ok("POST", f"/api/repo/{root}/resolve", json_body=body).json()["child"]
    assert live.ok("GET", f"/api/node/{child}/tiles/tile/xy/0/1_2_3").body == b"two"
    check_rebuilt(live, tmp_path)


def put_plane(server: Any, node: str, volume: np.ndarray, plane: str, at: int) -> np.ndarray:
    """Put all tiles of one plane of a volume but one; return what is known of the plane."""
    right, down = AXES[plane]
    (axis,) = {0, 1, 2} - {right, down}
    picture = np.take(volume, at, axis=2 - axis).copy()
    for row in range(-(-picture.shape[0] // SIZE[down])):
        for column in range(-(-picture.shape[1] // SIZE[right])):
            rows = slice(row * SIZE[down], (row + 1) * SIZE[down])
            columns = slice(column * SIZE[right], (column + 1) * SIZE[right])
            place = [at, at, at]
            place[down], place[right] = row, column
            if (row, column) == (1, 1):
                picture[rows, columns] = 0
                continue
            data = encode(picture[rows, columns])
            server.ok("POST", f"{node}/tile/{plane}/0/{'_'.join(map(str, place))}", data)
    return picture


@pytest.mark.parametrize("plane", AXES)
def test_pictures_are_put_together_from_tiles(server: Any, root: str, plane: str) -> None:
    server.new_instance(root, "uint8blk", "grey", VoxelSize="8,8,20")
    node = made(server, root, Source="grey")
    volume = model.noise((50, 70, 90), "u1", 1)
    known = put_plane(server, node, volume, plane, 5)
    right, down = AXES[plane]
    for width, height, x, y in ((60, 40, 7, 3), (90, 70, 0, 0), (40, 30, -9, -4), (8, 8, 200, 0)):
        offset = [5, 5, 5]
        offset[right], offset[down] = x, y
        answer = server.ok(
            "GET", f"{node}/raw/{plane}/{model.words((width, height), tuple(offset))}"
        )
        padded = np.zeros((300, 300), np.uint8)
        padded[20 : 20 + known.shape[0], 20 : 20 + known.shape[1]] = known
        expected = padded[20 + y : 20 + y + height, 20 + x : 20 + x + width]
        assert np.array_equal(model.picture(answer.body), expected)
    size = model.words((40, 50), (5, 5, 5))
    got = model.picture(server.ok("GET", f"{node}/isotropic/{plane}/{size}").body)
    assert got.shape == (50, 40)


def test_a_source_of_colours_or_16_bits_has_such_pictures(server: Any, root: str) -> None:
    colours = model.noise((24, 32, 3), "u1", 2)
    deep = model.noise((24, 32), "<u2", 3).astype(np.uint16)
    grey = model.noise((24, 32), "u1", 4)
    for typename in ("rgba8blk", "uint16blk", "uint8blk", "uint64blk"):
        server.new_instance(root, typename, typename)
        node = made(server, root, f"of-{typename}", Source=typename)
        for x, pixels in enumerate((colours, deep, grey)):
            server.ok("POST", f"{node}/tile/xy/0/{x}_0_0", encode(pixels))
        got = model.picture(server.ok("GET", f"{node}/raw/xy/96_24/0_0_0").body)
        if typename == "rgba8blk":
            assert np.array_equal(got[:, :32, :3], colours)
            assert np.array_equal(got[:, 32:64, 0], deep >> 8)
            assert np.array_equal(got[:, 64:, 2], grey)
        elif typename == "uint16blk":
            assert np.array_equal(got[:, 32:64].astype(np.uint16), deep)
            assert np.array_equal(got[:, 64:].astype(np.uint16), grey.astype(np.uint16) * 257)
        elif typename == "uint8blk":
            bright = np.array(Image.fromarray(colours).convert("L")).astype(int)
            assert np.abs(got[:, :32] - bright).max() <= 1
            assert np.array_equal(got[:, 32:64], deep >> 8)


def serialized(pixels: np.ndarray, checksum: bool = False) -> bytes:
    """A picture as DVID serializes it: LZ4, with or without a CRC-32."""
    import zlib

    kind = {(1, 2): 0, (2, 2): 1, (1, 3): 2, (2, 3): 3}[pixels.itemsize, pixels.ndim]
    values = struct.pack("<HBH", 1, 0, 4) + b"grey"
    row = pixels[0].nbytes
    content = struct.pack("<I", len(values)) + values
    content += struct.pack("<B3i", kind, row, pixels.shape[1], pixels.shape[0])
    content += pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    body = struct.pack("<I", len(content)) + lz4.block.compress(content, store_size=False)
    if checksum:
        return bytes((0x88,)) + struct.pack("<I", zlib.crc32(body)) + body
    return b"\x80" + body


@pytest.mark.parametrize("checksum", [False, True])
def test_tiles_in_dvids_own_form_are_sent_as_png(server: Any, root: str, checksum: bool) -> None:
    server.new_instance(root, "uint8blk", "grey")
    node = made(server, root, Format="lz4", Source="grey")
    grey = model.noise((24, 32), "u1", 5)
    colours = model.noise((24, 32, 4), "u1", 6)
    deep = model.noise((24, 32), "<u2", 7)
    for x, pixels in enumerate((grey, colours, deep)):
        server.ok("POST", f"{node}/tile/xy/0/{x}_0_0", serialized(pixels, checksum))
        answer = server.ok("GET", f"{node}/tile/xy/0/{x}_0_0")
        assert answer.headers["content-type"] == "image/png"
        assert np.array_equal(model.picture(answer.body), pixels)
    got = model.picture(server.ok("GET", f"{node}/raw/xy/32_24/0_0_0").body)
    assert np.array_equal(got, grey)
    good = serialized(grey, checksum)
    dice = random.Random(8)
    for damaged in (good[:-9], good[:7], b"x", encode(grey), dice.randbytes(99)):
        server.ok("POST", f"{node}/tile/xy/0/7_0_0", damaged)
        assert server.call("GET", f"{node}/tile/xy/0/7_0_0").status == 400
        assert not model.picture(server.ok("GET", f"{node}/raw/xy/32_24/224_0_0").body).any()
    for _ in range(100):
        damaged = bytearray(good)
        damaged[dice.randrange(len(good))] = dice.randrange(256)
        server.ok("POST", f"{node}/tile/xy/0/7_0_0", bytes(damaged))
        assert server.call("GET", f"{node}/tile/xy/0/7_0_0").status in (200, 400)


def test_what_is_no_picture_is_black_in_pictures_and_sent_as_it_is(server: Any, root: str) -> None:
    server.new_instance(root, "uint8blk", "grey")
    node = made(server, root, Source="grey")
    pixels = np.full((24, 32), 200, np.uint8)
    big = np.zeros((9000, 9000), np.uint8)  # more pixels than a tile may have
    for x, data in enumerate(
        (b"no picture", encode(pixels, "JPEG"), encode(pixels)[:45], encode(big))
    ):
        server.ok("POST", f"{node}/tile/xy/0/{x}_0_0", data)
        assert server.ok("GET", f"{node}/tile/xy/0/{x}_0_0").body == data
    server.ok("POST", f"{node}/tile/xy/0/4_0_0", encode(pixels))
    got = model.picture(server.ok("GET", f"{node}/raw/xy/160_24/0_0_0").body)
    assert not got[:, :128].any()
    assert (got[:, 128:] == 200).all()


def test_placeholders_name_missing_tiles(server: Any, root: str) -> None:
    server.new_instance(root, "uint8blk", "grey")
    node = made(server, root, Source="grey", Placeholder="true")
    got = model.picture(server.ok("GET", f"{node}/raw/xy/64_24/0_0_0").body)
    assert len(np.unique(got)) > 1
    assert np.array_equal(got[:, 0], got[:, 32]), "each has its own frame"
    blank = model.picture(server.ok("GET", f"{node}/tile/xy/0/0_0_0").body)
    assert blank.shape == (24, 32)
    assert not blank.any()


REFUSED = [
    ("GET", "tile/vol/0/0_0_0", b"", "plane"),
    ("GET", "tile/zz/0/0_0_0", b"", "shape"),
    ("GET", "tile/xy/256/0_0_0", b"", "scale"),
    ("GET", "tile/xy/-1/0_0_0", b"", "scale"),
    ("GET", "tile/xy/0/0_0", b"", "3 numbers"),
    ("GET", "tile/xy/0", b"", "coordinate"),
    ("GET", "tile/xy/2/0_0_0", b"", "scale level 2"),
    ("GET", "tile/xy/0/9_9_9/gif", b"", "image format"),
    ("POST", "tile/xy/0/0_0_99999999999", b"x", "32-bit"),
    ("POST", "tile/zz/0/0_0_0", b"x", "shape"),
    ("POST", "tilekey/xy/0/0_0_0", b"x", "read only"),
    ("POST", "raw/xy/8_8/0_0_0", b"x", "read only"),
    ("POST", "tags", b"{}", "Bad API call"),
    ("POST", "sync", b"{}", "Bad API call"),
    ("PUT", "tile/xy/0/0_0_0", b"x", "GET or POST"),
    ("DELETE", "metadata", b"", "GET or POST"),
    ("GET", "raw/xy/8_8/0_0", b"", "3 numbers"),
    ("GET", "raw/0_1_2/8_8_8/0_0_0", b"", "2d"),
    ("GET", "raw/xy/8_8", b"", "shape/size/offset"),
    ("GET", "raw/xy/20000_20000/0_0_0", b"", "pixels"),
    ("GET", "isotropic/xz/8_1/0_0_0", b"", "one voxel"),
    ("POST", "metadata", b"[]", "cannot unmarshal array"),
    ("POST", "metadata", b"{}", "level 0"),
    ("POST", "metadata", b'{"Levels": {"0": {"Resolution": [8, 8, 8]}}}', "TileSize"),
    ("POST", "metadata", b'{"Levels": {"0": {"TileSize": [8, 8, 8]}}}', "Resolution"),
    ("POST", "metadata", b'{"Levels": {"0": 5}}', "cannot unmarshal number"),
    ("POST", "metadata", b'{"Levels": [1]}', "cannot unmarshal array"),
    ("POST", "metadata", b'{"Levels": {"-1": {}}}', "consecutive"),
]


@pytest.fixture(scope="module")
def refusing(server: Any) -> str:
    root = server.new_repo()
    server.new_instance(root, "uint8blk", "grey", VoxelSize="8,8,20")
    node = made(server, root, Source="grey")
    server.ok("POST", f"{node}/tile/xy/0/0_0_0", b"tile")
    return node


def levels(*pairs: tuple[list[Any], list[Any]]) -> bytes:
    import json

    named = {str(i): {"Resolution": r, "TileSize": s} for i, (r, s) in enumerate(pairs)}
    return json.dumps({"Levels": named}).encode()


TILE = [8, 8, 8]
BAD_LEVELS = [
    (levels(([8, 8], TILE)), "Resolution"),
    (levels(([8, 8, 0], TILE)), "Resolution"),
    (levels(([8, 8, 8], [8, 8])), "TileSize"),
    (levels(([8, 8, 8], [8, 0, 8])), "TileSize"),
    (levels(([8, 8, 8], [1 << 20, 1 << 20, 1])), "pixels"),
    (levels(([8, 8, 8], TILE), ([10, 8, 8], TILE)), "integral"),
    (levels(([8, 8, 8], TILE), ([12, 8, 8], TILE)), "integral"),
    (levels(([16, 16, 16], TILE), ([12, 16, 16], TILE)), "increases"),
    (levels(([8, 8, 8], TILE))[:-1] + b', "MinTileCoord": [1.5]}', "MinTileCoord"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [*REFUSED, *(("POST", "metadata", body, says) for body, says in BAD_LEVELS)],
)
def test_what_is_refused_says_why_and_changes_nothing(
    server: Any, refusing: str, method: str, path: str, body: bytes, says: str
) -> None:
    def state() -> Any:
        info = server.ok("GET", f"{refusing}/info")
        return info.json(), info.headers["x-dvid-es-seq"]

    before = state()
    answer = server.call(method, f"{refusing}/{path}", body or None)
    assert answer.status == 400, answer
    assert says in answer.text
    assert state() == before
    assert server.ok("GET", f"{refusing}/tile/xy/0/0_0_0").body == b"tile"


def test_a_picture_of_too_many_tiles_is_asked_for_in_parts(
    server: Any, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "TILES_MAX", 3)
    server.ok("GET", f"{refusing}/raw/xy/64_24/0_0_0")
    answer = server.call("GET", f"{refusing}/raw/xy/65_48/0_0_0")
    assert answer.status == 400
    assert "in parts" in answer.text


@pytest.mark.parametrize(
    "config",
    [
        {"Format": "gif"},
        {"Format": "png", "Compression": "lz4"},
        {"Compression": "gzip"},
        {"Placeholder": "maybe"},
        {"Checksum": "md5"},
    ],
)
def test_an_instance_with_settings_that_cannot_be_is_not_made(
    server: Any, root: str, config: dict[str, str]
) -> None:
    body = {"typename": "imagetile", "dataname": "bad", **config}
    assert server.call("POST", f"/api/repo/{root}/instance", json_body=body).status == 400
    assert server.call("GET", f"/api/node/{root}/bad/info").status == 400


def test_keys_differ_by_plane_scale_and_coordinate(server: Any, refusing: str) -> None:
    places = ["xy/0/1_2_3", "xz/0/1_2_3", "xy/1/1_2_3", "xy/0/1_2_4", "xy/0/-1_2_3"]
    keys = [server.ok("GET", f"{refusing}/tilekey/{place}").json()["key"] for place in places]
    assert len(set(keys)) == len(places)
    assert all(bytes.fromhex(key) for key in keys)
