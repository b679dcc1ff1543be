"""What happens to volumes of voxels: events 210 to 229."""

from dvid_es.events import Bulk, Event, event


@event(210, "imageblk.blocks-put")
class BlocksPut(Event):
    """Whole blocks were written."""

    coords: Bulk
    """int32[n, 3], little endian, ZYX: block coordinates, distinct and in this order."""

    blocks: tuple[Bulk, ...]
    """n stored blocks, in the compression of the instance: see codecs/voxelblock.py."""

    extents: tuple[int, ...] = ()
    """Box of voxels that the extents of the version grow by: first x, y, z, last x, y, z; () is none."""


@event(211, "imageblk.extents-set")
class ExtentsSet(Event):
    """The extents of a version were set."""

    extents: tuple[int, ...]
    """First x, y, z, last x, y, z, in voxels; the first may lie beyond the last."""


@event(212, "imageblk.resolution-set")
class ResolutionSet(Event):
    """The size of a voxel was set, for all versions."""

    sizes: tuple[float, ...]
    """x, y, z, in the units of the instance."""
