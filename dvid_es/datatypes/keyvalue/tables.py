"""The keys and values of an instance as a table, for analytics."""

from collections.abc import Iterator, Sequence

from dvid_es.analytics.touched import Table
from dvid_es.datatypes.keyvalue.reads import FETCH_BYTES, scan
from dvid_es.datatypes.keyvalue.rows import bulk_length
from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def _keyvalues(
    txn: ReadTxn, instance: Instance, view: View
) -> Iterator[tuple[Sequence[str], Sequence[bytes]]]:
    """Iterate over keys and values, about 4 MiB at once; keys in conflict are left out."""
    keys: list[str] = []
    values: list[Bulk] = []
    size = 0
    for key, bulk in scan(txn, instance.id, view, b"", None):
        keys.append(key.decode("utf-8", "replace"))
        values.append(bulk)
        size += len(key) + (bulk_length(bulk) if isinstance(bulk, PackRef) else len(bulk))
        if size >= FETCH_BYTES:
            yield keys, txn.bulk_many(values)
            keys, values, size = [], [], 0
    yield keys, txn.bulk_many(values)


TABLES = {"keyvalues": Table({"key": "text", "value": "bytes"}, _keyvalues)}
