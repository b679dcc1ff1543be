from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dvid_es.codecs import images
from dvid_es.codecs.images import Format
from dvid_es.errors import InvalidRequest

PNG, TIFF = Format("image/png"), Format("image/tiff")
SHAPES = [(1, 1), (7, 5), (40, 30), (1, 300), (300, 1), (5, 6, 3), (9, 4, 4), (700, 500, 4)]


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng(5)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def read_png(data: bytes) -> np.ndarray:
    """Pillow would cut 16-bit colours to 8."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + content)
        chunks.append((kind, content))
        at += 12 + size
    assert chunks[-1] == (b"IEND", b"")
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[0][1])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packed = b"".join(content for kind, content in chunks if kind == b"IDAT")
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()
    samples = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    pixels = samples.view(">u2" if depth == 16 else "u1")
    return pixels.reshape((height, width) if channels == 1 else (height, width, channels))


def read_tiff(data: bytes) -> np.ndarray:
    """Pillow would cut 16-bit colours to 8."""
    assert data[:4] == b"II*\0"
    (at,) = struct.unpack_from("<I", data, 4)
    tags: dict[int, tuple[int, ...]] = {}
    for i in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, count = struct.unpack_from("<HHI", data, at + 2 + 12 * i)
        layout = f"<{count}{'HI'[kind == 4]}"
        place = at + 10 + 12 * i
        if struct.calcsize(layout) > 4:
            (place,) = struct.unpack_from("<I", data, place)
        tags[tag] = struct.unpack_from(layout, data, place)
    assert list(tags) == sorted(tags)
    (width,), (height,), channels = tags[256], tags[257], tags[277][0]
    assert len(tags[258]) == channels
    dtype = "<u2" if tags[258][0] == 16 else "u1"
    (start,), (size,) = tags[273], tags[279]
    assert start + size == len(data)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_png_and_tiff_keep_every_bit(shape: tuple[int, ...], dtype: str) -> None:
    pixels = noise(shape, dtype)
    for given in (pixels, pixels.astype(pixels.dtype.newbyteorder(">")), pixels[::-1][::-1]):
        assert (read_png(images.encode(given, PNG)) == pixels).all()
        assert (read_tiff(images.encode(given, TIFF)) == pixels).all()


@pytest.mark.parametrize("form", [PNG, TIFF, Format("image/bmp")])
@pytest.mark.parametrize("shape", SHAPES)
def test_other_programs_read_them(shape: tuple[int, ...], form: Format) -> None:
    pixels = noise(shape, "uint8")
    if form.content_type == "image/bmp":
        pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
    picture = Image.open(io.BytesIO(images.encode(pixels, form)))
    assert (np.asarray(picture) == pixels).all()
    wide = noise(shape, "uint16")
    if form.content_type == "image/bmp" and wide.ndim == 3:
        found = np.asarray(Image.open(io.BytesIO(images.encode(wide, form))))
        assert (found == wide[..., :3] >> 8).all()
    elif wide.ndim == 3 and form != TIFF:
        found = np.asarray(Image.open(io.BytesIO(images.encode(wide, form))))
        assert (found == wide >> 8).all()


def test_the_quality_of_a_jpeg_counts() -> None:
    pixels = noise((64, 48, 3), "uint8")
    sizes = [len(images.encode(pixels, images.parse_format(f"jpg:{q}"))) for q in (1, 50, 100)]
    assert sizes == sorted(set(sizes))
    best = images.encode(np.full((64, 48), 77, np.uint8), images.parse_format("jpeg:100"))
    picture = Image.open(io.BytesIO(best))
    assert (picture.format, picture.size, picture.mode) == ("JPEG", (48, 64), "L")
    assert (np.asarray(picture) == 77).all()


def test_formats_are_named_as_in_dvid() -> None:
    assert images.parse_format("") == images.parse_format("png") == PNG
    assert images.parse_format("png:7") == images.parse_format("png:x") == PNG
    assert images.parse_format("jpg") == images.parse_format("jpeg:80") == ("image/jpeg", 80)
    assert images.parse_format("jpg:0").quality == images.parse_format("jpg:-5").quality == 1
    assert images.parse_format("jpg:101").quality == 100
    assert images.parse_format("tiff") == images.parse_format("tif") == TIFF
    assert images.parse_format("bmp").content_type == "image/bmp"
    for text in ("gif", "PNG", "jpg:", "jpg:x", "jpg:8.5", "jpg:1_0", " png"):
        with pytest.raises(InvalidRequest):
            images.parse_format(text)


def test_a_jpeg_cannot_be_wider_than_its_format() -> None:
    jpeg = images.parse_format("jpg")
    images.check_size(images.JPEG_SIDE_MAX, 1, jpeg)
    images.encode(np.zeros((1, images.JPEG_SIDE_MAX), np.uint8), jpeg)
    images.check_size(images.JPEG_SIDE_MAX + 1, 1, PNG)
    with pytest.raises(InvalidRequest):
        images.check_size(1, images.JPEG_SIDE_MAX + 1, jpeg)
