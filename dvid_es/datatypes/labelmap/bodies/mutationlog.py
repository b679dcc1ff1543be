"""The records of mutations that DVID's `/mutations` shows: facts in rows, JSON made on reading.

Source: LogJSONMutation's callers in datatype/labelmap/mutate.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.datatypes.labelmap.undo import status
from dvid_es.events import Record
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.publishing.messages import keep_long
from dvid_es.versions import View

_LONG_LABELS = 40_000
"""Fewer labels, of at most 21 bytes each as text, never make a record too long for a message."""

_LONG_SPLITS = 10_000
"""The same of supervoxels with both of their parts."""

MUTATIONS = 87
"""Kind of the rows: version u32, sequence u64."""

_AT_THE_END = ("CleavedSize", "RemainSize", "SplitSize")
"""Fields that the start of a mutation does not have."""

Facts = dict[str, Any]
"""Fields of a record by their names: numbers, texts, objects; bytes are a list of labels (u64)."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What a row holds."""

    action: str
    mutation_id: int
    time_ns: int
    user: str
    app: str
    facts: Facts


_decode = msgspec.msgpack.Decoder(Entry).decode
_encode = msgspec.msgpack.Encoder().encode


def put(txn: WriteTxn, record: Record, action: str, facts: Facts) -> None:
    """Keep the record of an event; what is too long for a message of DVID's also as a blob."""
    entry = _entry(record, action, facts)
    row = _encode(entry)
    if len(row) >= min(_LONG_LABELS, _LONG_SPLITS) and is_long(facts):
        uuid = txn.repo.graph.by_id[record.header.version].uuid
        for start, _ in told(entry):
            keep_long(txn, [to_json(start, uuid)])
    _put(txn, record, row)


def put_cleave(txn: WriteTxn, record: Record, facts: Facts, sizes: Facts) -> None:
    """Keep the record of a cleave; one that is too long for a message refers to a blob.

    The blob is the whole record of the start of the cleave, which has no sizes yet.
    """
    row = _encode(_entry(record, "cleave-complete", {**facts, **sizes}))
    if len(row) >= min(_LONG_LABELS, _LONG_SPLITS) and is_long(facts):
        uuid = txn.repo.graph.by_id[record.header.version].uuid
        start = _entry(record, "cleave", facts)
        short = shortened(start, start, keep_long(txn, [to_json(start, uuid)]))[0].facts
        row = _encode(_entry(record, "cleave-complete", {**short, **sizes}))
    _put(txn, record, row)


def _entry(record: Record, action: str, facts: Facts) -> Entry:
    header = record.header
    return Entry(action, header.mutation_id, record.time_ns, header.user, header.app, facts)


def _put(txn: WriteTxn, record: Record, row: bytes) -> None:
    header = record.header
    txn.put(_key(header.instance, header.version) + record.offset.to_bytes(8, "big"), row)


def is_long(facts: Facts) -> bool:
    """Say whether a record may be too long for a message."""
    for value in facts.values():
        kind = type(value)
        if kind is bytes and len(value) >= 8 * _LONG_LABELS:
            return True
        if kind is dict and len(value) >= _LONG_SPLITS:
            return True
    return any(is_long(step) for _, step in facts.get("Classic", ()))


def told(entry: Entry) -> Iterator[tuple[Entry, Entry]]:
    """Iterate over start and end of what DVID's consumers hear of an event, in the nearest words of DVID."""
    steps = [(entry.action, entry.facts)] if entry.action.endswith("-complete") else []
    for action, facts in (*steps, *entry.facts.get("Classic", ())):
        known = {name: value for name, value in facts.items() if name not in ("Undoes", "Redoes")}
        begun = {name: value for name, value in known.items() if name not in _AT_THE_END}
        start = action.removesuffix("-complete")
        yield (
            msgspec.structs.replace(entry, action=start, facts=begun),
            msgspec.structs.replace(entry, action=action, facts=known),
        )


def shortened(start: Entry, end: Entry, reference: str) -> tuple[Entry, Entry]:
    """Return start and end with a blob in place of the longest field; as they are without one."""
    if not reference:
        return start, end
    longest = max(start.facts, key=lambda name: _length(start.facts[name]))

    def short(entry: Entry) -> Entry:
        facts = {name: value for name, value in entry.facts.items() if name != longest}
        return msgspec.structs.replace(entry, facts={**facts, "DataRef": reference})

    return short(start), short(end)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, bytes | str | list | dict) else 0


def read(
    txn: ReadTxn, instance_id: int, version: int, view: View, user: str | None = None
) -> Iterator[str]:
    """Iterate over the records of one version, the oldest first, as JSON.

    Args:
        txn: the state.
        instance_id: the instance.
        version: ordinal; its own records, not those of its ancestors.
        view: of this version or one below it: bounds what is seen of it.
        user: only the records of this user.
    """
    uuid = txn.repo.graph.by_id[version].uuid
    for _, entry in _entries(txn, instance_id, version, view):
        if user is None or entry.user == user:
            yield from logged(entry, uuid)


def logged(entry: Entry, uuid: str) -> Iterator[str]:
    """Iterate over the records of an event in DVID's words: several of some that undo or redo."""
    if entry.action.endswith("-complete"):
        yield to_json(entry, uuid)
    for action, facts in entry.facts.get("Classic", ()):
        yield to_json(msgspec.structs.replace(entry, action=action, facts=facts), uuid)


def at(txn: ReadTxn, instance_id: int, version: int, sequence: int) -> Entry | None:
    """Return the record of one event, or None if it has none."""
    value = txn.get(_key(instance_id, version) + sequence.to_bytes(8, "big"))
    return None if value is None else _decode(value)


def between(
    txn: ReadTxn, instance_id: int, version: int, after: int, last: int
) -> Iterator[tuple[int, Entry]]:
    """Iterate over sequence and record of the events of a version behind `after`, up to `last`."""
    prefix = _key(instance_id, version)
    start, stop = (prefix + place.to_bytes(8, "big") for place in (after + 1, last))
    for key, value in txn.scan(start, stop + b"\0"):
        yield int.from_bytes(key[-8:], "big"), _decode(value)


def splits(
    txn: ReadTxn, instance_id: int, version: int, view: View
) -> list[tuple[int, int, int, int]]:
    """Return mutation id, supervoxel, remaining and split part of the splits of one version.

    Those that are undone in the view are left out.
    """
    found: list[tuple[int, int, int, int]] = []
    any_undone = status.any_undone(txn, instance_id)
    for sequence, entry in _entries(txn, instance_id, version, view):
        facts = entry.facts
        if any_undone and status.is_undone(txn, instance_id, sequence, view):
            continue
        if entry.action == "split-supervoxel-complete":
            parts = facts["RemainSupervoxel"], facts["SplitSupervoxel"]
            found.append((entry.mutation_id, facts["Supervoxel"], *parts))
        elif entry.action == "split-complete":
            for sv, made in facts["SVSplits"].items():
                found.append((entry.mutation_id, int(sv), made["Remain"], made["Split"]))
    return found


def _entries(
    txn: ReadTxn, instance_id: int, version: int, view: View
) -> Iterator[tuple[int, Entry]]:
    last = view.bounds.get(version)
    if last is not None:
        yield from between(txn, instance_id, version, -1, last)


def to_json(entry: Entry, uuid: str, action: str | None = None) -> str:
    """Return a record as DVID writes it: keys in alphabetical order."""
    fields = to_fields(entry, entry.facts, uuid, action or entry.action)
    return gojson.dumps(fields, sort_keys=True)


def to_fields(entry: Entry, facts: Facts, uuid: str, action: str) -> Facts:
    """Return a record as plain values."""
    fields: Facts = {
        "Action": action,
        "UUID": uuid,
        "MutationID": entry.mutation_id,
        "Timestamp": timestamp(entry.time_ns),
    }
    if entry.user:
        fields["User"] = entry.user
    if entry.app:
        fields["App"] = entry.app
    for name, value in facts.items():
        fields[name] = from_bytes(value).tolist() if isinstance(value, bytes) else value
    return fields


def timestamp(time_ns: int) -> str:
    """Return a time as Go prints one; clients want a fraction and a word behind the zone."""
    text = gojson.time_string(time_ns)
    if "." not in text:
        text = text.replace(" +0000", ".000000000 +0000")
    return f"{text} m=+0.000000001"


def _key(instance_id: int, version: int) -> bytes:
    return instance_key(instance_id, MUTATIONS) + version.to_bytes(4, "big")
