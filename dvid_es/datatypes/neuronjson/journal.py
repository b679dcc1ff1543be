"""Which annotations each event has written, in memory: what differs between two views of an instance.

Only a cache of rows: filled when it is first asked, then brought up to each reader's state.
"""

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.neuronjson.rows import JOURNAL
from dvid_es.projections.catalog import checkpoint, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Bodies = NDArray[np.uint64]


class Journal:
    """All writes of one instance, all versions together, up to a sequence; for one thread at a time."""

    def __init__(self, instance_id: int) -> None:
        """Start empty."""
        self._prefix = instance_key(instance_id, JOURNAL)
        self._upto = -1
        self._sequences = np.zeros(0, np.int64)
        self._versions = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._bodies = np.zeros(0, np.uint64)

    def catch_up(self, txn: ReadTxn) -> None:
        """Add what was written up to the state of `txn`."""
        last = checkpoint(txn) - 1
        if last <= self._upto:
            return
        start = self._prefix + (self._upto + 1).to_bytes(8, "big")
        rows = list(txn.scan(start, self._prefix + b"\xff" * 9))
        self._upto = last
        if not rows:
            return
        sequences = np.frombuffer(b"".join(key[5:13] for key, _ in rows), ">u8").astype(np.int64)
        versions = np.frombuffer(b"".join(value[:4] for _, value in rows), ">u4").astype(np.int64)
        counts = np.fromiter((len(value) // 8 for _, value in rows), np.int64, len(rows))
        bodies = np.frombuffer(b"".join(value[4:] for _, value in rows), "<u8").astype(np.uint64)
        self._sequences = np.append(self._sequences, sequences)
        self._versions = np.append(self._versions, versions)
        self._counts = np.append(self._counts, counts)
        self._bodies = np.append(self._bodies, bodies)

    def differing(self, one: View, other: View) -> Bodies:
        """Return the bodies with a write that one view sees and the other one does not, ascending."""
        apart = self._seen(one) != self._seen(other)
        return np.unique(self._bodies[np.repeat(apart, self._counts)])

    def _seen(self, view: View) -> NDArray[np.bool_]:
        if not len(self._versions):
            return np.zeros(0, bool)
        bounds = np.full(int(self._versions.max()) + 1, -1, np.int64)
        for version, bound in view.bounds.items():
            if version < len(bounds):
                bounds[version] = min(bound, self._upto)
        return self._sequences <= bounds[self._versions]
