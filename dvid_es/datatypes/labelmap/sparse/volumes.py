"""Sparse volumes of bodies: the runs of their voxels, block by block in kernel threads.

Source: sparsevol handlers in datatype/labelmap/labelidx.go (janelia-flyem/dvid).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, rle, storedblock
from dvid_es.datatypes.labelmap.bodies.reads import BodyReads, ordered_blocks
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.blockcache import CACHE
from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.http.wire import parse_signed
from dvid_es.ids import PackRef
from dvid_es.projections.txn import BulkReader

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]

CHUNK_BLOCKS = 32
"""Blocks of one task of a kernel thread."""


class Bounds(NamedTuple):
    """Bounds of voxels, inclusive, ZYX; None is no bound."""

    first_zyx: tuple[int | None, int | None, int | None] = (None, None, None)
    last_zyx: tuple[int | None, int | None, int | None] = (None, None, None)

    @property
    def is_set(self) -> bool:
        """Whether there is any."""
        return any(bound is not None for bound in (*self.first_zyx, *self.last_zyx))

    def select(self, coords_zyx: Coords, shape_zyx: Triple) -> Coords:
        """Return the blocks that have voxels inside."""
        kept = np.ones(len(coords_zyx), bool)
        for axis, side in enumerate(shape_zyx):
            first, last = self.first_zyx[axis], self.last_zyx[axis]
            if first is not None:
                kept &= coords_zyx[:, axis] >= first // side
            if last is not None:
                kept &= coords_zyx[:, axis] <= last // side
        return coords_zyx[kept]


def parse_bounds(args: Mapping[str, str]) -> Bounds:
    """Return the bounds of the options minx ... maxz.

    Raises:
        InvalidRequest: one is not a 32-bit number.
    """

    def read(side: str) -> tuple[int | None, ...]:
        texts = [(axis, args.get(side + axis)) for axis in "zyx"]
        return tuple(parse_signed(text, side + axis) if text else None for axis, text in texts)

    return Bounds(read("min"), read("max"))  # type: ignore[arg-type]


class Plan(NamedTuple):
    """The blocks of a sparse volume, read from the rows; the rest needs no transaction."""

    label: int
    """The one asked for."""

    svs: Labels
    """Supervoxels that belong to it, ascending."""

    coords_zyx: Coords
    """Their blocks at the scale, in ZYX order."""

    stored: Sequence[Bulk | None]
    shape_zyx: Triple
    bounds: Bounds


def plan(
    reads: BodyReads,
    label: int,
    *,
    supervoxel: bool,
    scale: int,
    bounds: Bounds,
    shape_zyx: Triple,
    fetch: bool = True,
) -> Plan | None:
    """Return the blocks of a body or a supervoxel, None if there is none within bounds.

    Raises:
        InvalidRequest: the supervoxel was split and is no more.
    """
    found = reads.chosen(label, supervoxel)
    if found is None:
        return None
    coords = reads.blocks(*found)
    if scale:
        coords = ordered_blocks(coords >> min(scale, 31))
    coords = bounds.select(coords, shape_zyx)
    if not len(coords):
        return None
    stored: Sequence[Bulk | None] = ()
    if fetch:
        stored = blocks.find_list(reads.txn, reads.instance_id, scale, coords, reads.view)
    return Plan(label, found[2], coords, stored, shape_zyx, bounds)


def runs_of(part: Plan, packs: BulkReader, exact: bool, ordered: bool) -> rle.Runs:
    """Return the runs of some blocks.

    Args:
        part: the blocks.
        packs: where they lie.
        exact: whether runs are clipped to the bounds; otherwise whole blocks count.
        ordered: whether to bring them in ZYX order and to join those that touch.
    """
    pieces = [rle.runs_of(block, flags, start) for start, block, flags in _loaded(part, packs)]
    if not pieces:
        return rle.empty_runs()
    runs = rle.sort_runs(pieces) if ordered else np.concatenate(pieces)
    return rle.clip_runs(runs, *part.bounds) if exact and part.bounds.is_set else runs


def binary_blocks_of(part: Plan, packs: BulkReader) -> bytes:
    """Return some blocks as masks; the header is `rle.binary_header`."""
    return b"".join(
        rle.binary_block(block, flags, start) for start, block, flags in _loaded(part, packs)
    )


def groups_of(whole: Plan) -> list[list[Plan]]:
    """Cut a plan into groups that share no plane, and each group into tasks of kernel threads.

    The runs of one group lie before those of the next, so each may be ordered by itself.
    """
    layers = whole.coords_zyx[:, 0]
    starts = np.flatnonzero(np.append(True, layers[1:] != layers[:-1])).tolist()
    groups: list[list[Plan]] = []
    first = 0
    for stop in [*starts[1:], len(layers)]:
        if stop - first >= CHUNK_BLOCKS or stop == len(layers):
            groups.append(
                [
                    _part(whole, at, min(at + 2 * CHUNK_BLOCKS, stop))
                    for at in range(first, stop, 2 * CHUNK_BLOCKS)
                ]
            )
            first = stop
    return groups


def _part(whole: Plan, start: int, stop: int) -> Plan:
    return whole._replace(coords_zyx=whole.coords_zyx[start:stop], stored=whole.stored[start:stop])


def _loaded(part: Plan, packs: BulkReader) -> list[tuple[Triple, bytes, rle.Flags]]:
    """Return place, bytes and wanted labels of the blocks that hold any of the supervoxels.

    The index may list others: at lower scales a supervoxel may have lost every vote.
    """
    blocks_here, missing = _cached(part)
    values = iter(packs.get_many(missing)) if missing else iter(())
    starts = (part.coords_zyx.astype(np.int64) * part.shape_zyx).tolist()
    found: list[tuple[Triple, bytes, rle.Flags]] = []
    for start, stored, block in zip(starts, part.stored, blocks_here, strict=True):
        if block is None and stored is not None:
            block = storedblock.load(next(values) if isinstance(stored, PackRef) else stored)
            if isinstance(stored, PackRef):
                CACHE.put(stored.digest, block)
        if block is not None:
            flags = rle.flags_of(labelblock.table(block), part.svs)
            if flags.any():
                found.append((tuple(start), block, flags))
    return found


def _cached(part: Plan) -> tuple[list[bytes | None], list[PackRef]]:
    """Return the blocks that were read lately, None for others, and where those of these lie."""
    blocks_here = [
        CACHE.get(stored.digest) if isinstance(stored, PackRef) else None for stored in part.stored
    ]
    missing = [
        stored
        for stored, block in zip(part.stored, blocks_here, strict=True)
        if block is None and isinstance(stored, PackRef)
    ]
    return blocks_here, missing
