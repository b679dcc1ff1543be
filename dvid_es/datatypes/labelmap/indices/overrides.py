"""Counts that a posted index gives to a supervoxel of a body in place of those of the voxels.

Rare: a posted index usually says what the supervoxel index says, or fills it. But a client may post
one supervoxel into two bodies, with different counts, and gets back what it posted. A row belongs to
(body, supervoxel), moves with the supervoxel, and ends with the next write to its voxels.
"""

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import make_keys, put_many, read_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

OVERRIDES = 88
"""Kind of the rows."""

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
Counts = NDArray[np.uint32]


def read(txn: ReadTxn, instance_id: int, body: int, view: View) -> dict[int, tuple[Coords, Counts]]:
    """Return blocks int32[n, 3] (ZYX) and counts uint32[n] of the overridden supervoxels of a body."""
    prefix = instance_key(instance_id, OVERRIDES) + body.to_bytes(8, "big")
    return {
        int.from_bytes(key[13:], "big"): _unpack(value)
        for key, value in versioned.scan(txn, prefix, prefix + b"\xff" * 9, view)
    }


def put(
    txn: WriteTxn, record: Record, body: int, sv: int, coords_zyx: Coords, counts: Counts
) -> None:
    """Override the counts of one supervoxel in one body."""
    key = _keys(record, body, np.array([sv], np.uint64))[0]
    value = len(counts).to_bytes(4, "little") + coords_zyx.astype("<i4").tobytes()
    value += counts.astype("<u4").tobytes()
    versioned.put(txn, key, record.header.version, record.offset, value)


def clear(txn: WriteTxn, record: Record, body: int) -> None:
    """End all overrides of a body."""
    header = record.header
    found = read(txn, header.instance, body, txn.view(header.version))
    if found:
        keys = _keys(record, body, np.array(sorted(found), np.uint64))
        _end(txn, record, keys)


def move(txn: WriteTxn, record: Record, source: int, target: int, svs: Labels | None) -> bool:
    """Give the overrides of `svs` (None: of all) of one body to another one; say if there were any."""
    header = record.header
    found = read(txn, header.instance, source, txn.view(header.version))
    wanted = found.keys() if svs is None else found.keys() & set(svs.tolist())
    for sv in sorted(wanted):
        put(txn, record, target, sv, *found[sv])
    if wanted:
        _end(txn, record, _keys(record, source, np.array(sorted(wanted), np.uint64)))
    return bool(wanted)


def end(txn: WriteTxn, record: Record, body: int, svs: Labels, voxels: Labels) -> int:
    """End the overrides of supervoxels that are written to.

    Args:
        txn: the state being changed.
        record: the event.
        body: whose overrides.
        svs: uint64[n], ascending.
        voxels: uint64[n]: voxels of each by the supervoxel index, before this write.

    Returns:
        How many voxels the body gains by counting those in place of the overrides.
    """
    header = record.header
    keys = _keys(record, body, svs)
    values = read_many(txn, keys, txn.view(header.version))
    gained = 0
    ended = []
    for key, value, there in zip(keys, values, voxels.tolist(), strict=True):
        if value is not None:
            gained += there - int(_unpack(value)[1].sum(dtype=np.uint64))
            ended.append(key)
    _end(txn, record, ended)
    return gained


def _end(txn: WriteTxn, record: Record, keys: list[bytes]) -> None:
    tombstones = [versioned.TOMBSTONE] * len(keys)
    put_many(txn, keys, tombstones, record.header.version, record.offset)


def _keys(record: Record, body: int, svs: Labels) -> list[bytes]:
    n = len(svs)
    bodies = np.full(n, body, ">u8").view(np.uint8).reshape(n, 8)
    columns = np.ascontiguousarray(svs, ">u8").view(np.uint8).reshape(n, 8)
    return make_keys(record.header.instance, OVERRIDES, bodies, columns)


def _unpack(value: bytes) -> tuple[Coords, Counts]:
    n = int.from_bytes(value[:4], "little")
    coords = np.frombuffer(value, "<i4", 3 * n, 4).astype(np.int32).reshape(-1, 3)
    return coords, np.frombuffer(value, "<u4", n, 4 + 12 * n).astype(np.uint32)
