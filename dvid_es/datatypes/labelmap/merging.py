"""What the parents of a version merge disagree about: blocks, bodies, entries of the mapping."""

from collections.abc import Iterator

from dvid_es.datatypes.labelmap.bodies import bodysets
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import SUFFIX_BYTES
from dvid_es.versions import View, split_suffix

_SIGN = 1 << 31


def conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[str]:
    """Iterate over the blocks, bodies and supervoxels that a version merge cannot decide about.

    A body that one parent has removed and another one has changed is one of them: its supervoxels
    would be in two bodies.
    """
    if view.linear:
        return
    # Lower scales are made again from what the parents agree about: see blocks.py.
    prefix = instance_key(instance.id, blocks.BLOCKS)
    for conflict in versioned.conflicts(txn, prefix + b"\0", prefix + b"\1", view):
        z, y, x = _coordinates(conflict.key[6:])
        yield f"block {x},{y},{z}"
    for label in _bodies(txn, instance, view):
        yield f"body {label}"
    start = instance_key(instance.id, mapping.ENTRIES)
    for conflict in versioned.conflicts(txn, start, start + b"\xff" * 9, view):
        yield f"mapping of supervoxel {int.from_bytes(conflict.key[5:], 'big')}"


def _bodies(txn: ReadTxn, instance: Instance, view: View) -> Iterator[int]:
    prefix = instance_key(instance.id, bodysets.BODIES)
    key, rows = b"", list[tuple[int, int, bytes]]()
    for row, value in txn.scan(prefix, prefix + b"\xff" * 9):
        if row[:-SUFFIX_BYTES] != key:
            if _disagree(rows, view):
                yield int.from_bytes(key[5:], "big")
            key, rows = row[:-SUFFIX_BYTES], []
        version, sequence = split_suffix(row)
        if sequence <= view.bounds.get(version, -1) and not (rows and rows[-1][0] == version):
            rows.append((version, sequence, value))
    if _disagree(rows, view):
        yield int.from_bytes(key[5:], "big")


def _disagree(rows: list[tuple[int, int, bytes]], view: View) -> bool:
    if len(rows) < 2:
        return False
    places = view.nearest([(version, sequence) for version, sequence, _ in rows])
    return len({rows[place][2] for place in places}) > 1


def _coordinates(key: bytes) -> list[int]:
    return [int.from_bytes(key[at : at + 4], "big") - _SIGN for at in (0, 4, 8)]
