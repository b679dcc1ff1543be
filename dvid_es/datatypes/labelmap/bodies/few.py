"""Merges and cleaves of few supervoxels, decided and folded without making arrays.

Most are of one or two, and then numpy takes longer to begin than all of it takes. What is decided and
what is written is the same as for many (`commands.py`, `fold.py`): these answer None where they cannot
tell, or where something is to be refused, and those go on from the beginning.
"""

import struct
from collections.abc import Sequence

import numpy as np

from dvid_es.commands import Context
from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, counters
from dvid_es.datatypes.labelmap.bodies.bodyrow import Last
from dvid_es.datatypes.labelmap.bodies.events import Cleaved, Merged
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.events import Bulk, Record
from dvid_es.projections import versioned
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, row_suffix

FEW = 16
"""Fewer supervoxels than this are few."""


def merged(context: Context, instance_id: int, target: int, bodies: Sequence[int]) -> Merged | None:
    """Return what merges bodies (ascending and distinct) of few supervoxels into another one."""
    txn, view = context.txn, context.view
    held = versioned.read(txn, bodysets.body_key(instance_id, target), view)
    if held is None:
        return None
    pieces, sizes, voxels, overridden = [], [], 0, []
    for body in bodies:
        value = versioned.read(txn, bodysets.body_key(instance_id, body), view)
        if value is None:
            return None
        size, count, svs, has_overrides = bodyrow.peek(value)
        if not size or svs is None:
            return None
        if has_overrides:
            overridden.append(body)
        pieces.append(svs)
        sizes.append(count)
        voxels += size
    supervoxels = b"".join(pieces)
    moved = _few(supervoxels)
    if moved is None or len(set(moved)) < len(moved) or _inside(txn, instance_id, held, set(moved)):
        return None
    return Merged(
        target=target,
        bodies=bodyrow.pack_labels(bodies),
        sizes=struct.pack(f"<{len(sizes)}I", *sizes),
        supervoxels=supervoxels,
        voxels=voxels,
        overridden=tuple(overridden),
    )


def cleaved(
    context: Context, instance_id: int, label: int, posted: Sequence[int]
) -> Cleaved | None:
    """Return what makes a new body of few supervoxels of another one."""
    txn, view = context.txn, context.view
    asked = set(posted)
    value = versioned.read(txn, bodysets.body_key(instance_id, label), view)
    if value is None or not view.linear:
        return None
    size, count, _, overridden = bodyrow.peek(value)
    if overridden or len(asked) == count or _inside(txn, instance_id, value, asked) != asked:
        return None
    voxels = _voxels_of(txn, instance_id, asked, view)
    new_body, _ = counters.allocate(txn, instance_id)
    return Cleaved(
        body=label,
        new_body=new_body,
        supervoxels=bodyrow.pack_labels(posted),
        ghosts=b"",
        cleaved_voxels=voxels,
        remain_voxels=size - voxels,
    )


def _inside(txn: ReadTxn, instance_id: int, value: bytes, svs: set[int]) -> set[int]:
    """Return those of some supervoxels that a body has, of which this is the row."""
    whole = bodyrow.peek(value)[2]
    if whole is not None:
        return svs.intersection(bodyrow.unpack_labels(whole))
    asked = np.array(sorted(svs), np.uint64)
    body = bodyrow.decode(value)
    return set(asked[bodysets.contains(txn, instance_id, body, asked)].tolist())


def _voxels_of(txn: ReadTxn, instance_id: int, svs: set[int], view: View) -> int:
    keys = [svindex.total_key(instance_id, sv) for sv in svs]
    return sum(int.from_bytes(versioned.read(txn, key, view) or b"", "little") for key in keys)


def move_merged(txn: WriteTxn, record: Record, event: Merged, last: Last) -> bytes | None:
    """Write sets and mapping of a merge; return its supervoxels (u64, ascending)."""
    supervoxels, bodies = _few(event.supervoxels), _few(event.bodies)
    if supervoxels is None or bodies is None or event.overridden:
        return None
    header = record.header
    key = bodysets.body_key(header.instance, event.target)
    target = versioned.read(txn, key, txn.view(header.version))
    assert target is not None
    moved = sorted(supervoxels)
    row = bodyrow.grown(target, moved, event.voxels, last)
    if row is None:
        return None
    suffix = row_suffix(header.version, record.offset)
    txn.put(key + suffix, row)
    for body in bodies:
        txn.put(bodysets.body_key(header.instance, body) + suffix, versioned.TOMBSTONE)
    mapping.put_few(txn, record, [(sv, event.target) for sv in moved])
    return bodyrow.pack_labels(moved)


def move_cleaved(txn: WriteTxn, record: Record, event: Cleaved, last: Last) -> bytes | None:
    """Write sets and mapping of a cleave; return its supervoxels (u64, ascending and distinct)."""
    posted = _few(event.supervoxels)
    if posted is None or event.ghosts:
        return None
    header = record.header
    key = bodysets.body_key(header.instance, event.body)
    body = versioned.read(txn, key, txn.view(header.version))
    assert body is not None
    gone = set(posted)
    left = bodyrow.shrunk(body, gone, event.remain_voxels, last)
    if left is None:
        return None
    moved = sorted(gone)
    suffix = row_suffix(header.version, record.offset)
    txn.put(key + suffix, left)
    made = bodyrow.encode_few(moved, event.cleaved_voxels, last)
    txn.put(bodysets.body_key(header.instance, event.new_body) + suffix, made)
    new = event.new_body
    mapping.put_few(txn, record, sorted([(new, 0), *((sv, new) for sv in moved)]))
    return bodyrow.pack_labels(moved)


def _few(labels: Bulk) -> tuple[int, ...] | None:
    """Return labels (u64) of an event if they are few."""
    if not isinstance(labels, bytes) or len(labels) >= 8 * FEW:
        return None
    return bodyrow.unpack_labels(labels)
