"""What can happen to a neuronjson instance."""

from dvid_es.events import Bulk, Event, event


@event(250, "neuronjson.put")
class RecordsPut(Event, frozen=True, kw_only=True):
    """Bodies have these annotations now, all of them together.

    Each is whole, as it came of what was there, what was posted, and by whom: with the fields that name
    author and time. Bodies whose annotation a request left as it was are not listed.

    Source: PutData and handleIngest in datatype/neuronjson/neuronjson.go (janelia-flyem/dvid), where the
    puts of one request are not atomic.
    """

    bodies: Bulk
    """uint64[n], distinct."""

    records: tuple[bytes, ...]
    """n JSON objects, compact, names sorted, texts escaped as Go does it."""

    changed: tuple[tuple[str, ...], ...] = ()
    """Names of the fields of each that have another value, or none any more; without authors and times."""

    posted: tuple[int, ...] = ()
    """Bytes that were posted for each; none if nothing was, as in settling a version merge."""

    batch: bool = False
    """Whether they came by `keyvalues`."""

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""


@event(251, "neuronjson.deleted")
class RecordsDeleted(Event, frozen=True, kw_only=True):
    """Bodies have no annotation any more."""

    bodies: Bulk
    """uint64[n]."""

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""


@event(252, "neuronjson.schema-put")
class SchemaPut(Event, frozen=True, kw_only=True):
    """A schema was stored: any bytes. `json_schema` rules what is posted, if it is one."""

    name: str
    """`json_schema`, `schema` or `schema_batch`."""

    value: Bulk
    by_key: bool = False
    """Whether it was posted to `key/<name>`, as to a keyvalue instance."""

    addressed: int = 0
    """Ordinal of the version in the URL, if the instance is unversioned; else 0."""


@event(253, "neuronjson.schema-deleted")
class SchemaDeleted(Event, frozen=True, kw_only=True):
    """A schema was deleted."""

    name: str
