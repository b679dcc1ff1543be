"""By which mutation the surface of a body changed last in each of its blocks (`surface_mutid`).

A row says which supervoxels a mutation brought into a body or took out of it; the marks of blocks are
derived from the rows when an index is asked for, from where those supervoxels were at that time.

Source: Index.MergeIndex and Index.Cleave in datatype/common/labels/index.go (janelia-flyem/dvid).
"""

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import izyx
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, split_suffix

MOVES = 85
"""Kind of the rows."""

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
BlocksOf = Callable[[int, Labels, View], Coords]
"""Blocks int32[n, 3] of supervoxels (of a body, uint64[n], in a view), repeats allowed."""

_MOVED = 1
_RESET = 2
_RENUMBERED = 3
_MOVE = struct.Struct("<BQQ")
_FROM = struct.Struct("<BQ")


def moved(
    txn: WriteTxn, record: Record, body: int, holder: int, mutation_id: int, svs: bytes
) -> None:
    """Note that `svs` (u64) came into `body` or left it; now they are in `holder`."""
    _put(txn, record, body, _MOVE.pack(_MOVED, holder, mutation_id) + svs)


def renumbered(txn: WriteTxn, record: Record, body: int, old: int) -> None:
    """Note that `body` is what was `old` before: the surfaces did not change."""
    _put(txn, record, body, _FROM.pack(_RENUMBERED, old))


def reset(txn: WriteTxn, record: Record, body: int, block_keys: Labels, marks: Labels) -> None:
    """Set all marks of a body: uint64[n] packed block keys, uint64[n] mutation ids."""
    kept = marks != 0
    if kept.any() or is_known(txn, record.header.instance, body):
        data = block_keys[kept].tobytes() + marks[kept].tobytes()
        _put(txn, record, body, bytes((_RESET,)) + data)


def forget(txn: WriteTxn, record: Record, body: int) -> None:
    """Note that a body begins anew: marks of an earlier one of that label are not its own."""
    none = np.empty(0, np.uint64)
    reset(txn, record, body, none, none)


def is_known(txn: ReadTxn, instance_id: int, body: int | None = None) -> bool:
    """Say whether there is any row of a body, or of any body at all."""
    prefix = instance_key(instance_id, MOVES)
    if body is not None:
        prefix += body.to_bytes(8, "big")
    pair = txn.seek(prefix)
    return pair is not None and pair[0].startswith(prefix)


def marks(
    txn: ReadTxn, instance_id: int, body: int, view: View, blocks_of: BlocksOf
) -> tuple[Labels, Labels]:
    """Return marked blocks, uint64[n] packed keys ascending, and their mutation ids uint64[n]."""
    keys: list[Labels] = []
    ids: list[Labels] = []
    waiting: int | None = body
    while waiting is not None:
        label, waiting = waiting, None
        prefix = instance_key(instance_id, MOVES) + label.to_bytes(8, "big")
        for version, sequence, value in _visible(txn, prefix, view):
            if value[0] == _MOVED:
                _, holder, mutation_id = _MOVE.unpack_from(value)
                svs = np.frombuffer(value[_MOVE.size :], "<u8").astype(np.uint64)
                coords = blocks_of(holder, svs, txn.view(version).at(sequence))
                keys.append(np.unique(izyx.pack_keys(coords)))
                ids.append(np.full(len(keys[-1]), mutation_id, np.uint64))
                continue
            if value[0] == _RESET:
                n = (len(value) - 1) // 16
                keys.append(np.frombuffer(value, "<u8", n, 1).astype(np.uint64))
                ids.append(np.frombuffer(value, "<u8", n, 1 + 8 * n).astype(np.uint64))
                break
            waiting = _FROM.unpack_from(value)[1]
            view = _before(txn.view(version), sequence)
            break
    if not keys:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    # The newest come first, and np.unique keeps the first of equals.
    found, first = np.unique(np.concatenate(keys), return_index=True)
    return found, np.concatenate(ids)[first]


def _visible(txn: ReadTxn, prefix: bytes, view: View) -> list[tuple[int, int, bytes]]:
    """Return version, sequence and value of the rows that a view sees, the newest first."""
    found = []
    for key, value in txn.scan(prefix, prefix + b"\xff" * (versioned.SUFFIX_BYTES + 1)):
        version, sequence = split_suffix(key)
        if sequence <= view.bounds.get(version, -1):
            found.append((version, sequence, value))
    return sorted(found, reverse=True)


def _before(view: View, sequence: int) -> View:
    return view.at(sequence - 1)


def _put(txn: WriteTxn, record: Record, body: int, value: bytes) -> None:
    header = record.header
    key = instance_key(header.instance, MOVES) + body.to_bytes(8, "big")
    versioned.put(txn, key, header.version, record.offset, value)
