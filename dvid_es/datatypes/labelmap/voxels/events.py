"""What happens to voxels: events 100 to 119."""

from typing import Any

from dvid_es.events import Bulk, Event, event


@event(100, "labelmap.blocks-put")
class BlocksPut(Event):
    """Whole blocks were written at one scale, and what follows from them."""

    scale: int
    """0 is full resolution."""

    coords: Bulk
    """int32[n, 3], little endian, ZYX: block coordinates, distinct and in this order."""

    blocks: tuple[Bulk, ...]
    """n stored blocks (see STORED_BLOCK.md)."""

    indexed: bool = False
    """Whether the supervoxel index takes part."""

    counts: Bulk = b""
    """If indexed, or if other instances may follow: u32[n] labels of each block, then u64 of all labels
    (ascending in each block, without 0), then u32 of their voxels; little endian."""

    downres_levels: int = 0
    """How many lower scales follow, of those above `scale`."""

    max_label: int = 0
    """The largest label of the blocks, to which the maximum of the version rises; 0 changes nothing."""

    extents: tuple[int, ...] = ()
    """Box of voxels that the extents of the version grow by: first x, y, z, last x, y, z; () is none."""


@event(101, "labelmap.extents-set")
class ExtentsSet(Event):
    """The extents of a version were set."""

    extents: tuple[int, ...]
    """First x, y, z, last x, y, z, in voxels."""


@event(102, "labelmap.settings-changed")
class SettingsChanged(Event):
    """Settings of an instance changed; they have no versions."""

    settings: dict[str, Any]
    """The new values, by their names in info."""
