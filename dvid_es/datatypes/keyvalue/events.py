"""What can happen to a keyvalue instance."""

from dvid_es.events import Bulk, Event, event

INLINE_VALUE_MAX = 1800
"""Longer values go to the packs. Up to here a row fits into a page of LMDB without an overflow page, a
write needs one sync instead of two, and a read no file but the store's."""


@event(50, "keyvalue.put")
class ValuesPut(Event, frozen=True, kw_only=True):
    """Keys were given values, all of them together; of a key that is named twice the last one counts.

    Source: PutData and the keyvalues endpoint in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid),
    where the puts of one request are not atomic.
    """

    keys: tuple[str, ...]
    values: tuple[Bulk, ...]
    """As long as `keys`; those over `INLINE_VALUE_MAX` bytes lie in the packs."""

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""


@event(51, "keyvalue.deleted")
class KeysDeleted(Event, frozen=True, kw_only=True):
    """Keys have no value any more, whether they had one or not."""

    keys: tuple[str, ...]

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""
