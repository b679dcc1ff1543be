"""How undo and redo change rows: voxels and their index, sets, mapping, surfaces, status, record."""

import numpy as np

from dvid_es.datatypes.labelmap.bodies import bodysets, following, mutationlog, surfaces
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.bodies.fold import last_of
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes, member
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.undo import classic, scales, status
from dvid_es.datatypes.labelmap.undo.classic import Change
from dvid_es.datatypes.labelmap.undo.events import Redone, Reversal, Undone
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.prepare import counts_of
from dvid_es.events import Event, Record
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


def fold_reversal(txn: WriteTxn, record: Record) -> None:
    """Bring back a state before, or after, a mutation."""
    event = record.event
    assert isinstance(event, Reversal)
    undone = isinstance(event, Undone)
    changes = classic.changes(event, txn.bulk)
    if event.blocks:
        _fold_blocks(txn, record, event, changes, undone=undone)
    ended = set(from_bytes(txn.bulk(event.ended)).tolist())
    if event.action == "renumber":
        _renumber(txn, record, changes, ended)
    else:
        carried = _move_overrides(txn, record, changes)
        for change in changes:
            _change_body(txn, record, change, ends=change.label in ended, carried=carried)
        if not event.blocks:
            _note_surfaces(txn, record, changes)
    svs, mapped = (from_bytes(txn.bulk(part)) for part in (event.supervoxels, event.mapped))
    mapping.put_entries(txn, record, svs, mapped)
    status.put(txn, record, event.sequence, undone=undone)
    facts: mutationlog.Facts = {
        "Undoes" if undone else "Redoes": event.mutation or event.sequence,
        "Did": event.action,
        "Bodies": txn.bulk(event.bodies),
        "Of": [event.sequence, event.version],
        "Moves": _moves(changes),
        "Origins": event.origins,
        "Classic": classic.records(event, txn.bulk),
    }
    mutationlog.put(txn, record, "undo" if undone else "redo", facts)


def _fold_blocks(
    txn: WriteTxn, record: Record, event: Reversal, changes: list[Change], *, undone: bool
) -> None:
    """Write the blocks and what follows from them, but for the supervoxels of the split."""
    header = record.header
    coords = np.frombuffer(txn.bulk(event.coords), "<i4").astype(np.int32).reshape(-1, 3)
    blocks.put_blocks(txn, record, 0, coords, event.blocks)
    counts = counts_of(txn.bulk(event.counts), len(coords))
    change = svindex.change_blocks(txn, record, coords, counts)
    own = np.unique(from_bytes(b"".join(part for one in changes for part in one[1:3])))
    others = ~member(change.svs, own)
    # Others change only where indices were posted that the voxels did not agree with.
    bodies = following.fold_voxel_change(txn, record, change.svs[others], change.delta[others])
    notes.put(txn, record, "undo" if undone else "redo", bodies, event.coords)
    if event.downres_levels:
        then = txn.view(event.version)
        before, after = then.at(event.sequence - 1), then.at(event.sequence)
        source, back = (after, before) if undone else (before, after)
        shape = block_shape(txn.repo.instances[header.instance])
        scales.fold_levels(
            txn, record, coords, event.blocks, event.downres_levels, shape, source, back
        )


def _change_body(
    txn: WriteTxn, record: Record, change: Change, *, ends: bool, carried: set[int]
) -> None:
    if ends:
        bodysets.put(txn, record, change.label, None)
        return
    header = record.header
    body = bodysets.read(txn, header.instance, change.label, txn.view(header.version)) or Body()
    body = bodysets.with_removed(txn, record, change.label, body, from_bytes(change.lost))
    body = bodysets.with_added(txn, record, change.label, body, from_bytes(change.gained))
    body = body._replace(
        voxels=change.voxels,
        last=last_of(record),
        overridden=body.overridden or change.label in carried,
    )
    bodysets.put(txn, record, change.label, body)


def _renumber(txn: WriteTxn, record: Record, changes: list[Change], ended: set[int]) -> None:
    """Give a body its other label, with the row that it has."""
    header = record.header
    source, target = sorted((change.label for change in changes), key=lambda one: one not in ended)
    body = bodysets.read(txn, header.instance, source, txn.view(header.version))
    assert body is not None
    bodysets.put(txn, record, target, body._replace(last=last_of(record)))
    bodysets.put(txn, record, source, None)
    if body.overridden:
        overrides.move(txn, record, source, target, None)
    surfaces.renumbered(txn, record, target, source)


def _move_overrides(txn: WriteTxn, record: Record, changes: list[Change]) -> set[int]:
    """Let posted counts go with their supervoxels; return the bodies that have got some."""
    header = record.header
    view = txn.view(header.version)
    carried = set()
    for source in changes:
        body = bodysets.read(txn, header.instance, source.label, view) if source.lost else None
        if body is None or not body.overridden:
            continue
        for target in changes:
            svs = np.intersect1d(from_bytes(source.lost), from_bytes(target.gained))
            if len(svs) and overrides.move(txn, record, source.label, target.label, svs):
                carried.add(target.label)
    return carried


def _moves(changes: list[Change]) -> list[tuple[int, int]]:
    """Return from which body to which one supervoxels went."""
    lost = {change.label: from_bytes(change.lost) for change in changes if change.lost}
    return [
        (source, change.label)
        for change in changes
        for source, svs in lost.items()
        if source != change.label and np.isin(from_bytes(change.gained), svs).any()
    ]


def _note_surfaces(txn: WriteTxn, record: Record, changes: list[Change]) -> None:
    """Note which supervoxels came and went, for the marks of blocks in label indices."""
    mutation_id = record.header.mutation_id
    takers = [change.label for change in changes if change.gained]
    for change in changes:
        svs = change.gained or change.lost
        if svs:
            holder = change.label if change.gained else takers[0]
            surfaces.moved(txn, record, change.label, holder, mutation_id, svs)


FOLDS: dict[type[Event], Fold] = {Undone: fold_reversal, Redone: fold_reversal}
