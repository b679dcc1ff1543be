"""The NanoVDB grid of one body: its blocks are read region by region, so that few of them are held."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, rle
from dvid_es.datatypes.labelmap.bodies.reads import BodyReads
from dvid_es.datatypes.labelmap.export.folders import Destination
from dvid_es.datatypes.labelmap.export.nanovdb import LOWER_SIDE, Grid, in_dvids_order, order_of
from dvid_es.datatypes.labelmap.export.source import Source
from dvid_es.datatypes.labelmap.sparse import volumes as sparse
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.jobs import Job

Coords = NDArray[np.int32]
Labels = NDArray[np.uint64]

ANSWER_BYTES_MAX = 1 << 30
"""Leaves of a grid that is made in memory for an answer."""

_LEAVES_NAME = "leaves"


class Wanted(NamedTuple):
    """Which grid."""

    label: int
    supervoxel: bool
    scale: int
    name: str
    layout: str


class Region(NamedTuple):
    """The box of one lower node, 128 voxels a side, and the blocks that touch it."""

    origin_xyz: tuple[int, int, int]
    blocks_zyx: Coords


def find(source: Source, wanted: Wanted) -> tuple[Coords, Labels]:
    """Return the blocks of a body int32[n, 3] (ZYX) and its supervoxels.

    Raises:
        NotFound: there is no such body or supervoxel.
    """
    with source.reading() as (txn, view):
        plan = sparse.plan(
            BodyReads(txn, source.instance.id, view),
            wanted.label,
            supervoxel=wanted.supervoxel,
            scale=wanted.scale,
            bounds=sparse.Bounds(),
            shape_zyx=source.shape_zyx,
            fetch=False,
        )
    if plan is None:
        raise NotFound("")
    return plan.coords_zyx, plan.svs


def regions_of(blocks_zyx: Coords, source: Source, layout: str) -> list[Region]:
    """Return the regions that blocks int32[n, 3] touch, in the order of a grid."""
    shape = np.array(source.shape_zyx[::-1], np.int64)
    first = blocks_zyx[:, ::-1].astype(np.int64) * shape
    low, high = first // LOWER_SIDE, (first + shape - 1) // LOWER_SIDE
    steps = np.stack(
        np.meshgrid(*(np.arange(n + 1) for n in (high - low).max(axis=0)), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    cells = low[:, None, :] + steps
    blocks, chosen = np.nonzero((cells <= high[:, None, :]).all(axis=2))
    touched = cells[blocks, chosen]
    origins, owners = np.unique(touched, axis=0, return_inverse=True)
    by_owner = np.argsort(owners.reshape(-1), kind="stable")
    bounds = np.concatenate(([0], np.cumsum(np.bincount(owners.reshape(-1))))).tolist()
    found = []
    for number in order_of(origins * LOWER_SIDE, layout).tolist():
        x, y, z = (origins[number] * LOWER_SIDE).tolist()
        members = by_owner[bounds[number] : bounds[number + 1]]
        found.append(Region((x, y, z), blocks_zyx[blocks[members]]))
    return found


def fill(grid: Grid, source: Source, wanted: Wanted, svs: Labels, region: Region) -> None:
    """Add the voxels of a body in one region to a grid."""
    origins, masks = [], []
    for leaves, found in _leaves(source, wanted.scale, svs, region):
        origins.append(leaves)
        masks.append(found)
    if origins:
        grid.add(region.origin_xyz, np.concatenate(origins), np.concatenate(masks))


def _leaves(
    source: Source, scale: int, svs: Labels, region: Region
) -> Iterator[tuple[Coords, NDArray[np.uint8]]]:
    low = np.array(region.origin_xyz, np.int32)
    shape = np.array(source.shape_zyx, np.int32)
    for piece in source.pieces(scale, region.blocks_zyx, supervoxels=True):
        for at, block in zip(piece.coords_zyx, piece.blocks, strict=True):
            flags = rle.flags_of(labelblock.table(block), svs)
            if not flags.any():
                continue
            flat, _ = rle.masks_of(block, flags)
            masks = flat.reshape(-1, 64)
            cells = np.indices([side // 8 for side in source.shape_zyx], np.int32).reshape(3, -1).T
            leaves = (at * shape + 8 * cells)[:, ::-1]
            inside = ((leaves >= low) & (leaves < low + LOWER_SIDE)).all(axis=1)
            kept = inside & masks.any(axis=1)
            if kept.any():
                yield leaves[kept], masks[kept]


def voxel_size(source: Source, wanted: Wanted) -> list[float]:
    """Return the size of a voxel of the grid; DVID gives that of scale 0 at every scale."""
    factor = 1 if wanted.layout == "dvid" else 2**wanted.scale
    return [float(side) * factor for side in source.instance.settings["VoxelSize"]]


def build(source: Source, wanted: Wanted) -> list[bytes]:
    """Return a whole grid in memory.

    Raises:
        NotFound: there is no such body.
        InvalidRequest: it has no voxel at this scale, or too many for an answer.
    """
    blocks, svs = find(source, wanted)
    leaves: list[bytes] = []
    grid = Grid(wanted.layout, leaves.append)
    for region in regions_of(blocks, source, wanted.layout):
        fill(grid, source, wanted, svs, region)
        if grid.leaf_bytes > ANSWER_BYTES_MAX:
            raise InvalidRequest(
                f"the grid of label {wanted.label} is too large for an answer: POST export/nanovdb"
                " writes it to a file, or ask for a higher scale"
            )
    _need_voxels(grid, wanted)
    places = None
    if wanted.layout == "dvid":
        joined, places = in_dvids_order(b"".join(leaves))
        leaves = [joined]
    head = grid.head(wanted.name.encode(), voxel_size(source, wanted), places)
    return [b"".join(head), *leaves]


def _need_voxels(grid: Grid, wanted: Wanted) -> None:
    if not grid.leaves:
        raise InvalidRequest(f"label {wanted.label} has no voxel at scale {wanted.scale}")


def export(job: Job, source: Source, destination: Destination, wanted: Wanted) -> Mapping[str, Any]:
    """Write a grid to the file `<name>.nvdb`.

    Leaves go to a file of their own first, as their number is known last.

    Raises:
        Cancelled: the job shall stop; no file is left.
        StorageFull: no space.
    """
    blocks, svs = find(source, wanted)
    regions = regions_of(blocks, source, wanted.layout)
    job.total = sum(len(region.blocks_zyx) for region in regions)
    with (
        destination.file(f"{wanted.name}.nvdb") as out,
        destination.file(_LEAVES_NAME) as leaves,
    ):
        leaves.drop()
        grid = Grid(wanted.layout, leaves.write)
        for region in regions:
            fill(grid, source, wanted, svs, region)
            job.advance(len(region.blocks_zyx))
        _need_voxels(grid, wanted)
        for part in grid.head(wanted.name.encode(), voxel_size(source, wanted)):
            out.write(part)
            job.check()
        for part in leaves.parts():
            out.write(part)
            job.check()
        return {"file": str(out.path), "bytes": out.size, "voxels": grid.voxels}
