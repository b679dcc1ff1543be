"""Applies records to a transaction: the folds, and the checkpoint with them."""

from collections.abc import Iterable, Mapping

from dvid_es.errors import CorruptStore
from dvid_es.events import Event, Record
from dvid_es.projections.catalog import (
    CHECKPOINT,
    IDEMPOTENCY,
    NEXT_MUTATION_ID,
    MutationPlace,
    checkpoint,
    mutation_row,
    next_mutation_id,
)
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


class Projector:
    """Folds the events of a repository, each exactly once and in order."""

    def __init__(self, folds: Mapping[type[Event], tuple[Fold, ...]]) -> None:
        """Use these folds; an event without one changes only counters and checkpoint."""
        self._folds = folds

    def apply(self, txn: WriteTxn, record: Record, expected: int | None = None) -> None:
        """Fold one record and move the checkpoint past it, in the same transaction.

        Args:
            txn: the state to change.
            record: the next one.
            expected: its checkpoint, for who knows it.

        Raises:
            CorruptStore: the record is not the next one of this store.
        """
        if expected is None:
            expected = checkpoint(txn)
        if record.offset != expected:
            raise _out_of_order(record.offset, expected)
        for fold in self._folds.get(type(record.event), ()):
            fold(txn, record)
        header = record.header
        if header.mutation_id:
            _note_mutation(txn, record)
            if header.mutation_id >= next_mutation_id(txn):
                txn.put(NEXT_MUTATION_ID, (header.mutation_id + 1).to_bytes(8, "big"))
        if header.idempotency_key:
            _keep_answer(txn, record)
        txn.put(CHECKPOINT, (record.offset + 1).to_bytes(8, "big"))

    def apply_all(self, txn: WriteTxn, records: Iterable[Record]) -> int:
        """Fold many records as `apply` does one by one, and move the checkpoint once; for replay.

        So a fold must not read the checkpoint or the next mutation id. Returns the checkpoint.

        Raises:
            CorruptStore: a record is not the next one of this store.
        """
        first = expected = checkpoint(txn)
        known_id = next_id = next_mutation_id(txn)
        folds_of, put = self._folds.get, txn.put
        for record in records:
            if record.offset != expected:
                raise _out_of_order(record.offset, expected)
            for fold in folds_of(type(record.event), ()):
                fold(txn, record)
            header = record.header
            if header.mutation_id:
                _note_mutation(txn, record)
                next_id = max(next_id, header.mutation_id + 1)
            if header.idempotency_key:
                _keep_answer(txn, record)
            expected += 1
        if next_id != known_id:
            put(NEXT_MUTATION_ID, next_id.to_bytes(8, "big"))
        if expected != first:
            put(CHECKPOINT, expected.to_bytes(8, "big"))
        return expected


def _note_mutation(txn: WriteTxn, record: Record) -> None:
    header = record.header
    place = MutationPlace(record.offset, header.version, header.instance)
    txn.put(*mutation_row(header.mutation_id, place))


def _keep_answer(txn: WriteTxn, record: Record) -> None:
    header = record.header
    kept = record.offset.to_bytes(8, "big") + header.answer
    txn.put(idempotency_row(header.idempotency_key), kept)


def _out_of_order(offset: int, expected: int) -> CorruptStore:
    return CorruptStore(
        f"the store expects the event at offset {expected}, not {offset};"
        " rebuild it: dvid-es rebuild"
    )


def idempotency_row(key: str) -> bytes:
    """Return the key of what is kept for an Idempotency-Key: offset (u64, big endian) and answer."""
    return IDEMPOTENCY + key.encode()
