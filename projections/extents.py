"""Extents: the box of voxels that a version has or claims; one temporal row of each instance.

The row holds first x, y, z, last x, y, z as i32, little endian.
"""

import struct

from dvid_es.errors import VersionConflict
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

_BOX = struct.Struct("<6i")

Extents = tuple[int, ...]
"""First x, y, z and last x, y, z, both inclusive; DVID's MinPoint and MaxPoint."""


def read(txn: ReadTxn, kind: int, instance: Instance, view: View) -> Extents | None:
    """Return the extents that a view sees: those stored, else those of the settings, else None.

    Where the parents of a version merge differ, the box around all of them: extents only ever say
    where voxels may be.
    """
    key = instance_key(instance.id, kind)
    try:
        value = versioned.read(txn, key, view)
    except VersionConflict:
        merged: Extents = ()
        for parent in view.parents[view.version]:
            merged = union(merged, read(txn, kind, instance, txn.view(parent)) or ())
        return merged
    if value is not None:
        return _BOX.unpack(value)
    low, high = instance.settings.get("MinPoint"), instance.settings.get("MaxPoint")
    return (*low, *high) if low and high else None


def shown(txn: ReadTxn, kind: int, instance: Instance, view: View) -> Extents | None:
    """Return the extents that a view sees, or those of all branches where it sees none.

    Clients ask a repository, or whatever version, where the voxels of an instance are. Source: the
    properties of datatype/imageblk (janelia-flyem/dvid), which have one box for all versions.
    """
    found = read(txn, kind, instance, view)
    if found is not None:
        return found
    box: Extents = ()
    for version, children in txn.repo.graph.children.items():
        if not children:
            box = union(box, read(txn, kind, instance, txn.view(version)) or ())
    return box or None


def union(a: Extents, b: Extents) -> Extents:
    """Return the box around two boxes; () is none."""
    if not a or not b:
        return a or b
    low = (min(p, q) for p, q in zip(a[:3], b[:3], strict=True))
    high = (max(p, q) for p, q in zip(a[3:], b[3:], strict=True))
    return (*low, *high)


def put(txn: WriteTxn, kind: int, record: Record, extents: Extents) -> None:
    """Set the extents at the version of an event."""
    header = record.header
    key = instance_key(header.instance, kind)
    versioned.put(txn, key, header.version, record.offset, _BOX.pack(*extents))


def grow(txn: WriteTxn, kind: int, record: Record, extents: Extents) -> None:
    """Let the extents at the version of an event hold one more box."""
    header = record.header
    instance = txn.repo.instances[header.instance]
    before = read(txn, kind, instance, txn.view(header.version))
    after = union(before or (), extents)
    if after != before:
        put(txn, kind, record, after)
