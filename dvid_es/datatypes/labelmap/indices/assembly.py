"""DVID's label index of a body: assembled when asked for, taken apart when posted."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import izyx, labelindex
from dvid_es.codecs.labelindex import LabelIndex
from dvid_es.datatypes.labelmap.bodies import bodysets, counters, surfaces
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body, Last
from dvid_es.datatypes.labelmap.bodies.labelsets import member, without
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.indices.cache import CACHE, last_change, note_change
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import imported, posted_counts
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.events import Record
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
Counts = NDArray[np.uint32]


class Rows(NamedTuple):
    """Where supervoxels are: one row for each pair of supervoxel and block, in any order."""

    svs: Labels
    coords_zyx: Coords
    counts: Counts


# -- reading ---------------------------------------------------------------------------------


def rows_of(
    txn: ReadTxn,
    instance_id: int,
    label: int,
    body: Body,
    svs: Labels,
    view: View,
    used: dict[int, int] | None = None,
) -> Rows:
    """Return the blocks of some supervoxels (uint64[n], ascending) of a body.

    `used` is that of `svindex.read_many_blocks`.
    """
    posted = overrides.read(txn, instance_id, label, view) if body.overridden else {}
    posted = {sv: rows for sv, rows in posted.items() if member(np.array([sv], np.uint64), svs)[0]}
    indexed = svs
    if posted:
        indexed = svs[~member(svs, np.array(sorted(posted), np.uint64))]
    starts, coords, counts = svindex.read_many_blocks(txn, instance_id, indexed, view, used)
    owners = np.repeat(indexed, np.diff(starts))
    if not posted:
        return Rows(owners, coords, counts)
    return Rows(
        np.concatenate(
            [owners, *(np.full(len(n), sv, np.uint64) for sv, (_, n) in posted.items())]
        ),
        np.concatenate([coords, *(places for places, _ in posted.values())]),
        np.concatenate([counts, *(n for _, n in posted.values())]),
    )


def voxels_of(
    txn: ReadTxn, instance_id: int, label: int, body: Body, svs: Labels, view: View
) -> Labels:
    """Return the voxels uint64[n] of supervoxels uint64[n] of a body."""
    voxels = svindex.voxels_of(txn, instance_id, svs, view)
    if body.overridden:
        places = {int(sv): place for place, sv in enumerate(svs)}
        for sv, (_, counts) in overrides.read(txn, instance_id, label, view).items():
            if sv in places:
                voxels[places[sv]] = counts.sum(dtype=np.uint64)
    return voxels


def encoded(txn: ReadTxn, instance_id: int, label: int, view: View) -> bytes | None:
    """Return the LabelIndex message of a body, or None if there is no such body."""
    key = CACHE.key(txn, instance_id, label, view)
    found = None if key is None else CACHE.get(key)
    if found is not None:
        return found
    index = assemble(txn, instance_id, label, view)
    if index is None:
        return None
    message = labelindex.encode(index)
    packs = getattr(txn, "packs", None)
    if key is not None and packs is not None:
        CACHE.put(key, packs, message)
    return message


def assemble(txn: ReadTxn, instance_id: int, label: int, view: View) -> LabelIndex | None:
    """Return the index of a body, or None if there is no such body."""
    body = bodysets.read(txn, instance_id, label, view)
    if body is None:
        return None
    svs = bodysets.supervoxels(txn, instance_id, body)
    used: dict[int, int] = {}
    rows = rows_of(txn, instance_id, label, body, svs, view, used)

    changed = last_change(txn, instance_id)

    def blocks_of(holder: int, moved: Labels, then: View) -> Coords:
        left = moved
        here = np.empty((0, 3), np.int32)
        if then.sequence >= changed:
            # Nothing has moved in space since, so what the body has still lies where it lay.
            here = rows.coords_zyx[member(rows.svs, moved)]
            left = without(moved, svs)
        if len(left):
            state = bodysets.read(txn, instance_id, holder, then) or Body()
            away = rows_of(txn, instance_id, holder, state, left, then).coords_zyx
            here = np.concatenate([here, away])
        return here

    keys = izyx.pack_keys(rows.coords_zyx)
    mutids = None
    if surfaces.is_known(txn, instance_id, label):
        marked, ids = surfaces.marks(txn, instance_id, label, view, blocks_of)
        mutids = np.zeros(len(keys), np.uint64)
        if len(marked):
            places = np.searchsorted(marked, keys)
            places[places == len(marked)] = 0
            hit = marked[places] == keys
            mutids[hit] = ids[places[hit]]
    last = body.last
    return labelindex.from_rows(
        label,
        keys,
        rows.svs,
        rows.counts,
        mutids,
        last_mutid=last.mutation_id,
        last_mod_time=last.time,
        last_mod_user=last.user,
        last_mod_app=last.app,
    )


# -- posting ---------------------------------------------------------------------------------


def store(txn: WriteTxn, record: Record, message: bytes) -> bytes:
    """Fold a LabelIndices message, one body after the other; return the bodies, u64[n]."""
    found = labelindex.decode_all(message)
    posted_counts.mark(txn, record.header.instance)
    note_change(txn, record)
    fresh = _import_fresh(txn, record, found)
    highest = 0
    for index in found:
        if len(index.blocks):
            highest = max(highest, index.label)
            _store_one(txn, record, index, fresh)
        else:
            bodysets.put(txn, record, index.label, None)
            overrides.clear(txn, record, index.label)
            surfaces.forget(txn, record, index.label)
    if highest:
        header = record.header
        counters.raise_max(txn, header.instance, header.version, highest, record.offset)
    return np.unique(np.array([index.label for index in found], "<u8")).tobytes()


def rows_in(index: LabelIndex) -> Rows:
    """Return the rows of an index, those without voxels left out."""
    there = index.counts > 0
    coords = izyx.unpack_keys(index.row_blocks[there])
    return Rows(index.supervoxels[there], coords, index.counts[there])


def _import_fresh(txn: WriteTxn, record: Record, found: list[LabelIndex]) -> Labels:
    """Write the supervoxels that nothing was known of, all at once; return them, ascending.

    This is all of them in an import. One that comes in two indices is left for one by one.
    """
    header = record.header
    parts = [rows_in(index) for index in found if len(index.blocks)]
    if not parts:
        return np.empty(0, np.uint64)
    distinct = [np.unique(rows.svs) for rows in parts]
    svs, times = np.unique(np.concatenate(distinct), return_counts=True)
    svs = svs[times == 1]
    view = txn.view(header.version)
    svs = svs[svindex.voxels_of(txn, header.instance, svs, view) == 0]
    rows = Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    kept = member(rows.svs, svs)
    imported.write(txn, record, rows.svs[kept], rows.coords_zyx[kept], rows.counts[kept])
    return svs


def _store_one(txn: WriteTxn, record: Record, index: LabelIndex, fresh: Labels) -> None:
    rows = rows_in(index)
    svs = np.unique(rows.svs)
    overrides.clear(txn, record, index.label)
    overridden = False
    for sv in svs[~member(svs, fresh)].tolist():
        of_sv = rows.svs == np.uint64(sv)
        overridden |= _settle(
            txn, record, index.label, sv, rows.coords_zyx[of_sv], rows.counts[of_sv]
        )
    last = Last(index.last_mutid, index.last_mod_time, index.last_mod_user, index.last_mod_app)
    body = bodysets.with_added(txn, record, index.label, Body(last=last), svs)
    body = body._replace(voxels=int(rows.counts.sum(dtype=np.uint64)), overridden=overridden)
    bodysets.put(txn, record, index.label, body)
    surfaces.reset(txn, record, index.label, index.blocks, index.surface_mutids)


def _settle(
    txn: WriteTxn, record: Record, label: int, sv: int, coords_zyx: Coords, counts: Counts
) -> bool:
    """Make posted counts of one known supervoxel count in a body; return whether by an override."""
    header = record.header
    view = txn.view(header.version)
    order = np.lexsort((coords_zyx[:, 2], coords_zyx[:, 1], coords_zyx[:, 0]))
    coords_zyx, counts = coords_zyx[order], counts[order]
    places, voxels = svindex.read_blocks(txn, header.instance, sv, view)
    if np.array_equal(places, coords_zyx) and np.array_equal(voxels, counts):
        return False
    one = np.array([sv], np.uint64)
    for other in {*mapping.earlier_bodies(txn, header.instance, view, sv)} - {label}:
        body = bodysets.read(txn, header.instance, other, view)
        if body is not None and bodysets.contains(txn, header.instance, body, one)[0]:
            overrides.put(txn, record, label, sv, coords_zyx, counts)
            return True
    imported.replace(txn, record, sv, coords_zyx, counts)
    return False
