"""The rows of tiles: under plane, scale and coordinate the bytes that a client sent."""

from typing import NamedTuple

from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.projections import bulkrow, versioned
from dvid_es.projections.blockrows import coord_key, coord_of
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import read_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

TILES = 140
"""Kind of these rows."""

PLANES = ("xy", "xz", "yz")
"""In the order of their numbers in keys."""

_HEAD_BYTES = 7


class Tile(NamedTuple):
    """Which tile."""

    plane: str
    scale: int
    at_zyx: Triple


def key(instance_id: int, tile: Tile) -> bytes:
    """Return the row key, without version and sequence."""
    head = bytes((PLANES.index(tile.plane), tile.scale))
    return instance_key(instance_id, TILES) + head + coord_key(tile.at_zyx)


def tile_of(row_key: bytes) -> Tile:
    """Return the tile of a row key without version and sequence."""
    plane, scale = row_key[_HEAD_BYTES - 2 : _HEAD_BYTES]
    return Tile(PLANES[plane], scale, coord_of(row_key, _HEAD_BYTES))


def find(txn: ReadTxn, instance_id: int, tiles: list[Tile], view: View) -> list[Bulk | None]:
    """Return the bytes of tiles, not yet fetched; None for each that is not there.

    DVID never finds tiles with a negative coordinate, which it stores.

    Raises:
        VersionConflict: parents of a version merge have unequal tiles.
    """
    rows = read_many(txn, [key(instance_id, tile) for tile in tiles], view)
    return [
        None if row is None or min(tile.at_zyx) < 0 else bulkrow.decode(row)
        for tile, row in zip(tiles, rows, strict=True)
    ]


def put(
    txn: WriteTxn, instance_id: int, tile: Tile, version: int, sequence: int, data: Bulk
) -> None:
    """Give a tile its bytes; without any, there is none."""
    value = bulkrow.encode(data) if bulkrow.length(data) else versioned.TOMBSTONE
    versioned.put(txn, key(instance_id, tile), version, sequence, value)
