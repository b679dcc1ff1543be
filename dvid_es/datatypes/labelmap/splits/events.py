"""What splits do to voxels and bodies: events 150 to 159. Arrays are little endian."""

from dvid_es.events import Bulk, Event, event


@event(150, "labelmap.supervoxel-split")
class SupervoxelSplit(Event):
    """A supervoxel became two, both of the same body."""

    supervoxel: int
    """The one that is no more."""

    body: int
    split: int
    """The part that the runs cover."""

    remain: int
    split_voxels: int
    remain_voxels: int
    given: int
    """The highest of both labels that the server has given, 0 if the client chose both."""

    chosen: int
    """The highest of both labels that the client has chosen, 0 if none."""

    runs: Bulk
    """i32[n, 4]: x, y, z and length of runs, as posted."""

    coords: Bulk
    """i32[m, 3], ZYX: all blocks of the supervoxel, in this order."""

    blocks: tuple[Bulk, ...]
    """m stored blocks with the new labels (see STORED_BLOCK.md)."""

    counts: Bulk
    """What these blocks add to the supervoxel index, as in labelmap.blocks-put."""

    downres_levels: int = 0
    """How many lower scales follow."""


@event(151, "labelmap.body-split")
class BodySplit(Event):
    """Voxels left a body and make a new one; each supervoxel that had any of them became two."""

    body: int
    new_body: int
    given: int
    """The highest of all new labels."""

    supervoxels: Bulk
    """u64[n]: those that are no more, in the order in which the runs met them."""

    splits: Bulk
    """u64[n]: the part of each that is in the new body."""

    remains: Bulk
    """u64[n]: the part of each that stays; it may have no voxels."""

    runs: Bulk
    """i32[n, 4]: x, y, z and length of runs, as posted."""

    coords: Bulk
    """i32[m, 3], ZYX: all blocks of these supervoxels, in this order."""

    blocks: tuple[Bulk, ...]
    """m stored blocks with the new labels (see STORED_BLOCK.md)."""

    counts: Bulk
    """What these blocks add to the supervoxel index, as in labelmap.blocks-put."""

    downres_levels: int = 0
    """How many lower scales follow."""
