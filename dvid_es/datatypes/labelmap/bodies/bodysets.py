"""Bodies as sets of supervoxels: rows of kind 80, and their immutable bases of kind 81.

The sets do not follow from the mapping, as in DVID: a posted mapping changes no set, a posted index
no mapping; merges, cleaves and voxels change both.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodyrow
from dvid_es.datatypes.labelmap.bodies.bodyrow import NO_LABELS, Base, Body, row_labels
from dvid_es.datatypes.labelmap.bodies.labelsets import member, union, without
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import keys_of, label_table, read_table
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, row_suffix

BODIES = 80
BASES = 81

Labels = NDArray[np.uint64]

_BASES_MAX = 6
_FEW = 16
"""For fewer labels, numpy takes longer to begin than Python to finish."""


# -- reading ---------------------------------------------------------------------------------


def body_key(instance_id: int, body: int) -> bytes:
    """Return the key of a body, without suffix."""
    return instance_key(instance_id, BODIES) + body.to_bytes(8, "big")


def body_keys(instance_id: int, bodies: Labels) -> list[bytes]:
    """Return the keys of bodies, without suffix."""
    if len(bodies) < _FEW:
        return [body_key(instance_id, body) for body in bodies.tolist()]
    return keys_of(label_table(instance_id, BODIES, bodies))


def read(txn: ReadTxn, instance_id: int, body: int, view: View) -> Body | None:
    """Return a body as a view sees it, or None if there is none."""
    value = versioned.read(txn, body_key(instance_id, body), view)
    return None if value is None else bodyrow.decode(value)


def read_values(txn: ReadTxn, instance_id: int, bodies: Labels, view: View) -> list[bytes | None]:
    """Return the values of the rows of many bodies."""
    if len(bodies) < _FEW:
        return [versioned.read(txn, key, view) for key in body_keys(instance_id, bodies)]
    return read_table(txn, label_table(instance_id, BODIES, bodies), view)


def total_voxels(values: Sequence[bytes | None]) -> list[int]:
    """Return the voxels of bodies from the values of their rows; 0 without a row."""
    return [0 if value is None else bodyrow.peek(value)[0] for value in values]


def supervoxels(txn: ReadTxn, instance_id: int, body: Body) -> Labels:
    """Return the supervoxels of a body, ascending."""
    if not body.bases:
        return body.added
    pieces = [without(_base_labels(txn, instance_id, base), base.removed) for base in body.bases]
    if len(body.added):
        pieces.append(body.added)
    return pieces[0] if len(pieces) == 1 else np.sort(np.concatenate(pieces), kind="stable")


def contains(txn: ReadTxn, instance_id: int, body: Body, svs: Labels) -> NDArray[np.bool_]:
    """Say of each supervoxel whether the body consists of it."""
    inside = member(svs, body.added)
    if not body.bases:
        return inside
    for base in body.bases:
        if inside.all():
            break
        held = member(svs, _base_labels(txn, instance_id, base))
        inside |= held & ~member(svs, base.removed)
    return inside


def _base_labels(txn: ReadTxn, instance_id: int, base: Base) -> Labels:
    value = txn.get(base_key(instance_id, base))
    assert value is not None, "a base is written before the row that names it, and never removed"
    return np.frombuffer(value, "<u8").astype(np.uint64, copy=False)


def base_key(instance_id: int, base: Base) -> bytes:
    """Return the key of a base."""
    return (
        instance_key(instance_id, BASES)
        + base.body.to_bytes(8, "big")
        + base.sequence.to_bytes(8, "big")
        + base.part.to_bytes(1, "big")
    )


# -- changing --------------------------------------------------------------------------------


def put(txn: WriteTxn, record: Record, label: int, body: Body | None) -> None:
    """Write the row of a body at the version of an event; None removes it there."""
    header = record.header
    value = versioned.TOMBSTONE if body is None else bodyrow.encode(body)
    versioned.put(txn, body_key(header.instance, label), header.version, record.offset, value)


def remove_many(txn: WriteTxn, record: Record, labels: Labels) -> None:
    """Remove bodies at the version of an event."""
    header = record.header
    if len(labels) < _FEW:
        suffix = row_suffix(header.version, record.offset)
        for label in labels.tolist():
            txn.put(body_key(header.instance, label) + suffix, versioned.TOMBSTONE)
        return
    keys = label_table(header.instance, BODIES, np.sort(labels))
    suffix = row_suffix(header.version, record.offset)
    txn.put_table(keys, suffix, [versioned.TOMBSTONE] * len(keys))


def with_added(txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels) -> Body:
    """Return a body that has gained `svs` (ascending, none of them in it before).

    Voxels are the caller's affair. A base is written when the row becomes long.
    """
    added = union(body.added, svs)
    body = body._replace(members=body.members + len(svs), added=added)
    if len(added) <= row_labels(body.members):
        return body
    bases = (*body.bases, _put_base(txn, record, label, body, added))
    body = body._replace(bases=bases, added=NO_LABELS)
    return body if len(bases) <= _BASES_MAX else _joined(txn, record, label, body)


def with_removed(txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels) -> Body:
    """Return a body that has lost `svs` (ascending, all of them in it before)."""
    instance_id = record.header.instance
    body = (
        body._replace(
            members=body.members - len(svs),
            added=without(body.added, svs),
        )
        if not body.bases
        else _removed_from_parts(txn, record, label, body, svs)
    )
    if body.bases and body.members <= row_labels(body.members):
        return body._replace(bases=(), added=supervoxels(txn, instance_id, body))
    return body


def _removed_from_parts(txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels) -> Body:
    rest = svs[~member(svs, body.added)]
    left = body._replace(members=body.members - len(svs), added=without(body.added, svs))
    bases: list[Base] = []
    for base in body.bases:
        if not len(rest):
            bases.append(base)
            continue
        labels = _base_labels(txn, record.header.instance, base)
        gone = member(rest, labels) & ~member(rest, base.removed)
        removed = union(base.removed, rest[gone])
        rest = rest[~gone]
        if len(removed) == base.size:
            continue
        if len(removed) > row_labels(base.size):
            kept = without(labels, removed)
            bases.append(_put_base(txn, record, label, left._replace(bases=tuple(bases)), kept))
        else:
            bases.append(base._replace(removed=removed))
    return left._replace(bases=tuple(bases))


def _joined(txn: WriteTxn, record: Record, label: int, body: Body) -> Body:
    """Join the smaller bases, so that no body has many; the largest is joined last and rarely."""
    instance_id = record.header.instance
    by_size = sorted(body.bases, key=lambda base: base.size)
    largest = by_size[-1]
    small = by_size[:-1]
    if 2 * sum(base.size for base in small) >= largest.size:
        small = by_size
    kept = () if small is by_size else (largest,)
    labels = supervoxels(txn, instance_id, body._replace(bases=tuple(small), added=NO_LABELS))
    return body._replace(bases=(*kept, _put_base(txn, record, label, body, labels)))


def _put_base(txn: WriteTxn, record: Record, label: int, body: Body, labels: Labels) -> Base:
    """Write a base under a key that no other base of this event and body has."""
    taken = {
        base.part for base in body.bases if base.body == label and base.sequence == record.offset
    }
    part = 0
    base = Base(label, record.offset, part, len(labels), NO_LABELS)
    while part in taken or txn.get(base_key(record.header.instance, base)) is not None:
        part += 1
        base = base._replace(part=part)
    txn.put(base_key(record.header.instance, base), labels.astype("<u8", copy=False).tobytes())
    return base
