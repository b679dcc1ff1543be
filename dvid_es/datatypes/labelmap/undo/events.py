"""What was undone and redone: events 140 to 149. Arrays are little endian."""

from typing import Any

import msgspec

from dvid_es.events import Bulk, Event, event


class Reversal(Event):
    """What undo and redo have in common: which mutation, and all that changes by it now."""

    sequence: int
    """Of the event that is undone or redone."""

    version: int
    """Ordinal of the version that it was written to."""

    mutation: int
    """Its mutation id, 0 for one without."""

    action: str
    """What it is: merge, cleave, renumber, split-supervoxel, split or mappings."""

    bodies: Bulk = b""
    """u64[n]: the bodies that change, the one first that the mutation was sent for."""

    lost: Bulk = b""
    """u64: the supervoxels that leave them, those of one body behind the other, ascending in each."""

    lost_sizes: Bulk = b""
    """u32[n]: how many leave each."""

    gained: Bulk = b""
    gained_sizes: Bulk = b""
    voxels: Bulk = b""
    """u64[n]: what each has afterwards."""

    ended: Bulk = b""
    """u64: those of them that are no more."""

    supervoxels: Bulk = b""
    """u64[m], ascending: entries of the mapping that change."""

    mapped: Bulk = b""
    """u64[m]: to what; 2^64 - 1 for no entry, as before."""

    origins: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Of supervoxels that come to be: which ones they are made of."""

    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    """Of a split that is redone: what its record said."""

    coords: Bulk = b""
    """i32[k, 3], ZYX: blocks that change."""

    blocks: tuple[Bulk, ...] = ()
    """k stored blocks (see STORED_BLOCK.md)."""

    counts: Bulk = b""
    """What these blocks add to the supervoxel index, as in labelmap.blocks-put."""

    downres_levels: int = 0
    """How many lower scales change."""


@event(140, "labelmap.undo")
class Undone(Reversal):
    """What a mutation did to bodies, mapping or supervoxels was taken back."""


@event(141, "labelmap.redo")
class Redone(Reversal):
    """What a mutation did before it was undone was done again, with the same labels."""
