"""What happens to a labelvol alone: events 170 to 179. Arrays are little endian.

Merges and splits are those of labelarray.
"""

from dvid_es.events import Bulk, Event, event


@event(170, "labelvol.area-deleted")
class AreaDeleted(Event):
    """The runs of a label in some blocks were dropped; the labelblk keeps its voxels."""

    label: int
    coords: Bulk
    """i32[n, 3], ZYX: blocks that had runs of the label, in this order."""

    blocks: tuple[Bulk, ...]
    """n stored blocks without the label (see STORED_BLOCK.md)."""

    counts: Bulk
    """What these blocks add to the index, as in labelmap.blocks-put."""


@event(171, "labelvol.resynced")
class Resynced(Event):
    """The runs of a label in some blocks were made again from the voxels of the labelblk."""

    label: int
    coords: Bulk
    """i32[n, 3], ZYX: blocks, in this order."""

    blocks: tuple[Bulk, ...]
    """n stored blocks that have the label where the labelblk has it (see STORED_BLOCK.md)."""

    counts: Bulk
    """What these blocks add to the index, as in labelmap.blocks-put."""
