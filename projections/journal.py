"""Journals: what each event has changed, by its sequence, for readers that keep what they once made of it.

A row is of no version: its key ends in the sequence (u64), and its value begins with the ordinal of the
version (u32, both big endian).
"""

from collections.abc import Iterator

from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View


def add(txn: WriteTxn, prefix: bytes, version: int, sequence: int, data: bytes) -> None:
    """Add to what an event has changed; an event writes to one version of a journal."""
    key = prefix + sequence.to_bytes(8, "big")
    before = txn.get(key)
    txn.put(key, (version.to_bytes(4, "big") if before is None else before) + data)


def between(txn: ReadTxn, prefix: bytes, old: View, new: View) -> Iterator[bytes]:
    """Iterate over what the events have changed that one view sees and an older one does not.

    Of views of the same version only the events between them are looked at, of others all.
    """
    same = old.version == new.version
    start = prefix + (old.sequence + 1 if same else 0).to_bytes(8, "big")
    for key, value in txn.scan(start, prefix + b"\xff" * 9):
        version, sequence = int.from_bytes(value[:4], "big"), int.from_bytes(key[-8:], "big")
        seen = sequence <= new.bounds.get(version, -1)
        if seen and sequence > old.bounds.get(version, -1):
            yield value[4:]
