"""Pictures as PNG, JPEG, TIFF and BMP: the one home of Pillow.

PNG and TIFF are written here, because Pillow knows no 16-bit colours: labels need all 64 bits of a
pixel. Pillow writes JPEG and BMP, which have 8 bits: of 16 the upper ones are taken, and no alpha.

Source: WriteImageHttp in dvid/image.go (janelia-flyem/dvid).
"""

import io
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dvid_es.codecs.compression import crc32, zlib_join
from dvid_es.errors import InvalidRequest

Image.MAX_IMAGE_PIXELS = None  # `decode` measures pictures itself, and refuses instead of warning

Pixels = NDArray[Any]
"""uint8 or uint16 (any byte order) [height, width] grey, or [height, width, 3 or 4] colours, alpha."""

JPEG_SIDE_MAX = 65_500
"""Most pixels of a side that libjpeg takes."""

JPEG_QUALITY = 80
"""DVID's default."""

_STRETCHED_PIXELS = 1 << 18
"""Pixels that are stretched in one go."""

STRIP_BYTES = 1 << 20
"""Pixels that are compressed in one go: besides the picture and its PNG no more is in memory."""

_TYPES = {
    "": "image/png",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "tiff": "image/tiff",
    "tif": "image/tiff",
    "bmp": "image/bmp",
}
_QUALITY = re.compile(r"[+-]?[0-9]{1,9}\Z")

_SHORT, _LONG = 3, 4
_SIZES = {_SHORT: 2, _LONG: 4}


class Format(NamedTuple):
    """How a picture is written."""

    content_type: str
    quality: int = JPEG_QUALITY
    """Of JPEG, 1 to 100."""


def parse_format(text: str) -> Format:
    """Return the format of the last part of a path, such as "png" or "jpg:90"; "" is PNG.

    A quality out of range counts as the nearest; other formats than JPEG ignore it.

    Raises:
        InvalidRequest: no such format, or the quality is no number.
    """
    name, _, quality = text.partition(":")
    content_type = _TYPES.get(name)
    if content_type is None:
        raise InvalidRequest(
            f"Illegal image format requested: {name}; use png, jpg, jpeg, tiff or bmp"
        )
    if content_type != "image/jpeg" or ":" not in text:
        return Format(content_type)
    if not _QUALITY.match(quality):
        raise InvalidRequest(f'the quality of a JPEG is a number of 1 to 100, not "{quality}"')
    return Format(content_type, min(max(int(quality), 1), 100))


def check_size(width: int, height: int, form: Format) -> None:
    """Refuse pictures that a format cannot hold, before there is one.

    Raises:
        InvalidRequest: a side is too long.
    """
    if form.content_type == "image/jpeg" and max(width, height) > JPEG_SIDE_MAX:
        raise InvalidRequest(
            f"a JPEG has at most {JPEG_SIDE_MAX} pixels in each direction, not {width} x {height}"
        )


def encode(pixels: Pixels, form: Format) -> bytes:
    """Return the file of a picture.

    Args:
        pixels: see `Pixels`; its sides have passed `check_size`.
        form: what to write.
    """
    assert pixels.dtype.kind == "u", "pixels are unsigned"
    assert pixels.dtype.itemsize in (1, 2), "pixels have 8 or 16 bits"
    if form.content_type == "image/png":
        return _png(pixels)
    if form.content_type == "image/tiff":
        return _tiff(pixels)
    picture = Image.fromarray(_eight_bits(pixels))
    out = io.BytesIO()
    if form.content_type == "image/jpeg":
        picture.save(out, "JPEG", quality=form.quality)
    else:
        picture.save(out, "BMP")
    return out.getvalue()


# -- other sizes -----------------------------------------------------------------------------


def scaled(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return a picture with at least as many rows and columns: the mean of what each pixel covers.

    Means are exact and rounded down.
    """
    if pixels.shape[0] != height:
        pixels = _stretched(pixels, height)
    if pixels.shape[1] != width:
        turned = np.ascontiguousarray(pixels.swapaxes(0, 1))
        pixels = _stretched(turned, width).swapaxes(0, 1)
    return pixels


def _stretched(pixels: Pixels, wanted: int) -> Pixels:
    """Return `wanted` rows, at least as many as there are: each covers one or two of those."""
    rows = len(pixels)
    starts = np.arange(wanted, dtype=np.int64) * rows
    above = starts // wanted
    weights: NDArray[np.int64] = np.minimum((above + 1) * wanted - starts, rows)
    below = np.minimum(above + 1, rows - 1)
    out = np.empty((wanted, *pixels.shape[1:]), pixels.dtype.newbyteorder("="))
    step = max(1, _STRETCHED_PIXELS // max(1, pixels[0].size))
    for first in range(0, wanted, step):
        part = slice(first, first + step)
        weight = weights[part].reshape(-1, *[1] * (pixels.ndim - 1))
        total = weight * pixels[above[part]] + (rows - weight) * pixels[below[part]]
        out[part] = total // rows
    return out


# -- reading ---------------------------------------------------------------------------------


def decode_grey(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels uint8[height, width] of a grey JPEG of our own.

    Raises:
        InvalidRequest: it is damaged, or not grey.
    """
    pixels = decode(data, "JPEG", JPEG_SIDE_MAX**2)
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise InvalidRequest("a grey picture of 8 bits is needed")
    return pixels


def decode(data: bytes, kind: str, pixels_max: int) -> Pixels:
    """Return the pixels of a picture from outside: grey, or red, green, blue and alpha.

    Args:
        data: the file.
        kind: "PNG" or "JPEG"; nothing else is read.
        pixels_max: most pixels that it may have; they are looked at before any is decoded.

    Raises:
        InvalidRequest: it is damaged, of another kind, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as picture:
            if picture.width * picture.height > pixels_max:
                raise InvalidRequest(f"the picture has more than {pixels_max} pixels")
            if picture.mode == "L" or picture.mode.startswith("I;16"):
                return np.asarray(picture)
            if picture.mode == "I":  # grey of 16 bits, in older Pillows
                return np.asarray(picture).astype(np.uint16)
            return np.asarray(picture.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as problem:
        raise InvalidRequest(f"the picture is damaged: {problem}") from None


# -- making ----------------------------------------------------------------------------------


def black(width: int, height: int, form: Format) -> bytes:
    """Return the file of a black grey picture; its sides have passed `check_size`."""
    return encode(np.zeros((height, width), np.uint8), form)


def drawing(width: int, height: int, lines: Sequence[str]) -> Pixels:
    """Return lines of ASCII, black on white, with a frame: uint8[height, width]."""
    picture = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, height - 1), outline=200)
    font = ImageFont.load_default_imagefont()
    for number, line in enumerate(lines):
        draw.text((8, 8 + 14 * number), line, fill=0, font=font)
    return np.asarray(picture)


def converted(pixels: Pixels, dtype: np.dtype[Any], colour: bool) -> Pixels:
    """Return pixels as grey or as red, green, blue and alpha, in samples of 8 or 16 bits.

    Colours become grey by their brightness, as Go sees it.
    """
    if pixels.dtype.itemsize > dtype.itemsize:
        pixels = (pixels >> 8).astype(dtype)
    elif pixels.dtype.itemsize < dtype.itemsize:
        pixels = pixels.astype(dtype) * dtype.type(257)
    if colour and pixels.ndim == 2:
        full = np.full_like(pixels, np.iinfo(dtype).max)
        return np.stack([pixels, pixels, pixels, full], axis=-1)
    if not colour and pixels.ndim == 3:
        weights = np.array([19595, 38470, 7471], np.uint64)
        return ((pixels[..., :3].astype(np.uint64) @ weights + 32768) >> 16).astype(dtype)
    return pixels


# -- writing ---------------------------------------------------------------------------------


def _channels(pixels: Pixels) -> int:
    return 1 if pixels.ndim == 2 else pixels.shape[2]


def _eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the upper 8 bits of grey or red, green and blue."""
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    if pixels.dtype.itemsize == 2:
        pixels = pixels >> 8
    return np.ascontiguousarray(pixels, np.uint8)


def _rows(pixels: Pixels, order: str) -> NDArray[np.uint8]:
    """Return the bytes of each row, in a byte order; nothing is copied if they lie so already."""
    samples = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(order))  # type: ignore[arg-type]
    return samples.reshape(len(samples), -1).view(np.uint8)


# -- PNG -------------------------------------------------------------------------------------


def _png(pixels: Pixels) -> bytes:
    """Return a PNG; as Go writes it, without an alpha that hides nothing."""
    if _channels(pixels) == 4 and (pixels[..., 3] == np.iinfo(pixels.dtype).max).all():
        pixels = pixels[..., :3]
    height, width = pixels.shape[:2]
    colour = {1: 0, 3: 2, 4: 6}[_channels(pixels)]
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, colour, 0, 0, 0)
    data = zlib_join(_filtered(_rows(pixels, ">")))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            *_chunk(b"IHDR", head),
            *(part for at in range(0, len(data), 1 << 30) for part in _chunk(
                b"IDAT", memoryview(data)[at : at + (1 << 30)]
            )),
            *_chunk(b"IEND", b""),
        )
    )  # fmt: skip


def _chunk(kind: bytes, data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    check = crc32(data, crc32(kind))
    return len(data).to_bytes(4, "big") + kind, data, check.to_bytes(4, "big")


def _filtered(rows: NDArray[np.uint8]) -> Iterator[memoryview]:
    """Iterate over strips of rows as differences to the row above (filter 2).

    Segments are taller than a pixel, so that most of it is zeros.
    """
    height, size = rows.shape
    step = max(1, STRIP_BYTES // (size + 1))
    for first in range(0, height, step):
        strip = rows[first : first + step]
        out = np.empty((len(strip), size + 1), np.uint8)
        out[:, 0] = 2
        above = rows[first - 1] if first else 0
        np.subtract(strip[0], above, out=out[0, 1:])
        np.subtract(strip[1:], strip[:-1], out=out[1:, 1:])
        yield memoryview(out.reshape(-1))


# -- TIFF ------------------------------------------------------------------------------------


def _tiff(pixels: Pixels) -> bytes:
    """Return one uncompressed strip behind its directory; little endian."""
    height, width = pixels.shape[:2]
    channels, bits = _channels(pixels), 8 * pixels.dtype.itemsize
    rows = _rows(pixels, "<")
    tags: list[tuple[int, int, list[int]]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [bits] * channels),
        (259, _SHORT, [1]),  # not compressed
        (262, _SHORT, [1 if channels == 1 else 2]),  # grey, or red, green and blue
        (273, _LONG, [0]),  # set below: where the strip starts
        (277, _SHORT, [channels]),
        (278, _LONG, [height]),
        (279, _LONG, [rows.nbytes]),
        (284, _SHORT, [1]),  # the samples of a pixel lie together
        *([(338, _SHORT, [2])] if channels == 4 else []),  # alpha, not multiplied in
    ]
    behind = 8 + 2 + 12 * len(tags) + 4
    start = behind + sum(_SIZES[kind] * len(v) for _, kind, v in tags if _SIZES[kind] * len(v) > 4)
    entries, longer = b"", b""
    for tag, kind, values in tags:
        if tag == 273:
            values = [start]
        packed = struct.pack(f"<{len(values)}{'HI'[kind == _LONG]}", *values)
        if len(packed) > 4:
            longer, packed = longer + packed, struct.pack("<I", behind + len(longer))
        entries += struct.pack("<HHI4s", tag, kind, len(values), packed)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return b"".join((head, entries, bytes(4), longer, memoryview(rows.reshape(-1))))
