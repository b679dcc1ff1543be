"""What can happen to a keyvalue instance."""

from dvid_es.events import Bulk, Event, event


@event(50, "keyvalue.put")
class ValuesPut(Event, frozen=True, kw_only=True):
    """Keys were given values, all of them together; of a key that is named twice the last one counts.

    Source: PutData and the keyvalues endpoint in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid),
    where the puts of one request are not atomic.
    """

    keys: tuple[str, ...]
    values: tuple[Bulk, ...]
    """As long as `keys`; values of more than 512 bytes lie in the packs."""

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""


@event(51, "keyvalue.deleted")
class KeysDeleted(Event, frozen=True, kw_only=True):
    """Keys have no value any more, whether they had one or not."""

    keys: tuple[str, ...]

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""
