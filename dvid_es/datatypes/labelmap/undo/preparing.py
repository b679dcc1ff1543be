"""The blocks of a split as they come back, made in threads before the command is queued.

A block that nobody has written since comes back as it was stored. Of another one, only the voxels of the
supervoxels that were split are set anew, so that what others have done in it stays.
"""

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.datatypes.labelmap.undo import dependents
from dvid_es.datatypes.labelmap.undo.commands import Made
from dvid_es.datatypes.labelmap.undo.target import Target
from dvid_es.datatypes.labelmap.voxels import blocks, ingest, prepare
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest
from dvid_es.logs.base import Packs
from dvid_es.projections import versioned
from dvid_es.projections.txn import BulkReader, ReadTxn

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]

TASK_BLOCKS = 8
"""Blocks of one task."""


class _Changed(Exception):
    """Others have changed voxels of the supervoxels."""


async def prepare_blocks(request: NodeRequest, target: Target) -> Made:
    """Return the blocks of a split that is undone or redone.

    Raises:
        DependentMutations: others have written voxels of its supervoxels since.
    """
    txn, instance_id, view = request.txn, request.instance.id, request.view
    note = notes.read(txn, instance_id, target.version, target.sequence)
    if note is None:
        raise InvalidRequest(f"{target.name} cannot be undone: rebuild the projections first")
    coords = np.frombuffer(txn.bulk(note.coords), "<i4").astype(np.int32).reshape(-1, 3)
    source, back = target.states(txn)
    states = [blocks.find_list(txn, instance_id, 0, coords, one) for one in (view, source, back)]
    labels = target.splits()
    olds = np.array(sorted({sv for sv, *_ in labels}), np.uint64)
    parts = np.array(sorted({part for _, *both in labels for part in both}), np.uint64)
    packs = request.stream.packs
    maker = _Maker(packs, states, *((olds, parts) if target.redo else (parts, olds)))
    try:
        made = await in_threads(request, maker.make, spans(len(coords), TASK_BLOCKS))
    except _Changed:
        svs = [sv for split in labels for sv in split]
        wrong = dependents.Wrong([], [], svs)
        raise dependents.refuse(txn, instance_id, view, target, wrong) from None
    pairs = [pair for part in made for pair in part]
    counts = prepare.counts_bytes(prepare.join_counts([one for one, _ in pairs]))
    if len(counts) > INLINE_BYTES_MAX:
        counts_bulk: Bulk = await request.in_thread(packs.put, counts)
    else:
        counts_bulk = counts
    return Made(
        target.sequence,
        coords,
        states[0],
        note.coords,
        tuple(bulk for _, bulk in pairs),
        counts_bulk,
        _levels(txn, instance_id, target, coords),
    )


def _levels(txn: ReadTxn, instance_id: int, target: Target, coords_zyx: Coords) -> int:
    """Return how many lower scales the split has written."""
    view = txn.view(target.version).at(target.sequence)
    levels = 0
    while len(coords_zyx):
        above = coords_zyx[:1] >> (levels + 1)
        key = blocks.keys(instance_id, levels + 1, above)[0]
        row = versioned.read_row(txn, key, view)
        if row is None or row.sequence != target.sequence:
            break
        levels += 1
    return levels


class _Maker:
    def __init__(
        self,
        packs: Packs,
        states: list[list[Bulk | None]],
        present: Labels,
        coming: Labels,
    ) -> None:
        """Make the blocks of `states` (now, as left, as they come back).

        Args:
            packs: where blocks lie, and where new ones are put.
            states: stored blocks of each state.
            present: uint64[n], ascending: the supervoxels that go.
            coming: uint64[m], ascending: those that take their place.
        """
        self._packs = packs
        self._states = states
        self._present, self._coming = present, coming

    def make(self, start: int, stop: int) -> list[tuple[Prepared, Bulk]]:
        """Return blocks [start, stop), with their counts."""
        made = []
        for place in range(start, stop):
            now, source, back = (state[place] for state in self._states)
            if now is None or source is None or back is None:
                raise _Changed
            if now == source:
                block = _load(self._packs, back)
                labels, voxels = labelblock.counts(block)
                one = Prepared(
                    b"", b"", int(labels.max(initial=0)), labels, voxels.astype(np.uint32)
                )
                made.append((one, back))
            else:
                one = self._transferred(_load(self._packs, now), _load(self._packs, back))
                made.append((one, ingest.put_stored(self._packs, [one])[0]))
        return made

    def _transferred(self, now: bytes, back: bytes) -> Prepared:
        """Return a block with the voxels of the supervoxels as in another one."""
        volume, other = labelblock.decode(now), labelblock.decode(back)
        own = np.isin(volume, self._present)
        if not np.array_equal(own, np.isin(other, self._coming)):
            raise _Changed
        volume[own] = other[own]
        block = labelblock.encode(volume)
        labels, voxels = labelblock.counts(block)
        stored = storedblock.store(block)
        highest = int(labels.max(initial=0))
        return Prepared(block, stored, highest, labels, voxels.astype(np.uint32))


def _load(packs: BulkReader, stored: Bulk) -> bytes:
    return storedblock.load(stored if isinstance(stored, bytes) else packs.get(stored))
