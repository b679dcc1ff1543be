"""What the parents of a version merge disagree about: tiles."""

from collections.abc import Iterator

from dvid_es.datatypes.imagetile.events import TilePut
from dvid_es.datatypes.imagetile.tiles import TILES, tile_of
from dvid_es.http.datatype import Winner
from dvid_es.projections import bulkrow, versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import Conflict
from dvid_es.versions import View


def conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[str]:
    """Iterate over the tiles that a version merge cannot decide about."""
    for conflict in _conflicts(txn, instance, view):
        tile = tile_of(conflict.key)
        z, y, x = tile.at_zyx
        yield f"tile {tile.plane}/{tile.scale}/{x}_{y}_{z}"


def resolve(txn: ReadTxn, instance: Instance, view: View, winner: Winner) -> Iterator[TilePut]:
    """Iterate over events that give each of these tiles the bytes of one parent."""
    for conflict in _conflicts(txn, instance, view):
        tile = tile_of(conflict.key)
        z, y, x = tile.at_zyx
        data = bulkrow.decode(winner(conflict.rows).value)
        yield TilePut(plane=tile.plane, scale=tile.scale, tile=(x, y, z), data=data)


def _conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[Conflict]:
    prefix = instance_key(instance.id, TILES)
    return versioned.conflicts(txn, prefix, prefix + b"\xff" * 15, view)
