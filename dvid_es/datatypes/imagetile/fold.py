"""How events of tiles change rows."""

import msgspec

from dvid_es.datatypes.imagetile import tiles
from dvid_es.datatypes.imagetile.events import MetadataSet, TilePut
from dvid_es.datatypes.imagetile.levels import Level, Metadata, shown
from dvid_es.datatypes.imagetile.tiles import Tile
from dvid_es.events import Event, Record
from dvid_es.projections.catalog import put_instance
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


def fold_tile_put(txn: WriteTxn, record: Record) -> None:
    """Store a tile."""
    event, header = record.event, record.header
    assert isinstance(event, TilePut)
    x, y, z = event.tile
    tile = Tile(event.plane, event.scale, (z, y, x))
    tiles.put(txn, header.instance, tile, header.version, record.offset, event.data)


def fold_metadata_set(txn: WriteTxn, record: Record) -> None:
    """Change the instance's document."""
    event = record.event
    assert isinstance(event, MetadataSet)
    levels = tuple(map(Level, event.resolutions, event.sizes))
    instance = txn.repo.instances[record.header.instance]
    settings = {**instance.settings, **shown(Metadata(event.low, event.high, levels))}
    put_instance(txn, msgspec.structs.replace(instance, settings=settings))


FOLDS: dict[type[Event], Fold] = {TilePut: fold_tile_put, MetadataSet: fold_metadata_set}
