"""Label indices as they were sent lately, so that the next client need not wait for their assembly.

An index follows from the row of its body and from the supervoxel index, so it is found by the event
that wrote the row, the version read at and the last event that changed the supervoxel index. Hence an
entry is never out of date, and reads as of a sequence, or below a version merge, go without it.
"""

import threading
from collections import OrderedDict

from dvid_es.datatypes.labelmap.bodies import bodysets
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import BulkReader, ReadTxn, WriteTxn
from dvid_es.versions import UNBOUNDED, View

LAST_CHANGE = 90
"""Kind of the one row that holds the last event that changed the supervoxel index, any version."""

BYTES_MAX = 64 << 20

Key = tuple[int, ...]


def note_change(txn: WriteTxn, record: Record) -> None:
    """Note that an event changed, or may have changed, where supervoxels are."""
    key = instance_key(record.header.instance, LAST_CHANGE)
    txn.put(key, record.offset.to_bytes(8, "big"))


def last_change(txn: ReadTxn, instance_id: int) -> int:
    """Return the last event that changed the supervoxel index; -1 if none has."""
    value = txn.get(instance_key(instance_id, LAST_CHANGE))
    return -1 if value is None else int.from_bytes(value, "big")


class IndexCache:
    """Encoded indices; bounded, the least recently used go first. Any thread may use it."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        """Keep up to `bytes_max` bytes."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[Key, tuple[BulkReader, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, txn: ReadTxn, instance_id: int, label: int, view: View) -> Key | None:
        """Return what names the index of a body in a view; None if it cannot be kept."""
        packs = getattr(txn, "packs", None)
        if packs is None or not view.linear or view.sequence != UNBOUNDED:
            return None
        row = versioned.read_row(txn, bodysets.body_key(instance_id, label), view)
        if row is None:
            return None
        changed = last_change(txn, instance_id)
        return (id(packs), instance_id, view.version, label, row.version, row.sequence, changed)

    def get(self, key: Key) -> bytes | None:
        """Return an index, or None if it is not here."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def put(self, key: Key, packs: BulkReader, index: bytes) -> None:
        """Keep an index."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += len(index) - (0 if before is None else len(before[1]))
            # The packs are kept with it, so that no other object can have their id meanwhile.
            self._kept[key] = packs, index
            while self._bytes > self._bytes_max:
                self._bytes -= len(self._kept.popitem(last=False)[1][1])

    def clear(self) -> None:
        """Forget all: rows were put right without an event."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


CACHE = IndexCache()
