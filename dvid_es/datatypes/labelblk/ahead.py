"""Coarser blocks, made side by side in threads before the event that they follow from is decided.

The fold finds them in a memo by what they were made from, and makes again what is not there.
"""

from collections.abc import Sequence

from dvid_es.datatypes.labelblk import coarser
from dvid_es.datatypes.labelblk.following import UNVERSIONED, listeners
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import downres
from dvid_es.datatypes.labelmap.voxels.downres import Coords
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import VersionConflict
from dvid_es.events import Bulk
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest
from dvid_es.projections.catalog import Instance

TASK_BLOCKS = 8
"""Blocks of one task."""


def has_halves(request: NodeRequest, labelblk: Instance) -> bool:
    """Say whether a coarser instance listens to a labelblk."""
    return next(listeners(request.repo, labelblk.id, "labelblk"), None) is not None


async def halve_ahead(
    request: NodeRequest,
    labelblk: Instance,
    coords_zyx: Coords,
    prepared: Sequence[Prepared],
    stored: Sequence[Bulk],
) -> None:
    """Make what follows from new blocks of a labelblk in the chain of coarser ones behind it.

    Args:
        request: the write; its transaction ends.
        labelblk: gets the blocks.
        coords_zyx: int32[n, 3], distinct, in ZYX order.
        prepared: the blocks.
        stored: the same as the event will hold them.
    """
    txn, shape = request.txn, block_shape(labelblk)
    blocks = [one.block for one in prepared]
    digests = [downres.digest(block) for block in stored]
    finer, seen = labelblk, {labelblk.id}
    while True:
        found = next(listeners(txn.repo, finer.id, "labelblk"), None)
        if found is None or found.id in seen:
            break
        seen.add(found.id)
        view = txn.view(request.version.id if found.versioned else UNVERSIONED)
        parents = downres.parents_of(coords_zyx)
        try:
            previous = await request.in_thread(coarser.previous_of, txn, found.id, view, parents)
        except VersionConflict:
            break  # this very write may settle it: the fold will see
        packs = request.stream.packs
        maker = coarser.Maker(packs, shape, blocks, digests, parents, previous)
        parts = await in_threads(request, maker.make, spans(len(previous), TASK_BLOCKS))
        pairs = [pair for part in parts for pair in part]
        blocks, digests = [block for block, _ in pairs], [digest for _, digest in pairs]
        coords_zyx, finer = parents.coords_zyx, found
    request.finish()
