"""What happens to tiles: events 230 to 239."""

from dvid_es.events import Bulk, Event, event

INLINE_TILE_MAX = 512
"""Longer tiles go to the packs."""


@event(230, "imagetile.tile-put")
class TilePut(Event):
    """A tile was given bytes, whatever they are."""

    plane: str
    """xy, xz or yz."""

    scale: int
    tile: tuple[int, ...]
    """x, y, z: of two of them tiles are counted, of the third voxels."""

    data: Bulk
    """Without any, there is no tile."""


@event(231, "imagetile.metadata-set")
class MetadataSet(Event):
    """The scales were described, for all versions."""

    low: tuple[int, ...]
    """MinTileCoord: x, y, z."""

    high: tuple[int, ...]
    """MaxTileCoord."""

    resolutions: tuple[tuple[float, ...], ...]
    """x, y, z of each scale, the finest first."""

    sizes: tuple[tuple[int, ...], ...]
    """Voxels of a tile of each scale: x, y, z."""
