"""What happens to labels that are bodies themselves: events 160 to 169. Arrays are little endian.

They happen to labelarrays and labelvols. Voxels are written by labelmap.blocks-put.
"""

from dvid_es.events import Bulk, Event, event


@event(160, "labelarray.merge")
class LabelsMerged(Event):
    """Voxels of some labels got another label."""

    target: int
    labels: Bulk
    """u64[n], ascending: the labels that are gone."""

    coords: Bulk
    """i32[m, 3], ZYX: all blocks of these labels, in this order."""

    blocks: tuple[Bulk, ...]
    """m stored blocks with the new label (see STORED_BLOCK.md)."""

    counts: Bulk
    """What these blocks add to the index, as in labelmap.blocks-put."""

    downres_levels: int = 0
    """How many lower scales follow."""


@event(161, "labelarray.split")
class LabelSplit(Event):
    """Some voxels of a label got another label."""

    label: int
    new_label: int
    runs: Bulk
    """i32[n, 4]: x, y, z and length of runs, as posted."""

    coarse: bool
    """Whether the runs are of blocks, of which all voxels of the label are meant."""

    coords: Bulk
    """i32[m, 3], ZYX: the blocks that change, in this order."""

    blocks: tuple[Bulk, ...]
    """m stored blocks with the new label (see STORED_BLOCK.md)."""

    counts: Bulk
    """What these blocks add to the index, as in labelmap.blocks-put."""

    downres_levels: int = 0
    """How many lower scales follow."""
