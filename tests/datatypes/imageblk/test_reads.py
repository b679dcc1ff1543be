"""What volumes answer, in every type and form, against numpy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import images, voxelblock
from dvid_es.datatypes.imageblk import arbitrary, streams, volumes
from dvid_es.settings import Settings
from tests.datatypes.imageblk import volume_model as model
from tests.datatypes.imageblk.volume_model import DTYPES, Volume

FORMS = {"lz4": "lz4", "gzip": "gzip", "gzip:9": "gzip", "snappy": "snappy", "none": "none"}
SHAPE = (24, 32, 40)
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: Any) -> Any:
    data = tmp_path_factory.mktemp("volumes") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture
def root(server: Any) -> str:
    return server.new_repo()


def made(server: Any, root: str, volume: Volume, typename: str = "uint8blk", **config: str) -> str:
    config = {"BlockSize": "8,16,8", **config}
    node = server.new_instance(root, typename, f"volume{next(NUMBERS)}", **config)
    model.post(server, node, volume)
    return node


@pytest.mark.parametrize("typename", DTYPES)
def test_voxels_of_every_type_come_back(server: Any, root: str, typename: str) -> None:
    dtype = DTYPES[typename]
    volume = model.noise(SHAPE, dtype, 1)
    node = made(server, root, volume, typename)
    z, y, x = SHAPE
    assert np.array_equal(model.read(server, node, (x, y, z), (0, 0, 0), dtype), volume)
    part = model.read(server, node, (9, 20, 13), (5, 3, 7), dtype)
    assert np.array_equal(part, volume[7:20, 3:23, 5:14])
    past = model.read(server, node, (6, 6, 6), (x - 3, -3, z - 3), dtype)
    assert np.array_equal(past[:3, 3:, :3], volume[-3:, :3, -3:])
    assert not past[3:].any()
    assert not past[:, :3].any()
    blocks = server.ok("GET", f"{node}/blocks/1_1_2/3").body
    expected = [volume[16:24, 16:32, 8 * b : 8 * b + 8] for b in (1, 2, 3)]
    assert blocks == b"".join(block.tobytes() for block in expected)
    stream = server.ok("GET", f"{node}/subvolblocks/16_16_8/8_0_8", compression="uncompressed").body
    assert model.split_stream(stream) == [
        ((b, 0, 1), volume[8:16, :16, 8 * b : 8 * b + 8].tobytes()) for b in (1, 2)
    ]


@pytest.mark.parametrize("typename", DTYPES)
def test_blocks_of_every_type_can_be_written_in_a_row(
    server: Any, root: str, typename: str
) -> None:
    blocks = model.noise((2, 8, 8, 8), DTYPES[typename], 2)
    node = server.new_instance(root, typename, "row", BlockSize="8,8,8", Background="3")
    server.ok("POST", f"{node}/blocks/-1_2_0/2", blocks.tobytes())
    assert server.ok("GET", f"{node}/blocks/-1_2_0/2").body == blocks.tobytes()
    got = model.read(server, node, (16, 8, 8), (-8, 16, 0), DTYPES[typename])
    assert np.array_equal(got, np.concatenate(list(blocks), axis=2))
    empty = np.frombuffer(server.ok("GET", f"{node}/blocks/5_5_5/1").body, DTYPES[typename])
    assert set(empty.tolist()) == {0x03030303 if typename == "rgba8blk" else 3}


@pytest.mark.parametrize("compression", FORMS)
@pytest.mark.parametrize("typename", ["uint8blk", "uint16blk"])
def test_blocks_are_streamed_as_they_are_stored(
    server: Any, root: str, typename: str, compression: str
) -> None:
    volume = model.noise(SHAPE, DTYPES[typename], 3) // 16
    node = made(server, root, volume, typename, Compression=compression, Checksum="crc32")
    form = FORMS[compression]
    size = volume.itemsize * 8 * 16 * 8
    stream = server.ok("GET", f"{node}/specificblocks", blocks="4,1,2,9,9,9,0,0,0,4,1,2").body
    found = model.split_stream(stream)
    assert [xyz for xyz, _ in found] == [(4, 1, 2), (0, 0, 0), (4, 1, 2)]
    voxels = voxelblock.decode(found[0][1], form, size)
    assert voxels.tobytes() == volume[16:24, 16:32, 32:40].tobytes()
    if form != "snappy":
        assert model.unpacked(form, found[0][1]) == voxels.tobytes()
    assert server.call("GET", f"{node}/subvolblocks/8_16_8/0_0_0?compression=jpeg").status == 400
    assert server.ok("GET", f"{node}/subvolblocks/8_16_8/800_0_0?compression=jpeg").body == b""


def test_jpeg_is_for_voxels_of_one_byte_and_spares_the_others(server: Any, root: str) -> None:
    volume = model.smooth(SHAPE)
    node = made(server, root, volume, Compression="jpeg", BlockSize="8,8,8")
    got = model.read(server, node, SHAPE[::-1], (0, 0, 0))
    assert 0 < np.abs(got.astype(int) - volume).max() < 12
    ((_, payload),) = model.split_stream(
        server.ok("GET", f"{node}/specificblocks?blocks=1,2,0&compression=jpeg").body
    )
    assert model.picture(payload).shape == (64, 8)
    assert (
        np.abs(model.picture(payload).reshape(8, 8, 8) - got[:8, 16:24, 8:16].astype(int)).max()
        == 0
    )
    deep = model.noise(SHAPE, "<u2", 4)
    other = made(server, root, deep, "uint16blk", Compression="jpeg")
    assert np.array_equal(model.read(server, other, SHAPE[::-1], (0, 0, 0), "<u2"), deep)


def plane(volume: Volume, name: str, width: int, height: int, offset: tuple[int, ...]) -> Volume:
    x, y, z = offset
    if name == "xy":
        return volume[z, y : y + height, x : x + width]
    if name == "xz":
        return volume[z : z + height, y, x : x + width]
    return volume[z : z + height, y : y + width, x]


@pytest.mark.parametrize("name", ["xy", "xz", "yz"])
def test_slices_are_pictures_in_every_format(server: Any, root: str, name: str) -> None:
    volume = model.smooth(SHAPE)
    node = made(server, root, volume)
    expected = plane(volume, name, 19, 15, (9, 6, 5))
    path = f"{node}/raw/{name}/19_15/9_6_5"
    for form, kind in (
        ("", "png"),
        ("/png", "png"),
        ("/tiff", "tiff"),
        ("/tif", "tiff"),
        ("/bmp", "bmp"),
    ):
        answer = server.ok("GET", path + form)
        assert answer.headers["content-type"] == f"image/{kind}"
        assert np.array_equal(model.picture(answer.body), expected)
    for form in ("/jpg", "/jpeg:95"):
        answer = server.ok("GET", path + form)
        assert answer.headers["content-type"] == "image/jpeg"
        assert np.abs(model.picture(answer.body).astype(int) - expected).max() < 8


def test_wider_voxels_are_shown_by_their_bytes(server: Any, root: str) -> None:
    deep = model.noise(SHAPE, "<u2", 5)
    node = made(server, root, deep, "uint16blk")
    got = model.picture(server.ok("GET", f"{node}/raw/xy/20_10/3_4_5").body)
    assert np.array_equal(got.astype(np.uint16), deep[5, 4:14, 3:23])
    for typename in ("uint32blk", "float32blk", "rgba8blk"):
        volume = model.noise(SHAPE, DTYPES[typename], 6)
        node = made(server, root, volume, typename)
        got = model.picture(server.ok("GET", f"{node}/raw/yz/20_10/3_4_5").body)
        part = np.ascontiguousarray(volume[5:15, 4:24, 3])
        assert np.array_equal(got, part.view(np.uint8).reshape(10, 20, 4))


def test_formats_without_alpha_have_it_multiplied_in(server: Any, root: str) -> None:
    volume = model.noise(SHAPE, "<u4", 6)
    node = made(server, root, volume, "rgba8blk")
    got = model.picture(server.ok("GET", f"{node}/raw/xy/20_10/3_4_5/bmp").body)
    part = np.ascontiguousarray(volume[5, 4:14, 3:23]).view(np.uint8).reshape(10, 20, 4)
    expected = part[..., :3].astype(int) * part[..., 3:] / 255
    assert np.abs(got - expected).max() <= 1
    deep = model.noise(SHAPE, "<u2", 5)
    node = made(server, root, deep, "uint16blk")
    for form in ("bmp", "jpg"):
        got = model.picture(server.ok("GET", f"{node}/raw/xy/20_10/3_4_5/{form}").body)
        assert got.shape == (10, 20, 3)
        if form == "bmp":
            assert np.array_equal(got[..., 1], deep[5, 4:14, 3:23] >> 8)


def area_average(image: Volume, width: int, height: int) -> Volume:
    """Scale by the mean of the covered area, rounded down."""

    def weights(size: int, wanted: int) -> Volume:
        table = np.zeros((wanted, size), np.int64)
        for i in range(size * wanted):
            table[i // size, i // wanted] += 1
        return table

    down, across = weights(image.shape[0], height), weights(image.shape[1], width)
    scaled = down @ image.astype(np.int64) @ across.T
    return (scaled // (image.shape[0] * image.shape[1])).astype(image.dtype)


@pytest.mark.parametrize("strip", [1 << 18, 64])
@pytest.mark.parametrize(("rows", "height"), [(1, 1), (1, 7), (5, 5), (5, 20), (7, 9), (13, 40)])
def test_stretching_is_the_mean_of_what_a_pixel_covers(
    rows: int, height: int, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_STRETCHED_PIXELS", strip)
    for dtype in ("u1", "<u2"):
        image = model.noise((rows, 11), dtype, rows)
        assert np.array_equal(images.scaled(image, height, 11), area_average(image, 11, height))
        turned = images.scaled(image.T, 11, height)
        assert np.array_equal(turned, area_average(image.T, height, 11))
    colours = model.noise((rows, 11, 4), "u1", rows)
    for channel in range(4):
        one = images.scaled(colours, height, 11)[..., channel]
        assert np.array_equal(one, area_average(colours[..., channel], 11, height))


def test_isotropic_pictures_have_square_pixels(server: Any, root: str) -> None:
    volume = model.noise(SHAPE, "u1", 7)
    node = made(server, root, volume, VoxelSize="8,8,20")
    got = model.picture(server.ok("GET", f"{node}/isotropic/xz/30_25/3_4_5").body)
    assert np.array_equal(got, area_average(volume[5:15, 4, 3:33], 30, 25))
    got = model.picture(server.ok("GET", f"{node}/isotropic/xy/30_25/3_4_5").body)
    assert np.array_equal(got, volume[5, 4:29, 3:33])
    assert server.call("GET", f"{node}/isotropic/xz/30_1/3_4_5").status == 400


def test_numbers_of_32_bits_are_averaged_as_one_number(server: Any, root: str) -> None:
    for typename in ("uint32blk", "float32blk"):
        volume = model.noise(SHAPE, DTYPES[typename], 7)
        node = made(server, root, volume, typename, VoxelSize="8,8,20")
        got = model.picture(server.ok("GET", f"{node}/isotropic/xz/30_25/3_4_5").body)
        numbers = np.ascontiguousarray(volume[5:15, 4, 3:33]).view(">u4").astype(np.int64)
        expected = area_average(numbers, 30, 25).astype(">u4").view(np.uint8).reshape(25, 30, 4)
        assert np.array_equal(got, expected)


def cut(volume: Volume, voxel: tuple[float, ...], corners: Any, step: float, ground: int) -> Volume:
    """Trilinear interpolation, pixel by pixel."""
    left, right, bottom = (np.array(corner, float) for corner in corners)
    columns = int(np.linalg.norm(right - left) // step)
    rows = int(np.linalg.norm(bottom - left) // step)
    out = np.zeros((rows + 1, columns + 1))
    for row, column in np.ndindex(*out.shape):
        point = (
            left
            + (bottom - left) * (row / max(rows, 1))
            + (right - left) * (column / max(columns, 1))
        )
        at = point / np.array(voxel)
        for corner in np.ndindex(2, 2, 2):
            near = [int(np.floor(v)) + c for v, c in zip(at, corner, strict=True)]
            weight = np.prod([1 - abs(v - n) for v, n in zip(at, near, strict=True)])
            x, y, z = near
            inside = all(0 <= n < s for n, s in zip((z, y, x), volume.shape, strict=True))
            out[row, column] += weight * (volume[z, y, x] if inside else ground)
    return np.floor(out + 0.5)


PLANES = [
    (((0, 0, 0), (60, 0, 0), (0, 60, 0)), 2),
    (((8, 8, 16), (60, 14, 30), (4, 50, 170)), 3),
    (((60, 8, 16), (4, 8, 100), (60, 50, 16)), 2.5),
    (((-20, -30, -10), (90, -30, 60), (-20, 80, 230)), 4),
    (((5, 5, 5), (5, 5, 5), (5, 5, 5)), 1),
    (((5.5, 5, 5), (5.5, 5, 5), (5.5, 55, 5)), 1.5),
]


@pytest.mark.parametrize(("corners", "step"), PLANES)
@pytest.mark.parametrize(("part", "decoded"), [(1 << 15, 32 << 20), (40, 5000)])
def test_planes_of_any_orientation_are_interpolated(
    server: Any,
    root: str,
    corners: Any,
    step: float,
    part: int,
    decoded: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arbitrary, "PART_PIXELS", part)
    monkeypatch.setattr(arbitrary, "DECODED_BYTES", decoded)
    voxel = (2.0, 2.0, 10.0)
    text = "/".join("_".join(f"{v:g}" for v in corner) for corner in corners)
    for typename in ("uint8blk", "uint16blk"):
        volume = model.noise(SHAPE, DTYPES[typename], 8)
        node = made(server, root, volume, typename, VoxelSize="2,2,10", Background="9")
        got = model.picture(server.ok("GET", f"{node}/arb/{text}/{step}").body)
        expected = cut(volume, voxel, corners, step, 9)
        assert got.shape == expected.shape
        # Sums of eight products may round to either side of a half.
        assert np.abs(got.astype(int) - expected).max() <= 1
        assert (got != expected).mean() < 0.02


def test_colours_are_interpolated_channel_by_channel(server: Any, root: str) -> None:
    volume = model.noise(SHAPE, "<u4", 9)
    node = made(server, root, volume, "rgba8blk", VoxelSize="2,2,10")
    corners, step = PLANES[1]
    text = "/".join("_".join(f"{v:g}" for v in corner) for corner in corners)
    got = model.picture(server.ok("GET", f"{node}/arb/{text}/{step}").body)
    channels = volume.view(np.uint8).reshape(*SHAPE, 4)
    for channel in range(4):
        expected = cut(channels[..., channel], (2, 2, 10), corners, step, 0)
        assert np.abs(got[..., channel].astype(int) - expected).max() <= 1


def test_large_answers_are_the_same_in_parts(
    server: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = model.noise((40, 48, 56), "<u2", 10)
    node = made(server, root, volume, "uint16blk")
    raw = f"{node}/raw/0_1_2/60_50_45/-3_-1_-2"
    stream = f"{node}/subvolblocks/56_48_40/0_0_0"
    row = f"{node}/blocks/-1_1_1/9"
    paths = [raw, stream, f"{stream}?compression=uncompressed", row]
    before = [server.ok("GET", path).body for path in paths]
    monkeypatch.setattr(volumes, "SMALL_BYTES", 1000)
    monkeypatch.setattr(volumes, "SLAB_BYTES", 20_000)
    monkeypatch.setattr(streams, "PART_BYTES", 5000)
    monkeypatch.setattr("dvid_es.datatypes.imageblk.endpoints.PIECE_BYTES", 1000)
    for path, expected in zip(paths, before, strict=True):
        answer = server.ok("GET", path)
        assert answer.body == expected
        assert answer.headers["content-length"] == str(len(expected))


def test_a_volume_is_one_jpeg_with_its_planes_under_each_other(server: Any, root: str) -> None:
    volume = model.smooth(SHAPE)
    node = made(server, root, volume)
    answer = server.ok("GET", f"{node}/raw/0_1_2/20_10_6/3_4_5/jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    expected = volume[5:11, 4:14, 3:23].reshape(60, 20)
    assert np.abs(model.picture(answer.body).astype(int) - expected).mean() < 4


def test_many_small_blocks_go_to_the_packs(
    server: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvid_es.datatypes.imageblk.prepare.INLINE_TOTAL_MAX", 2000)
    volume = model.noise((16, 16, 16), "u1", 11)
    node = made(server, root, volume, BlockSize="2,4,2")
    assert np.array_equal(model.read(server, node, (16, 16, 16), (0, 0, 0)), volume)
