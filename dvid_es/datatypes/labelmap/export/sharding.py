"""Sharded precomputed volumes: in which file a chunk lies. Pure.

Source: the description of neuroglancer_uint64_sharded_v1 and of the compressed Morton code in
google/neuroglancer, src/datasource/precomputed; mortonCode and computeShardID in
datatype/labelmap/export.go (janelia-flyem/dvid).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Triple

FORMAT = "neuroglancer_uint64_sharded_v1"
PRESHIFT_BITS = 9
"""512 chunks, a cube of 8, lie in one minishard: what a reader fetches one index for."""

MINISHARD_BITS = 6
"""64 minishards lie in one file: a cube of 32 chunks, or 2048 voxels a side with blocks of 64."""


class Sharding(NamedTuple):
    """How the chunks of a grid are numbered and spread over files."""

    bits_xyz: Triple
    """Bits of each coordinate in the Morton code."""

    preshift: int
    minishard: int
    shard: int
    """Bits from the lowest: within a minishard, of the minishard, of the file."""

    @classmethod
    def of_grid(cls, grid_xyz: Triple) -> "Sharding":
        """Return the sharding that is used for a grid of chunks unless another one is given."""
        bits = bits_of(grid_xyz)
        preshift = min(PRESHIFT_BITS, sum(bits))
        minishard = min(MINISHARD_BITS, sum(bits) - preshift)
        return cls(bits, preshift, minishard, sum(bits) - preshift - minishard)

    @classmethod
    def parse(cls, given: Mapping[str, Any], grid_xyz: Triple) -> "Sharding":
        """Return the sharding that a scale of an `info` describes.

        Raises:
            InvalidRequest: it is not of this format, or its bits do not suit the grid.
        """
        if given.get("@type") != FORMAT or given.get("hash") != "identity":
            raise InvalidRequest(f'sharding must have "@type": "{FORMAT}" and "hash": "identity"')
        names = ("preshift_bits", "minishard_bits", "shard_bits")
        numbers = [given.get(name) for name in names]
        if not all(type(number) is int and 0 <= number <= 32 for number in numbers):
            raise InvalidRequest(f"sharding needs {', '.join(names)}: numbers of 0 to 32")
        bits = bits_of(grid_xyz)
        if sum(numbers) < sum(bits):  # type: ignore[arg-type]
            raise InvalidRequest(
                f"sharding has {sum(numbers)} bits, and numbers of chunks have {sum(bits)}"  # type: ignore[arg-type]
            )
        preshift, minishard, shard = numbers
        return cls(bits, preshift, minishard, shard)  # type: ignore[arg-type]

    def info(self) -> dict[str, Any]:
        """Return what `info` says of it."""
        return {
            "@type": FORMAT,
            "hash": "identity",
            "preshift_bits": self.preshift,
            "minishard_bits": self.minishard,
            "shard_bits": self.shard,
            "minishard_index_encoding": "gzip",
            "data_encoding": "gzip",
        }

    @property
    def files(self) -> int:
        """Files that a whole grid may need."""
        return 1 << max(0, sum(self.bits_xyz) - self.preshift - self.minishard)

    @property
    def chunks_per_minishard(self) -> int:
        """Numbers of chunks of one minishard."""
        return 1 << min(self.preshift, sum(self.bits_xyz))

    @property
    def minishards(self) -> int:
        """Minishards of one file."""
        return 1 << self.minishard

    def first_chunk(self, file: int, minishard: int) -> int:
        """Return the number of the first chunk of a minishard."""
        return (file << self.minishard | minishard) << self.preshift

    def file_name(self, file: int) -> str:
        """Return the name of a file."""
        return f"{file:0{-(-self.shard // 4)}x}.shard"

    def box(self, file: int) -> tuple[list[int], list[int]]:
        """Return the first and the last chunk of a file, x, y, z, in a grid that fills all codes."""
        numbers = np.array(
            [self.first_chunk(file, 0), self.first_chunk(file + 1, 0) - 1], np.uint64
        )
        first, last = decode_morton(numbers, self.bits_xyz).tolist()
        return first, last

    def coords(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the chunks of consecutive numbers as int64[count, 3], x, y, z."""
        return decode_morton(np.arange(first, first + count, dtype=np.uint64), self.bits_xyz)


def bits_of(grid_xyz: Triple) -> Triple:
    """Return how many bits each coordinate of a grid of chunks needs."""
    x, y, z = ((side - 1).bit_length() for side in grid_xyz)
    return x, y, z


def _places(bits_xyz: Triple) -> list[tuple[int, int]]:
    """Return axis and bit that each bit of a Morton code holds, from the lowest."""
    return [
        (axis, bit) for bit in range(max(bits_xyz)) for axis in range(3) if bit < bits_xyz[axis]
    ]


def encode_morton(coords_xyz: NDArray[np.int64], bits_xyz: Triple) -> NDArray[np.uint64]:
    """Return the compressed Morton codes uint64[n] of chunks int64[n, 3], x, y, z."""
    codes = np.zeros(len(coords_xyz), np.uint64)
    for place, (axis, bit) in enumerate(_places(bits_xyz)):
        one = (coords_xyz[:, axis] >> bit & 1).astype(np.uint64)
        codes |= one << np.uint64(place)
    return codes


def decode_morton(codes: NDArray[np.uint64], bits_xyz: Triple) -> NDArray[np.int64]:
    """Return the chunks int64[n, 3], x, y, z, of compressed Morton codes uint64[n]."""
    coords = np.zeros((len(codes), 3), np.int64)
    for place, (axis, bit) in enumerate(_places(bits_xyz)):
        one = (codes >> np.uint64(place) & np.uint64(1)).astype(np.int64)
        coords[:, axis] |= one << bit
    return coords


def minishard_index(ids: list[int], starts: list[int], sizes: list[int]) -> bytes:
    """Return the index of a minishard, not yet compressed.

    Args:
        ids: numbers of its chunks, ascending.
        starts: where each begins, in bytes behind the index of the file, ascending.
        sizes: bytes of each.
    """
    table = np.zeros((3, len(ids)), "<u8")
    table[0] = np.diff(np.array(ids, np.uint64), prepend=np.uint64(0))
    ends = np.array(starts, np.uint64) + np.array(sizes, np.uint64)
    table[1] = np.array(starts, np.uint64) - np.concatenate(([np.uint64(0)], ends[:-1]))
    table[2] = sizes
    return table.tobytes()
