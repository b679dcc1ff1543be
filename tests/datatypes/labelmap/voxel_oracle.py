"""Slow, obvious answers to compare with: numpy only, nothing of dvid_es."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import lz4.block
import numpy as np

Volume = np.ndarray


def cells(shape_zyx: tuple[int, int, int], count: int, seed: int, first: int = 1) -> Volume:
    random = np.random.default_rng(seed)
    centres = random.random((count, 3)) * shape_zyx
    z, y, x = np.ogrid[: shape_zyx[0], : shape_zyx[1], : shape_zyx[2]]
    distance = np.stack([(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 for a, b, c in centres])
    return (distance.argmin(axis=0) + first).astype(np.uint64)


def halved(volume: Volume) -> Volume:
    z, y, x = (side // 2 for side in volume.shape)
    groups = volume.reshape(z, 2, y, 2, x, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8)
    out = np.zeros(len(groups), np.uint64)
    for place, group in enumerate(groups):
        labels, votes = np.unique(group[group > 0], return_counts=True)
        if len(labels):
            out[place] = labels[votes == votes.max()].min()
    return out.reshape(z, y, x)


def sizes(volume: Volume) -> dict[int, int]:
    labels, counts = np.unique(volume, return_counts=True)
    return {int(label): int(n) for label, n in zip(labels, counts, strict=True) if label}


def encoded(volume: Volume) -> bytes:
    """A compressed label block, from the description of the format."""
    gz, gy, gx = (side // 8 for side in volume.shape)
    labels = np.unique(volume)
    head = struct.pack("<4I", gx, gy, gz, len(labels)) + labels.astype("<u8").tobytes()
    if len(labels) == 1:
        return head
    counts, indices, values = b"", b"", b""
    for z in range(0, gz * 8, 8):
        for y in range(0, gy * 8, 8):
            for x in range(0, gx * 8, 8):
                cube = volume[z : z + 8, y : y + 8, x : x + 8].ravel()
                found, codes = np.unique(cube, return_inverse=True)
                counts += struct.pack("<H", len(found))
                indices += np.searchsorted(labels, found).astype("<u4").tobytes()
                width = (len(found) - 1).bit_length()
                if width:
                    shifts = np.arange(width - 1, -1, -1)
                    bits = (codes.reshape(-1, 1) >> shifts & 1).astype(np.uint8)
                    values += np.packbits(bits).tobytes()
    return head + counts + indices + values


def decoded(data: bytes) -> Volume:
    """The voxels of a compressed label block."""
    gx, gy, gz, n = struct.unpack_from("<4I", data)
    labels = np.frombuffer(data, "<u8", n, 16)
    out = np.full((gz * 8, gy * 8, gx * 8), labels[0], np.uint64)
    if n == 1:
        return out
    at = 16 + 8 * n
    counts = np.frombuffer(data, "<u2", gx * gy * gz, at)
    at += counts.nbytes
    indices = np.frombuffer(data, "<u4", int(counts.sum()), at)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=at + indices.nbytes))
    first = bit = cell = 0
    for z in range(0, gz * 8, 8):
        for y in range(0, gy * 8, 8):
            for x in range(0, gx * 8, 8):
                n = int(counts[cell])
                table = labels[indices[first : first + n]]
                width = (n - 1).bit_length()
                codes = bits[bit : bit + 512 * width].reshape(512, width)
                cube = table[codes @ (1 << np.arange(width - 1, -1, -1))]
                out[z : z + 8, y : y + 8, x : x + 8] = cube.reshape(8, 8, 8)
                first, bit, cell = first + n, bit + 512 * width, cell + 1
    return out


def segmentation(data: bytes, shape_zyx: tuple[int, int, int]) -> Volume:
    """The voxels of a compressed_segmentation."""
    words = np.frombuffer(data, "<u4")
    base = int(words[0])
    out = np.zeros(shape_zyx, np.uint64)
    head = base
    for z in range(0, shape_zyx[0], 8):
        for y in range(0, shape_zyx[1], 8):
            for x in range(0, shape_zyx[2], 8):
                table, width = int(words[head]) & 0xFFFFFF, int(words[head]) >> 24
                start = 4 * (base + int(words[head + 1]))
                bits = np.frombuffer(data, np.uint8, 64 * width, start)
                codes = np.unpackbits(bits, bitorder="little").reshape(512, width)
                codes = codes @ (1 << np.arange(width))
                labels = np.frombuffer(
                    data[4 * (base + table) :][: 8 * (int(codes.max()) + 1)], "<u8"
                )
                out[z : z + 8, y : y + 8, x : x + 8] = labels[codes].reshape(8, 8, 8)
                head += 2
    return out


def split(body: bytes) -> list[tuple[tuple[int, int, int], bytes]]:
    found, at = [], 0
    while at < len(body):
        x, y, z, size = struct.unpack_from("<4i", body, at)
        found.append(((x, y, z), body[at + 16 : at + 16 + size]))
        at += 16 + size
    return found


def joined(blocks: list[tuple[tuple[int, int, int], bytes]]) -> bytes:
    return b"".join(struct.pack("<4i", *xyz, len(data)) + data for xyz, data in blocks)


def packed(block: Volume) -> bytes:
    return gzip.compress(encoded(block), 1)


def stream(volume: Volume, first_xyz: tuple[int, int, int], side: int) -> bytes:
    z, y, x = (n // side for n in volume.shape)
    fx, fy, fz = first_xyz
    return joined(
        [
            ((fx + i, fy + j, fz + k), packed(part(volume, (i, j, k), side)))
            for k in range(z)
            for j in range(y)
            for i in range(x)
        ]
    )


def part(volume: Volume, at_xyz: tuple[int, int, int], side: int) -> Volume:
    x, y, z = (side * c for c in at_xyz)
    return volume[z : z + side, y : y + side, x : x + side]


def unpacked(data: bytes, compression: str, shape_zyx: tuple[int, int, int]) -> Volume:
    """The voxels of a body in any of DVID's compressions."""
    if compression in ("google", "googlegzip"):
        return segmentation(data if compression == "google" else gzip.decompress(data), shape_zyx)
    if compression == "blocks":
        return decoded(gzip.decompress(data))
    if compression == "lz4":
        data = lz4.block.decompress(data, uncompressed_size=8 * int(np.prod(shape_zyx)))
    if compression == "gzip":
        data = gzip.decompress(data)
    return np.frombuffer(data, "<u8").reshape(shape_zyx)


def window(
    volume: Volume, offset_zyx: tuple[int, int, int], shape_zyx: tuple[int, int, int]
) -> Volume:
    """A box of a volume, zeros outside of it."""
    out = np.zeros(shape_zyx, np.uint64)
    low = [max(0, c) for c in offset_zyx]
    high = [min(n, c + s) for n, c, s in zip(volume.shape, offset_zyx, shape_zyx, strict=True)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        inner = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        to = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, offset_zyx, strict=True))
        out[to] = volume[inner]
    return out


class Segmentation:
    """A labelmap of a live server, seen from one version."""

    def __init__(self, live: Any, uuid: str, name: str = "seg") -> None:
        self.live = live
        self.node = f"/api/node/{uuid}/{name}"

    def post(
        self, volume: Volume, offset_xyz: tuple[int, int, int] = (0, 0, 0), **query: str
    ) -> Any:
        body = np.ascontiguousarray(volume, "<u8").tobytes()
        if query.get("compression") == "lz4":
            body = lz4.block.compress(body, store_size=False)
        if query.get("compression") == "gzip":
            body = gzip.compress(body, 1)
        return self.live.ok("POST", self.raw(volume.shape, offset_xyz), body, **query)

    def raw(self, shape_zyx: tuple[int, ...], offset_xyz: tuple[int, int, int]) -> str:
        size = "_".join(str(n) for n in shape_zyx[::-1])
        return f"{self.node}/raw/0_1_2/{size}/{'_'.join(map(str, offset_xyz))}"

    def read(
        self,
        shape_zyx: tuple[int, int, int],
        offset_xyz: tuple[int, int, int] = (0, 0, 0),
        compression: str = "",
        **query: Any,
    ) -> Volume:
        if compression:
            query["compression"] = compression
        answer = self.live.ok("GET", self.raw(shape_zyx, offset_xyz), **query)
        assert ("gzip" in answer.headers.get("content-encoding", "")) == (
            compression == "googlegzip"
        )
        return unpacked(answer.body, compression, shape_zyx)

    def labels(self, points: list[list[int]], **query: Any) -> list[int]:
        body = json.dumps(points).encode()
        found: list[int] = self.live.ok("GET", f"{self.node}/labels", body, **query).json()
        return found
