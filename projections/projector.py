"""Applies records to a transaction: the folds, and the checkpoint with them."""

from collections.abc import Mapping

from dvid_es.errors import CorruptStore
from dvid_es.events import Event, Record
from dvid_es.projections.catalog import (
    CHECKPOINT,
    IDEMPOTENCY,
    NEXT_MUTATION_ID,
    checkpoint,
    next_mutation_id,
)
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


class Projector:
    """Folds the events of a repository, each exactly once and in order."""

    def __init__(self, folds: Mapping[type[Event], tuple[Fold, ...]]) -> None:
        """Use these folds; an event without one changes only counters and checkpoint."""
        self._folds = folds

    def apply(self, txn: WriteTxn, record: Record) -> None:
        """Fold one record and move the checkpoint past it, in the same transaction.

        Raises:
            CorruptStore: the record is not the next one of this store.
        """
        expected = checkpoint(txn)
        if record.offset != expected:
            raise CorruptStore(
                f"the store expects the event at offset {expected}, not {record.offset};"
                " rebuild it: dvid-es rebuild"
            )
        for fold in self._folds.get(type(record.event), ()):
            fold(txn, record)
        header = record.header
        if header.mutation_id >= next_mutation_id(txn):
            txn.put(NEXT_MUTATION_ID, (header.mutation_id + 1).to_bytes(8, "big"))
        if header.idempotency_key:
            kept = record.offset.to_bytes(8, "big") + header.answer
            txn.put(idempotency_row(header.idempotency_key), kept)
        txn.put(CHECKPOINT, (record.offset + 1).to_bytes(8, "big"))


def idempotency_row(key: str) -> bytes:
    """Return the key of what is kept for an Idempotency-Key: offset (u64, big endian) and answer."""
    return IDEMPOTENCY + key.encode()
