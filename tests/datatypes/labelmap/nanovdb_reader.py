"""NanoVDB index grids read from the description of the format alone: nothing of dvid_es."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np


class Read(NamedTuple):
    name: str
    voxels: dict[tuple[int, int, int], int]
    """Index of each active voxel's value, by x, y, z."""

    voxel_size: tuple[float, ...]
    world: tuple[float, ...]
    box: tuple[int, ...]
    counts: tuple[int, ...]
    flags: int
    values: int


def read(data: bytes, library: bool = True) -> Read:
    """Follow the pointers from the root, as the library does; or with `library` false as DVID meant."""
    magic, checksum, version, flags, index, count, size = struct.unpack_from("<QQ4IQ", data)
    assert magic == int.from_bytes(b"NanoVDB0", "little")
    assert (version >> 21, version >> 10 & 2047, index, count, size) == (32, 8, 0, 1, len(data))
    assert checksum == (2**64 - 1 if library else 0)
    kinds = struct.unpack_from("<II", data, 632)
    assert kinds == (8, 20)
    check_map(data)
    offsets = struct.unpack_from("<4q", data, 672)
    counts = struct.unpack_from("<6I", data, 704)
    (active,) = struct.unpack_from("<Q", data, 728)
    root = 672 + offsets[3]
    (tiles,) = struct.unpack_from("<I", data, root + 24)
    voxels: dict[tuple[int, int, int], int] = {}
    leaves = []
    for tile in range(tiles):
        at = root + 96 + 32 * tile
        if library:
            key, child = struct.unpack_from("<Qq", data, at)
            origin = [signed((key >> shift & 0x1FFFFF) << 12) for shift in (42, 21, 0)]
        else:
            *origin, child = struct.unpack_from("<3iq", data, at)
        for lower, corner in children(data, root + child, origin, 5, 128, library):
            for leaf, place in children(data, lower, corner, 4, 8, library):
                leaves.append(leaf)
                voxels.update(leaf_voxels(data, leaf, place, library))
    if (
        library
    ):  # breadth first: nodes of one kind lie behind each other in the order of their parents
        assert leaves == [672 + offsets[0] + 96 * i for i in range(counts[0])]
    assert len(leaves) == counts[0]
    assert len(voxels) == active
    name = data[40:296].split(b"\0")[0].decode()
    return Read(
        name, voxels, struct.unpack_from("<3d", data, 608), struct.unpack_from("<6d", data, 560),
        struct.unpack_from("<6i", data, root), counts, flags,
        struct.unpack_from("<Q", data, 656)[0],
    )  # fmt: skip


def check_map(data: bytes) -> None:
    single = np.frombuffer(data, "<f4", 22, 296)
    double = np.frombuffer(data, "<f8", 22, 384)
    np.testing.assert_allclose(single, double, rtol=1e-6)
    forward, inverse = double[:9].reshape(3, 3), double[9:18].reshape(3, 3)
    np.testing.assert_allclose(forward @ inverse, np.eye(3))
    assert double[18:].tolist() == [0, 0, 0, 1]
    assert np.diag(forward).tolist() == list(struct.unpack_from("<3d", data, 608))


def signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def children(
    data: bytes, at: int, origin: list[int], log: int, side: int, library: bool
) -> list[tuple[int, list[int]]]:
    bits = 1 << 3 * log
    values = np.frombuffer(data, np.uint8, bits // 8, at + 32)
    mask = np.frombuffer(data, np.uint8, bits // 8, at + 32 + bits // 8)
    table = np.frombuffer(data, "<i8", bits, at + 64 + bits // 4)
    assert not values.any() if library else np.array_equal(values, mask)
    found = []
    for place in np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist():
        cell = [place >> 2 * log, place >> log & (1 << log) - 1, place & (1 << log) - 1]
        x, y, z = cell if library else cell[::-1]
        corner = [origin[0] + x * side, origin[1] + y * side, origin[2] + z * side]
        found.append((at + int(table[place]), corner))
    return found


def leaf_voxels(
    data: bytes, at: int, origin: list[int], library: bool
) -> dict[tuple[int, int, int], int]:
    first = struct.unpack_from("<3i", data, at)
    extent = struct.unpack_from("<3B", data, at + 12)
    assert [side & ~7 for side in first] == origin
    words = struct.unpack_from("<8Q", data, at + 16)
    offset, prefix = struct.unpack_from("<QQ", data, at + 80)
    found = {}
    for place in range(512):
        word, bit = place >> 6, place & 63
        if words[word] >> bit & 1:
            before = 0 if word == 0 else prefix >> 9 * (word - 1) & 511
            cell = [place >> 6, place >> 3 & 7, place & 7]
            x, y, z = cell if library else cell[::-1]
            index = offset + before + (words[word] & (1 << bit) - 1).bit_count()
            found[(origin[0] + x, origin[1] + y, origin[2] + z)] = index
    for axis in range(3):
        sides = [voxel[axis] for voxel in found]
        assert (min(sides), max(sides) - min(sides)) == (first[axis], extent[axis])
    return found
