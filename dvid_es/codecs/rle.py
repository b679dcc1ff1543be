"""Sparse volumes as runs along X, and as binary blocks.

Runs are int32[n, 4] in wire order: x, y, z of the first voxel, and the number of voxels. Everything
that leaves here is in strict Z, Y, X order, with runs joined where they touch: DVID's order of runs
is not deterministic, so any order is legal, and this one is the same each time.

Source: RLEs in dvid/rle.go, and WriteBinaryBlocks, WriteRLEs in datatype/common/labels/compressed.go
(janelia-flyem/dvid).
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock
from dvid_es.codecs import rle_kernels as kernels
from dvid_es.errors import InvalidRequest

Runs = NDArray[np.int32]
Flags = NDArray[np.uint8]
Triple = tuple[int, int, int]
Buffer = bytes | bytearray | memoryview

HEADER_LENGTH = 12
RUN_LENGTH = 16

_HEADER = struct.Struct("<BBBBII")
_INT32_MAX = 2**31 - 1


def empty_runs() -> Runs:
    """Return no runs: int32[0, 4]."""
    return np.empty((0, 4), np.int32)


def encode_legacy(runs: Runs) -> bytes:
    """Return runs behind DVID's header, whose voxel count is always 0."""
    return legacy_header(len(runs)) + encode_runs(runs)


def legacy_header(spans: int) -> bytes:
    """Return DVID's header of so many runs."""
    return _HEADER.pack(0, 3, 0, 0, 0, spans)


def encode_runs(runs: Runs) -> bytes:
    """Return bare runs: the `srles` format, and what follows any header."""
    return np.ascontiguousarray(runs, "<i4").tobytes()


def parse_legacy(data: Buffer, max_runs: int | None = None) -> Runs:
    """Return the runs of a request, in its own order; they may overlap (see `sort_runs`).

    Bytes 1 to 7 and bytes behind the last run are not looked at, as in DVID.

    Raises:
        InvalidRequest: not the binary format, fewer bytes than runs, more than `max_runs` runs, or
            a run that is empty or leaves the int32 range.
    """
    if len(data) < HEADER_LENGTH:
        raise InvalidRequest(f"sparse volume of {len(data)} bytes: its header alone has 12")
    if data[0] != 0:
        raise InvalidRequest(f"sparse volume begins with byte {data[0]}: only binary (0) is read")
    spans = int.from_bytes(data[8:12], "little")
    there = (len(data) - HEADER_LENGTH) // RUN_LENGTH
    if spans > there:
        raise InvalidRequest(f"sparse volume claims {spans} spans but has bytes for {there}")
    return parse_runs(memoryview(data)[12 : 12 + RUN_LENGTH * spans], max_runs)


def parse_runs(data: Buffer, max_runs: int | None = None) -> Runs:
    """Return bare runs as a read-only view of `data`.

    Raises:
        InvalidRequest: as in `parse_legacy`.
    """
    if len(data) % RUN_LENGTH:
        raise InvalidRequest(f"runs have 16 bytes each, but there are {len(data)}")
    if max_runs is not None and len(data) > RUN_LENGTH * max_runs:
        raise InvalidRequest(f"{len(data) // RUN_LENGTH} spans, but at most {max_runs} are read")
    if not len(data):
        return empty_runs()
    runs = np.frombuffer(data, np.int32).reshape(-1, 4)
    if not runs.flags.aligned:
        runs = runs.copy()
    lengths = runs[:, 3]
    if lengths.min() < 1:
        raise InvalidRequest("a span has no voxels: lengths must be 1 or more")
    if (runs[:, 0].astype(np.int64) + lengths).max() > _INT32_MAX:
        raise InvalidRequest("a span leaves the range of 32-bit coordinates")
    return runs


def count_voxels(runs: Runs) -> int:
    """Return the number of voxels of runs."""
    return int(runs[:, 3].sum(dtype=np.int64))


def sort_runs(runs: Runs | Sequence[Runs], overlaps: bool = False) -> Runs:
    """Return runs in strict Z, Y, X order, joined where they touch.

    Args:
        runs: runs, or the runs of many blocks. Blocks that come in Z, Y, X order sort fastest.
        overlaps: whether runs that overlap are joined; otherwise they are an error.

    Raises:
        InvalidRequest: runs overlap and must not.
    """
    if not isinstance(runs, np.ndarray):
        runs = np.concatenate(runs) if len(runs) else empty_runs()
    out = _sorted(runs)
    if out is runs:
        out = runs.copy()
    left = kernels.join_sorted(out, overlaps)
    if left == kernels.OVERLAP:
        raise InvalidRequest("spans of the sparse volume overlap: send each voxel once")
    return out[:left]


def _sorted(runs: Runs) -> Runs:
    """Return runs sorted by z, y, x; two equal runs may stay in any order."""
    runs = np.ascontiguousarray(runs, np.int32)
    # Blocks in Z, Y, X order have their runs of one row in the order of x already, so that two
    # stable counting sorts are enough.
    for axis in (1, 2):
        if kernels.disorder(runs) < 0:
            return runs
        lowest = int(runs[:, axis].min())
        extent = int(runs[:, axis].max()) - lowest + 1
        if extent > 4 * len(runs) + 65536:
            break
        out = np.empty_like(runs)
        kernels.sort_by_axis(runs, axis, lowest, extent, out)
        runs = out
    if kernels.disorder(runs) < 0:
        return runs
    return runs[np.lexsort((runs[:, 0], runs[:, 1], runs[:, 2]))]


def clip_runs(runs: Runs, first_zyx: Sequence[int | None], last_zyx: Sequence[int | None]) -> Runs:
    """Return what runs share with a box of voxels, in the same order.

    Args:
        runs: runs.
        first_zyx: lowest voxel in the box; None is no bound.
        last_zyx: highest voxel in the box, inclusive as on the wire; None is no bound.
    """
    bounds: list[int] = []
    for first, last in zip(first_zyx, last_zyx, strict=True):
        bounds.append(-(2**31) if first is None else first)
        bounds.append(_INT32_MAX if last is None else last)
    out = np.empty_like(runs)
    return out[: kernels.clip(np.ascontiguousarray(runs), *bounds, out)]


def runs_of_points(points_zyx: NDArray[np.int32]) -> Runs:
    """Return runs of int32[n, 3] distinct points, such as block coordinates (a coarse volume)."""
    runs = np.empty((len(points_zyx), 4), np.int32)
    runs[:, :3] = points_zyx[:, ::-1]
    runs[:, 3] = 1
    return sort_runs(runs, overlaps=True)


def split_at_blocks(
    runs: Runs, shape_zyx: Triple, *, as_given: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.int64], Runs]:
    """Sort runs by the block that they lie in, cutting them where a block ends.

    Returns:
        coords_zyx int32[m, 3]: blocks in Z, Y, X order (floor division: negative ones are right);
        starts int64[m + 1]: block i has runs[starts[i] : starts[i + 1]];
        runs: in voxels as before; within each block in Z, Y, X order, or in the given one if so wanted.
    """
    runs = np.ascontiguousarray(runs, np.int32)
    pieces = np.empty((kernels.cut_at_blocks(runs, shape_zyx[2], runs[:0].copy(), False), 4), "i4")
    kernels.cut_at_blocks(runs, shape_zyx[2], pieces, True)
    pieces = pieces if as_given else _sorted(pieces)
    blocks = np.ascontiguousarray(pieces[:, 2::-1] // np.array(shape_zyx, np.int32))
    order = np.lexsort((blocks[:, 2], blocks[:, 1], blocks[:, 0]))
    blocks = blocks[order]
    starts = np.empty(len(blocks) + 1, np.int64)
    groups = kernels.row_breaks(blocks, starts)
    return blocks[starts[:groups]], starts[: groups + 1], pieces[order]


def flags_of(table: labelblock.Labels, wanted: labelblock.Labels) -> Flags:
    """Return uint8[N]: 1 where an entry of a label table is among `wanted` (ascending uint64[n])."""
    flags = np.empty(len(table), np.uint8)
    kernels.mark(table, wanted, flags)
    return flags


def masks_of(data: Buffer, flags: Flags) -> tuple[NDArray[np.uint8], int]:
    """Return which voxels of a validated block have a flagged label, and how many.

    Args:
        data: the block.
        flags: uint8[N], 1 for each entry of its table that is wanted.

    Returns:
        uint8[64 * sub-blocks]: for each sub-block in ZYX order a byte for each row, at z * 8 + y,
        whose lowest bit is x = 0.
    """
    assert len(flags) == len(labelblock.table(data)), "there is one flag for each label"
    z, y, x = labelblock.shape(data)
    masks = np.empty(z * y * x // 8, np.uint8)
    voxels: int = kernels.mask_block(np.frombuffer(data, np.uint8), flags, masks)
    return masks, voxels


def runs_of(data: Buffer, flags: Flags, start_zyx: Triple) -> Runs:
    """Return the runs of the voxels of a validated block that have a flagged label.

    Args:
        data: the block.
        flags: uint8[N], 1 for each entry of its table that is wanted: `flags_of`, or a comparison
            of the mapped table.
        start_zyx: place of the block's first voxel; the block lies in the int32 range.

    Returns:
        int32[n, 4] in Z, Y, X order, not joined with those of other blocks.
    """
    masks, voxels = masks_of(data, flags)
    if not voxels:
        return empty_runs()
    gz, gy, gx = (side // 8 for side in labelblock.shape(data))
    runs: Runs = kernels.runs_of_masks(masks, gz, gy, gx, *start_zyx)
    return runs


def binary_header(shape_zyx: Triple, label: int) -> bytes:
    """Return what is sent once, before the first binary block with a voxel in it."""
    z, y, x = shape_zyx
    return struct.pack("<IIIQ", x // 8, y // 8, z // 8, label)


def binary_block(data: Buffer, flags: Flags, start_zyx: Triple) -> bytes:
    """Return a block's mask as a binary block, empty if none of its voxels has a flagged label.

    Returns:
        i32 x, y, z of the first voxel; 1 if all are set, else 2 and for each sub-block 0 (none), 1
        (all), or 2 and 64 bytes: row y of slice z is byte z * 8 + y, lowest bit first.
    """
    masks, voxels = masks_of(data, flags)
    if not voxels:
        return b""
    z, y, x = start_zyx
    full = voxels == 8 * len(masks)
    header = struct.pack("<iiiB", x, y, z, 1 if full else 2)
    if full:
        return header
    out = np.empty(len(masks) // 64 * 65, np.uint8)
    return header + out[: kernels.pack_binary(masks, out)].tobytes()
