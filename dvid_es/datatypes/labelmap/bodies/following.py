"""Bodies follow their voxels: what a write to voxels does to the sets and sizes of bodies."""

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, surfaces
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.indices.cache import note_change
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.temporal import put_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]


def fold_voxel_change(
    txn: WriteTxn, record: Record, svs: Labels, delta: NDArray[np.int64]
) -> bytes:
    """Let bodies follow their voxels, after the supervoxel index has been changed.

    Args:
        txn: holds the totals of supervoxels as they are now.
        record: the event; its version is the one written.
        svs: uint64[n], distinct supervoxels whose voxels have become more or fewer.
        delta: int64[n]: by how many.

    A supervoxel belongs to the body that has it; a new one to the body that it maps to, and one that
    is retired to none.

    Returns:
        The bodies that have changed: u64[n], little endian, ascending.
    """
    note_change(txn, record)
    if not len(svs):
        return b""
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
    values = bodysets.read_values(txn, header.instance, distinct, view)
    keys = bodysets.body_keys(header.instance, distinct)
    marked = surfaces.is_known(txn, header.instance)
    changed: list[bytes] = []
    rows: list[bytes] = []
    there = np.zeros(len(distinct), bool)
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
            there[place] = True
    put_many(txn, changed, rows, header.version, record.offset)
    return distinct[there].astype("<u8").tobytes()


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
    values = bodysets.read_values(txn, instance_id, distinct, view)
    for place, value in enumerate(values):
        places = order[bounds[place] : bounds[place + 1]]
        if value is not None:
            whole = bodyrow.peek(value)[2]
            if len(places) == 1 and whole == svs[places[0]].tobytes():
                continue
            inside = bodysets.contains(txn, instance_id, bodyrow.decode(value), svs[places])
            places = places[~inside]
        for stray in places.tolist():
            one = svs[stray : stray + 1]
            for label in mapping.earlier_bodies(txn, instance_id, view, int(one[0])):
                body = bodysets.read(txn, instance_id, label, view)
                if body is not None and bodysets.contains(txn, instance_id, body, one)[0]:
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
    inside = bodysets.contains(txn, record.header.instance, body, svs)
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
        body = bodysets.with_removed(txn, record, label, body, svs[gone])
    if new.any():
        body = bodysets.with_added(txn, record, label, body, svs[new])
    if not body.members:
        return None
    return bodyrow.encode(body._replace(voxels=max(0, voxels)))
