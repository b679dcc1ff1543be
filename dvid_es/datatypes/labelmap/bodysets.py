"""Bodies as sets of supervoxels: rows of kind 80, and their immutable bases of kind 81.

The sets do not follow from the mapping, as in DVID: a posted mapping changes no set, a posted index
no mapping; merges, cleaves and voxels change both.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap import bodyrow, mapping, overrides, surfaces, svindex
from dvid_es.datatypes.labelmap.bodyrow import NO_LABELS, Base, Body
from dvid_es.datatypes.labelmap.labelsets import member, union, without
from dvid_es.datatypes.labelmap.temporal import make_keys, put_many, read_many
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

BODIES = 80
BASES = 81

Labels = NDArray[np.uint64]

_ROW_LABELS = 192
"""A row holds at least so many added or removed supervoxels before a base is written."""

_BASES_MAX = 6


# -- reading ---------------------------------------------------------------------------------


def body_key(instance_id: int, body: int) -> bytes:
    """Return the key of a body, without suffix."""
    return instance_key(instance_id, BODIES) + body.to_bytes(8, "big")


def body_keys(instance_id: int, bodies: Labels) -> list[bytes]:
    """Return the keys of bodies, without suffix."""
    columns = np.ascontiguousarray(bodies, ">u8").view(np.uint8).reshape(len(bodies), 8)
    return make_keys(instance_id, BODIES, columns)


def read(txn: ReadTxn, instance_id: int, body: int, view: View) -> Body | None:
    """Return a body as a view sees it, or None if there is none."""
    value = versioned.read(txn, body_key(instance_id, body), view)
    return None if value is None else bodyrow.decode(value)


def read_values(txn: ReadTxn, instance_id: int, bodies: Labels, view: View) -> list[bytes | None]:
    """Return the values of the rows of many bodies."""
    return read_many(txn, body_keys(instance_id, bodies), view)


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
    for base in body.bases:
        if inside.all():
            break
        held = member(svs, _base_labels(txn, instance_id, base))
        inside |= held & ~member(svs, base.removed)
    return inside


def _base_labels(txn: ReadTxn, instance_id: int, base: Base) -> Labels:
    value = txn.get(_base_key(instance_id, base))
    assert value is not None, "a base is written before the row that names it, and never removed"
    return np.frombuffer(value, "<u8").astype(np.uint64, copy=False)


def _base_key(instance_id: int, base: Base) -> bytes:
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
    keys = body_keys(header.instance, np.sort(labels))
    put_many(txn, keys, [versioned.TOMBSTONE] * len(keys), header.version, record.offset)


def with_added(txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels) -> Body:
    """Return a body that has gained `svs` (ascending, none of them in it before).

    Voxels are the caller's affair. A base is written when the row becomes long.
    """
    added = union(body.added, svs)
    body = body._replace(count=body.count + len(svs), added=added)
    if len(added) <= _row_labels(body.count):
        return body
    bases = (*body.bases, _put_base(txn, record, label, body, added))
    body = body._replace(bases=bases, added=NO_LABELS)
    return body if len(bases) <= _BASES_MAX else _joined(txn, record, label, body)


def with_removed(txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels) -> Body:
    """Return a body that has lost `svs` (ascending, all of them in it before)."""
    instance_id = record.header.instance
    body = (
        body._replace(
            count=body.count - len(svs),
            added=without(body.added, svs),
        )
        if not body.bases
        else _removed_from_parts(txn, record, label, body, svs)
    )
    if body.bases and body.count <= _row_labels(body.count):
        return body._replace(bases=(), added=supervoxels(txn, instance_id, body))
    return body


def _removed_from_parts(txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels) -> Body:
    rest = svs[~member(svs, body.added)]
    left = body._replace(count=body.count - len(svs), added=without(body.added, svs))
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
        if len(removed) > _row_labels(base.size):
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
    while part in taken or txn.get(_base_key(record.header.instance, base)) is not None:
        part += 1
        base = base._replace(part=part)
    txn.put(_base_key(record.header.instance, base), labels.astype("<u8", copy=False).tobytes())
    return base


def _row_labels(count: int) -> int:
    return max(_ROW_LABELS, math.isqrt(count))


# -- following voxels ------------------------------------------------------------------------


def fold_voxel_change(txn: WriteTxn, record: Record, svs: Labels, delta: NDArray[np.int64]) -> None:
    """Let bodies follow their voxels, after the supervoxel index has been changed.

    Args:
        txn: holds the totals of supervoxels as they are now.
        record: the event; its version is the one written.
        svs: uint64[n], distinct supervoxels whose voxels have become more or fewer.
        delta: int64[n]: by how many.

    A supervoxel belongs to the body that has it; a new one to the body that it maps to, and one that
    is retired to none.
    """
    if not len(svs):
        return
    header = record.header
    view = txn.view(header.version)
    order = np.argsort(svs)
    svs, delta = np.asarray(svs, np.uint64)[order], np.asarray(delta, np.int64)[order]
    now = svindex.voxels_of(txn, header.instance, svs, view)
    labels, _ = mapping.lookup_rows(txn, header.instance, view, svs)
    _find_owners(txn, header.instance, view, svs, now.astype(np.int64) != delta, labels)
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] != 0]
    svs, now, delta, labels = svs[order], now[order], delta[order], labels[order]
    distinct, bounds = _groups(labels)
    values = read_values(txn, header.instance, distinct, view)
    keys = body_keys(header.instance, distinct)
    marked = surfaces.is_known(txn, header.instance)
    changed: list[bytes] = []
    rows: list[bytes] = []
    for place, value in enumerate(values):
        part = slice(bounds[place], bounds[place + 1])
        label = int(distinct[place])
        if value is None and part.stop - part.start == 1:
            voxels = int(now[part.start])
            row = bodyrow.encode_single(int(svs[part.start]), voxels) if voxels else None
            if marked:
                surfaces.forget(txn, record, label)
        else:
            before = Body() if value is None else bodyrow.decode(value)
            row = _followed(txn, record, label, before, svs[part], now[part], delta[part])
        if row is not None or value is not None:
            changed.append(keys[place])
            rows.append(row or versioned.TOMBSTONE)
    put_many(txn, changed, rows, header.version, record.offset)


def _groups(labels: Labels) -> tuple[Labels, list[int]]:
    """Return the distinct labels of an ascending array, and where each begins (and the end)."""
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))[: len(labels)]
    return labels[starts], [*starts.tolist(), len(labels)]


def _find_owners(
    txn: ReadTxn,
    instance_id: int,
    view: View,
    svs: Labels,
    known: NDArray[np.bool_],
    labels: Labels,
) -> None:
    """Correct `labels` of known supervoxels that another body has than they map to.

    A posted mapping moves no supervoxel between bodies, so the body is one that it mapped to before.
    """
    order = np.argsort(labels, kind="stable")
    order = order[known[order]]
    if not len(order):
        return
    distinct, bounds = _groups(labels[order])
    values = read_values(txn, instance_id, distinct, view)
    for place, value in enumerate(values):
        places = order[bounds[place] : bounds[place + 1]]
        if value is not None:
            whole = bodyrow.peek(value)[2]
            if len(places) == 1 and whole == svs[places[0]].tobytes():
                continue
            inside = contains(txn, instance_id, bodyrow.decode(value), svs[places])
            places = places[~inside]
        for stray in places.tolist():
            one = svs[stray : stray + 1]
            for label in mapping.earlier_bodies(txn, instance_id, view, int(one[0])):
                body = read(txn, instance_id, label, view)
                if body is not None and contains(txn, instance_id, body, one)[0]:
                    labels[stray] = label
                    break


def _followed(
    txn: WriteTxn,
    record: Record,
    label: int,
    body: Body,
    svs: Labels,
    now: Labels,
    delta: NDArray[np.int64],
) -> bytes | None:
    """Return the row of a body after changes of supervoxels that map to it; None if it is gone."""
    inside = contains(txn, record.header.instance, body, svs)
    voxels = body.voxels + int(delta[inside].sum())
    if body.overridden:
        # What was posted counts no longer, for the supervoxels that were written to.
        voxels += overrides.end(
            txn, record, label, svs[inside], (now - delta.astype(np.uint64))[inside]
        )
    new = ~inside & (now > 0)
    gone = inside & (now == 0)
    voxels += int(now[new].sum())
    if gone.any():
        body = with_removed(txn, record, label, body, svs[gone])
    if new.any():
        body = with_added(txn, record, label, body, svs[new])
    if not body.count:
        return None
    return bodyrow.encode(body._replace(voxels=max(0, voxels)))


def total_voxels(values: Sequence[bytes | None]) -> list[int]:
    """Return the voxels of bodies from the values of their rows; 0 without a row."""
    return [0 if value is None else bodyrow.peek(value)[0] for value in values]
