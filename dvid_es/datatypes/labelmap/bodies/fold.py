"""How events of bodies change rows: sets, mapping, counters, surfaces, records."""

import numpy as np

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import bodysets, counters, few, mutationlog, surfaces
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body, Last
from dvid_es.datatypes.labelmap.bodies.events import (
    Cleaved,
    IndicesPut,
    LabelsReserved,
    MappingsPosted,
    MaxLabelRaised,
    Merged,
    NextLabelSet,
    Renumbered,
)
from dvid_es.datatypes.labelmap.bodies.labelsets import distinct, from_bytes, to_bytes, without
from dvid_es.datatypes.labelmap.indices import assembly as indices
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.events import Event, Record
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


def last_of(record: Record) -> Last:
    """Return what a body's index says of the event that changed it."""
    header = record.header
    time = gojson.rfc3339(record.time_ns)
    return Last(header.mutation_id, time, header.user, header.app)


def fold_merged(txn: WriteTxn, record: Record) -> None:
    """Move all supervoxels of the merged bodies to the target."""
    event = record.event
    assert isinstance(event, Merged)
    header = record.header
    last = last_of(record)
    moved = few.move_merged(txn, record, event, last)
    if moved is None:
        moved = _move_merged(txn, record, event, last)
    surfaces.moved(txn, record, event.target, event.target, header.mutation_id, moved)
    counters.raise_max(txn, header.instance, header.version, event.target, record.offset)
    facts: mutationlog.Facts = {"Target": event.target, "Labels": txn.bulk(event.bodies)}
    mutationlog.put(txn, record, "merge-complete", facts)


def _move_merged(txn: WriteTxn, record: Record, event: Merged, last: Last) -> bytes:
    header = record.header
    moved = np.sort(from_bytes(txn.bulk(event.supervoxels)))
    target = bodysets.read(txn, header.instance, event.target, txn.view(header.version))
    assert target is not None
    grown = bodysets.with_added(txn, record, event.target, target, moved)
    for body in event.overridden:
        overrides.move(txn, record, body, event.target, None)
    grown = grown._replace(
        voxels=target.voxels + event.voxels,
        last=last,
        overridden=target.overridden or bool(event.overridden),
    )
    bodysets.put(txn, record, event.target, grown)
    bodysets.remove_many(txn, record, from_bytes(txn.bulk(event.bodies)))
    mapping.put_entries(txn, record, moved, np.full(len(moved), event.target, np.uint64))
    return to_bytes(moved)


def fold_cleaved(txn: WriteTxn, record: Record) -> None:
    """Move supervoxels of a body to a new one."""
    event = record.event
    assert isinstance(event, Cleaved)
    header = record.header
    last = last_of(record)
    moved = few.move_cleaved(txn, record, event, last)
    if moved is None:
        moved = _move_cleaved(txn, record, event, last)
    for label in (event.body, event.new_body):
        surfaces.moved(txn, record, label, event.new_body, header.mutation_id, moved)
    counters.take(txn, header.instance, header.version, event.new_body, record.offset)
    facts: mutationlog.Facts = {
        "OrigLabel": event.body,
        "CleavedLabel": event.new_body,
        "CleavedSupervoxels": txn.bulk(event.supervoxels),
    }
    sizes = {"CleavedSize": event.cleaved_voxels, "RemainSize": event.remain_voxels}
    mutationlog.put_cleave(txn, record, facts, sizes)


def _move_cleaved(txn: WriteTxn, record: Record, event: Cleaved, last: Last) -> bytes:
    header = record.header
    asked = distinct(from_bytes(txn.bulk(event.supervoxels)))
    moved = without(asked, from_bytes(txn.bulk(event.ghosts)))
    body = bodysets.read(txn, header.instance, event.body, txn.view(header.version))
    assert body is not None
    left = bodysets.with_removed(txn, record, event.body, body, moved)
    made = bodysets.with_added(txn, record, event.new_body, Body(), moved)
    carried = body.overridden and overrides.move(txn, record, event.body, event.new_body, moved)
    left = left._replace(voxels=event.remain_voxels, last=last)
    made = made._replace(voxels=event.cleaved_voxels, last=last, overridden=carried)
    bodysets.put(txn, record, event.body, left)
    bodysets.put(txn, record, event.new_body, made)
    labels = np.append(np.full(len(asked), event.new_body, np.uint64), np.uint64(0))
    mapping.put_entries(txn, record, np.append(asked, np.uint64(event.new_body)), labels)
    return to_bytes(moved)


def fold_renumbered(txn: WriteTxn, record: Record) -> None:
    """Give a body another label."""
    event = record.event
    assert isinstance(event, Renumbered)
    header = record.header
    moved = from_bytes(txn.bulk(event.supervoxels))
    body = bodysets.read(txn, header.instance, event.old, txn.view(header.version))
    assert body is not None
    bodysets.put(txn, record, event.new, body._replace(last=last_of(record)))
    bodysets.put(txn, record, event.old, None)
    if body.overridden:
        overrides.move(txn, record, event.old, event.new, None)
    labels = np.full(len(moved), event.new, np.uint64)
    if event.retires_new:
        moved, labels = np.append(moved, np.uint64(event.new)), np.append(labels, np.uint64(0))
    mapping.put_entries(txn, record, moved, labels)
    surfaces.renumbered(txn, record, event.new, event.old)
    counters.raise_max(txn, header.instance, header.version, event.new, record.offset)
    facts: mutationlog.Facts = {"NewLabel": event.new, "OrigLabel": event.old}
    mutationlog.put(txn, record, "renumber-complete", facts)


def fold_mappings_posted(txn: WriteTxn, record: Record) -> None:
    """Set entries of the mapping: rows, or a run that is read where it lies."""
    event = record.event
    assert isinstance(event, MappingsPosted)
    svs, bodies = (from_bytes(txn.bulk(part)) for part in (event.supervoxels, event.bodies))
    mapping.put_entries(txn, record, svs, bodies)
    for part, ref in enumerate(event.runs):
        mapruns.put(txn, record, part, ref)
    notes.put(txn, record, "mappings")


def fold_indices_put(txn: WriteTxn, record: Record) -> None:
    """Set bodies, and what the supervoxel index says of them."""
    event = record.event
    assert isinstance(event, IndicesPut)
    notes.put(txn, record, "index", indices.store(txn, record, txn.bulk(event.indices)))


def fold_labels_reserved(txn: WriteTxn, record: Record) -> None:
    """Take labels."""
    event = record.event
    assert isinstance(event, LabelsReserved)
    header = record.header
    counters.take(txn, header.instance, header.version, event.end, record.offset)


def fold_max_label_raised(txn: WriteTxn, record: Record) -> None:
    """Raise the highest label."""
    event = record.event
    assert isinstance(event, MaxLabelRaised)
    header = record.header
    counters.raise_max(txn, header.instance, header.version, event.label, record.offset)


def fold_next_label_set(txn: WriteTxn, record: Record) -> None:
    """Move the counter of new labels."""
    event = record.event
    assert isinstance(event, NextLabelSet)
    instance_id = record.header.instance
    common = counters.read_common(txn, instance_id)
    changed = common._replace(next_label=event.label, ceiling=event.ceiling)
    counters.put_common(txn, instance_id, changed)


FOLDS: dict[type[Event], Fold] = {
    Merged: fold_merged,
    Cleaved: fold_cleaved,
    MappingsPosted: fold_mappings_posted,
    IndicesPut: fold_indices_put,
    LabelsReserved: fold_labels_reserved,
    MaxLabelRaised: fold_max_label_raised,
    NextLabelSet: fold_next_label_set,
    Renumbered: fold_renumbered,
}
