"""What volumes of voxels must answer: numpy only; and requests as clients send them."""

from __future__ import annotations

import gzip
import io
import struct
from typing import Any

import lz4.block
import numpy as np
from PIL import Image

Volume = np.ndarray

DTYPES = {
    "uint8blk": "u1",
    "uint16blk": "<u2",
    "uint32blk": "<u4",
    "uint64blk": "<u8",
    "float32blk": "<f4",
    "rgba8blk": "<u4",
}


def noise(shape: tuple[int, ...], dtype: str, seed: int) -> Volume:
    rng = np.random.default_rng(seed)
    if dtype == "<f4":
        return (rng.random(shape) * 2000 - 1000).astype(dtype)
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize)).astype(np.uint8)
    return raw.view(dtype)[..., 0]


def smooth(shape: tuple[int, int, int]) -> Volume:
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return (128 + 60 * np.sin(z / 9) + 40 * np.cos(y / 11 + x / 13)).astype(np.uint8)


def words(size: tuple[int, ...], offset: tuple[int, ...]) -> str:
    return "_".join(map(str, size)) + "/" + "_".join(map(str, offset))


def post(live: Any, node: str, volume: Volume, offset_xyz=(0, 0, 0), **query: str) -> None:
    path = f"{node}/raw/0_1_2/{words(volume.shape[::-1], offset_xyz)}"
    assert live.ok("POST", path, volume.tobytes(), **query).body == b""


def read(live: Any, node: str, size_xyz, offset_xyz, dtype: str = "u1", **query: str) -> Volume:
    body = live.ok("GET", f"{node}/raw/0_1_2/{words(size_xyz, offset_xyz)}", **query).body
    return np.frombuffer(body, dtype).reshape(size_xyz[::-1])


def picture(body: bytes) -> Volume:
    """Pixels of a PNG, JPEG, TIFF or BMP of up to 8 bits, or grey of 16."""
    return np.asarray(Image.open(io.BytesIO(body)))


def split_stream(body: bytes) -> list[tuple[tuple[int, int, int], bytes]]:
    """Block coordinates (x, y, z) and payloads."""
    at, found = 0, []
    while at < len(body):
        x, y, z, size = struct.unpack_from("<4i", body, at)
        found.append(((x, y, z), body[at + 16 : at + 16 + size]))
        at += 16 + size
    assert at == len(body)
    return found


def unpacked(form: str, payload: bytes) -> bytes:
    if form == "lz4":
        (size,) = struct.unpack_from("<I", payload)
        return lz4.block.decompress(payload[4:], uncompressed_size=size)
    return gzip.decompress(payload) if form == "gzip" else payload


class Model:
    """The blocks that one version sees, in a grid that begins at block `low` (z, y, x)."""

    def __init__(self, side: int, grid: int, low: int) -> None:
        self.side, self.low = side, low
        self.volume = np.zeros((grid * side,) * 3, np.uint8)
        self.there = np.zeros((grid,) * 3, bool)
        self.extents: list[int] | None = None

    def child(self) -> Model:
        other = Model(self.side, len(self.there), self.low)
        other.volume, other.there = self.volume.copy(), self.there.copy()
        other.extents = self.extents and list(self.extents)
        return other

    def block(self, at: tuple[int, int, int]) -> tuple[slice, ...]:
        return tuple(slice(a * self.side, (a + 1) * self.side) for a in at)

    def write(self, at: tuple[int, int, int], voxels: Volume) -> None:
        """Write one block at a place of the grid (z, y, x)."""
        self.volume[self.block(at)] = voxels
        self.there[at] = True

    def grow(self, first_xyz: list[int], last_xyz: list[int]) -> None:
        if self.extents is None:
            self.extents = [*first_xyz, *last_xyz]
            return
        low = [min(a, b) for a, b in zip(self.extents[:3], first_xyz, strict=True)]
        high = [max(a, b) for a, b in zip(self.extents[3:], last_xyz, strict=True)]
        self.extents = [*low, *high]
