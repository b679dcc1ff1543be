"""Export of label blocks as Arrow, one file for each shard of a precomputed volume.

Beside each s<scale>/<x>_<y>_<z>.arrow, named by the first voxel of its shard, lies a .csv that says where the
batch of each block is, so that one block can be read alone.

Source: datatype/labelmap/export.go (janelia-flyem/dvid). There a volume begins at 0 and shards are cubes.
"""

from collections.abc import Mapping
from typing import Any

from dvid_es.datatypes.labelmap.export import arrow, precomputed
from dvid_es.datatypes.labelmap.export.folders import Destination, NewFile
from dvid_es.datatypes.labelmap.export.precomputed import Level
from dvid_es.datatypes.labelmap.export.sharding import Sharding
from dvid_es.datatypes.labelmap.export.source import Source
from dvid_es.datatypes.labelmap.precomputed.volume import Scale
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.jobs import Job

BATCH_BLOCKS_MAX = 4096


def parse_spec(spec: Any, scales: list[Scale]) -> list[Level]:
    """Return the scales of a precomputed volume's `info`, as many as the instance keeps.

    Args:
        spec: the parsed JSON.
        scales: of the instance.

    Raises:
        InvalidRequest: not such a document, other chunks than the instance's blocks, or voxels outside of
            the volume.
    """
    given = spec.get("scales") if isinstance(spec, dict) else None
    if not isinstance(given, list) or not given:
        raise InvalidRequest('the spec must be the "info" of a precomputed volume, with "scales"')
    return [_level(one, scale) for one, scale in zip(given, scales, strict=False)]


def _level(given: Any, scale: Scale) -> Level:
    name = f"scale {scale.number} of the spec"
    if not isinstance(given, dict):
        raise InvalidRequest(f"{name} is no object")
    size, offset = _triple(given, "size", name), [0, 0, 0]
    if "voxel_offset" in given:
        offset = _triple(given, "voxel_offset", name)
    shape = list(scale.shape_zyx[::-1])
    chunks = given.get("chunk_sizes")
    if not isinstance(chunks, list) or not chunks or chunks[0] != shape:
        raise InvalidRequest(f"{name} must have the chunk size {shape}, which is that of blocks")
    if any(at % side for at, side in zip(offset, shape, strict=True)) or min(size) < 1:
        raise InvalidRequest(f"{name} must begin at a multiple of {shape} and be larger than 0")
    z, y, x = (at // side for at, side in zip(offset[::-1], scale.shape_zyx, strict=True))
    gz, gy, gx = (-(-n // side) for n, side in zip(size[::-1], scale.shape_zyx, strict=True))
    blocks = Box((z, y, x), (z + gz, y + gy, x + gx))
    if blocks.union(scale.blocks) != blocks:
        raise InvalidRequest(
            f"{name} is the box of {size} voxels at {offset}, and the data have {scale.size_xyz}"
            f" at {scale.offset_xyz}: it must hold all of them"
        )
    sharding = given.get("sharding")
    if not isinstance(sharding, dict):
        raise InvalidRequest(f'{name} has no "sharding"')
    return Level(scale._replace(blocks=blocks), Sharding.parse(sharding, (gx, gy, gz)))


def _triple(given: Mapping[str, Any], key: str, name: str) -> list[int]:
    value = given.get(key)
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(type(one) is int and abs(one) < 1 << 31 for one in value)
    ):
        raise InvalidRequest(f"{key} of {name} must be three whole numbers of 32 bits")
    return value


def levels_of(source: Source, spec: Any, scales: int | None) -> list[Level]:
    """Return what to export: the first `scales` of a spec, or with None in place of it of the instance.

    Raises:
        InvalidRequest: as of `parse_spec`.
        NotFound: there are no extents.
    """
    kept = source.scales()
    levels = precomputed.levels_of(kept) if spec is None else parse_spec(spec, kept)
    return levels[:scales]


def export(
    job: Job,
    source: Source,
    destination: Destination,
    *,
    spec: Any,
    scales: int | None,
    batch_blocks: int,
) -> Mapping[str, Any]:
    """Write all blocks that are not background; files that are there already are left as they are.

    Args:
        job: is told of progress; `total` is chunks of all grids.
        source: what to read.
        destination: a folder that has begun.
        spec: as of `parse_spec`; None is one of our own.
        scales: how many of them; None is all.
        batch_blocks: blocks in a record batch.

    Raises:
        Cancelled: the job shall stop; what is whole by then stays.
        StorageFull: no space.
    """
    levels = levels_of(source, spec, scales)
    job.total = sum(level.chunks for level in levels)
    files, blocks, size = 0, 0, 0
    for level in levels:
        for file in range(level.sharding.files):
            name = f"{level.scale.key}/{_origin(level, file)}"
            box = level.box_of(file)
            if destination.has(f"{name}.arrow") or source.is_empty(level.scale.number, box):
                job.advance(box.volume)
                continue
            with (
                destination.file(f"{name}.arrow") as data,
                destination.file(f"{name}.csv") as index,
            ):
                shard = _Shard(data, batch_blocks)
                shard.write(job, source, level, file)
                index.write(shard.csv())
                if not shard.blocks:
                    data.drop()
                    index.drop()
                    continue
            files, blocks, size = files + 1, blocks + shard.blocks, size + data.size
    return {"files": files, "blocks": blocks, "bytes": size}


def _origin(level: Level, file: int) -> str:
    """Return the first voxel of a shard as the name of its file."""
    corner = level.sharding.coords(level.sharding.first_chunk(file, 0), 1)[0]
    shape = level.scale.shape_zyx[::-1]
    at = zip(corner.tolist(), shape, level.scale.offset_xyz, strict=True)
    return "_".join(str(c * side + first) for c, side, first in at)


class _Shard:
    def __init__(self, out: NewFile, batch_blocks: int) -> None:
        self._out = out
        self._batch_blocks = batch_blocks
        self._schema = arrow.schema_message()
        self._lines: list[str] = []
        self._waiting: list[arrow.Row] = []
        self.blocks = 0

    def write(self, job: Job, source: Source, level: Level, file: int) -> None:
        self._out.write(self._schema)
        for minishard in range(level.sharding.minishards):
            wanted = level.blocks_of(level.sharding.first_chunk(file, minishard))
            told = 0
            for piece in source.pieces(level.scale.number, wanted, supervoxels=False):
                for coords, block, svs, bodies in zip(
                    piece.coords_zyx.tolist(), piece.blocks, piece.own, piece.tables, strict=True
                ):
                    if bodies.any():
                        z, y, x = coords
                        self._add(arrow.Row((x, y, z), bodies, svs, block))
                job.advance(len(piece.blocks))
                told += len(piece.blocks)
            job.advance(len(wanted) - told)
        self._flush()
        self._out.write(arrow.END_OF_STREAM)

    def _add(self, row: arrow.Row) -> None:
        self._waiting.append(row)
        self.blocks += 1
        if len(self._waiting) >= self._batch_blocks:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        message = arrow.batch_message(self._waiting)
        start = self._out.write(message)
        for place, row in enumerate(self._waiting):
            x, y, z = row.block_xyz
            self._lines.append(f"{x},{y},{z},{start},{len(message)},{place}\n")
        self._waiting = []

    def csv(self) -> bytes:
        head = f"# schema_size={len(self._schema)}\nx,y,z,offset,size,batch_idx\n"
        return (head + "".join(self._lines)).encode()
