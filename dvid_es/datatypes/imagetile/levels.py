"""The scales of tiles, as they are kept and shown."""

from typing import Any, NamedTuple

from dvid_es.codecs import gojson
from dvid_es.projections.catalog import Instance


class Level(NamedTuple):
    """One scale."""

    resolution_xyz: tuple[float, ...]
    size_xyz: tuple[int, ...]
    """Of a tile, in voxels."""


class Metadata(NamedTuple):
    """What POST metadata says."""

    low_xyz: tuple[int, ...]
    high_xyz: tuple[int, ...]
    levels: tuple[Level, ...]


def shown(metadata: Metadata) -> dict[str, Any]:
    """Return metadata as they are kept in settings, and shown."""
    return {
        "MinTileCoord": list(metadata.low_xyz),
        "MaxTileCoord": list(metadata.high_xyz),
        "Levels": {
            str(scale): {
                "Resolution": [gojson.float32(number) for number in level.resolution_xyz],
                "TileSize": list(level.size_xyz),
            }
            for scale, level in enumerate(metadata.levels)
        },
    }


def tile_size(instance: Instance, scale: int) -> tuple[int, ...] | None:
    """Return the size (XYZ) of the tiles of a scale, or None if metadata do not name it."""
    level = instance.settings["Levels"].get(str(scale))
    return None if level is None else tuple(level["TileSize"])
