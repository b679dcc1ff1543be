"""Export to a sharded precomputed volume: read by neuroglancer, CloudVolume and TensorStore as files.

A file of a shard begins with an index of fixed size; chunks follow in the order of their numbers, then the
index of each minishard. So it is written in one go, and no more than an index is held.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dvid_es.codecs import neuroglancer
from dvid_es.codecs.compression import gzip_compress
from dvid_es.datatypes.labelmap.export.folders import Destination, NewFile
from dvid_es.datatypes.labelmap.export.sharding import Sharding, encode_morton, minishard_index
from dvid_es.datatypes.labelmap.export.source import Source
from dvid_es.datatypes.labelmap.precomputed.volume import COMPRESSED, Scale, volume_info
from dvid_es.geometry import Box
from dvid_es.jobs import Job


class Level(NamedTuple):
    """One scale of an export."""

    scale: Scale
    sharding: Sharding

    @property
    def chunks(self) -> int:
        """Chunks of its grid."""
        return self.scale.blocks.volume

    def blocks_of(self, first: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return the blocks int32[n, 3] (ZYX) of the minishard whose first chunk is `first`."""
        coords = self.sharding.coords(first, self.sharding.chunks_per_minishard)
        inside = coords[(coords < self.scale.grid_xyz).all(axis=1)]
        return (inside[:, ::-1] + np.array(self.scale.blocks.start_zyx)).astype(np.int32)

    def box_of(self, file: int) -> Box:
        """Return the blocks of a file; empty where it lies outside of the grid."""
        first, last = self.sharding.box(file)
        start, stop = self.scale.blocks
        low = [a + b for a, b in zip(start, first[::-1], strict=True)]
        high = [min(a + b + 1, c) for a, b, c in zip(start, last[::-1], stop, strict=True)]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return Box(start, start)
        return Box(tuple(low), tuple(high))  # type: ignore[arg-type]

    def number_of(self, coords_zyx: np.ndarray[Any, np.dtype[np.int32]]) -> list[int]:
        """Return the numbers of the chunks of blocks int32[n, 3] (ZYX)."""
        coords = coords_zyx.astype(np.int64) - np.array(self.scale.blocks.start_zyx)
        numbers: list[int] = encode_morton(coords[:, ::-1], self.sharding.bits_xyz).tolist()
        return numbers


def levels_of(scales: list[Scale]) -> list[Level]:
    """Return scales with the sharding that their grids get."""
    return [Level(scale, Sharding.of_grid(scale.grid_xyz)) for scale in scales]


def export(
    job: Job, source: Source, destination: Destination, scales: int | None, supervoxels: bool
) -> Mapping[str, Any]:
    """Write all chunks, then `info`; files that are there already are left as they are.

    Args:
        job: is told of progress; `total` is chunks of all grids.
        source: what to read.
        destination: a folder that has begun.
        scales: how many of them; None is all that the instance keeps.
        supervoxels: in place of bodies.

    Raises:
        Cancelled: the job shall stop; what is whole by then stays.
        StorageFull: no space.
    """
    levels = levels_of(source.scales()[:scales])
    job.total = sum(level.chunks for level in levels)
    made, chunks, size = 0, 0, 0
    for level in levels:
        for file in range(level.sharding.files):
            name = f"{level.scale.key}/{level.sharding.file_name(file)}"
            box = level.box_of(file)
            if destination.has(name) or source.is_empty(level.scale.number, box):
                job.advance(box.volume)
                continue
            writer = _Shard(destination, name, level)
            writer.write(job, source, file, supervoxels)
            made += 1 if writer.chunks else 0
            chunks += writer.chunks
            size += writer.size
    info = [level.scale.info(COMPRESSED, level.sharding.info()) for level in levels]
    destination.write_json("info", volume_info(info))
    return {"files": made, "chunks": chunks, "bytes": size}


class _Shard:
    """One file; there is none if all its chunks are zero."""

    def __init__(self, destination: Destination, name: str, level: Level) -> None:
        self._destination = destination
        self._name = name
        self._level = level
        self._index_bytes = 16 << level.sharding.minishard
        self.chunks = 0
        self.size = 0

    def write(self, job: Job, source: Source, file: int, supervoxels: bool) -> None:
        with self._destination.file(self._name) as out:
            out.write(bytes(self._index_bytes))
            indices = []
            for minishard in range(self._level.sharding.minishards):
                first = self._level.sharding.first_chunk(file, minishard)
                indices.append(self._write_minishard(out, job, source, first, supervoxels))
            self._write_index(out, indices)
            self.size = out.size
            if not self.chunks:
                out.drop()

    def _write_minishard(
        self, out: NewFile, job: Job, source: Source, first: int, supervoxels: bool
    ) -> bytes:
        """Write the chunks of a minishard; return its index."""
        level = self._level
        wanted = level.blocks_of(first)
        ids: list[int] = []
        starts: list[int] = []
        sizes: list[int] = []
        told = 0
        for piece in source.pieces(level.scale.number, wanted, supervoxels):
            numbers = level.number_of(piece.coords_zyx)
            for number, block, table in zip(numbers, piece.blocks, piece.tables, strict=True):
                if not table.any():
                    continue
                data = gzip_compress(neuroglancer.encode_block(block, table))
                ids.append(number)
                starts.append(out.write(data) - self._index_bytes)
                sizes.append(len(data))
            job.advance(len(numbers))
            told += len(numbers)
        job.advance(len(wanted) - told)
        self.chunks += len(ids)
        return minishard_index(ids, starts, sizes) if ids else b""

    def _write_index(self, out: NewFile, indices: list[bytes]) -> None:
        table = np.zeros((len(indices), 2), "<u8")
        for minishard, index in enumerate(indices):
            start = out.size - self._index_bytes
            if index:
                out.write(gzip_compress(index))
            table[minishard] = start, out.size - self._index_bytes
        out.overwrite(table.tobytes(), 0)
