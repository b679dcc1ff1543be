"""The whole mapping at once: all entries that a version sees, and how many there are in all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.mapping import kernels
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL, open_runs
from dvid_es.errors import VersionConflict
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View, split_suffix

Labels = NDArray[np.uint64]
Found = NDArray[np.bool_]


def all_entries(txn: ReadTxn, instance_id: int, view: View) -> tuple[Labels, Labels]:
    """Return all entries that a view sees, supervoxels ascending: uint64[n] and uint64[n]."""
    svs, bodies = _newest_entries(txn, instance_id, view)
    there = bodies != np.uint64(mapping.UNSET)
    return (svs, bodies) if there.all() else (svs[there], bodies[there])


def _newest_entries(txn: ReadTxn, instance_id: int, view: View) -> tuple[Labels, Labels]:
    prefix = instance_key(instance_id, mapping.ENTRIES)
    svs, bodies, stamps = [], [], []
    done = b""
    for key, value in txn.scan(prefix, prefix + b"\xff" * 9):
        version, sequence = split_suffix(key)
        if key[:13] != done and sequence <= view.bounds.get(version, -1):
            if view.linear:
                done = key[:13]  # the newest; below a version merge all of them are looked at
            svs.append(key[5:13])
            bodies.append(value)
            stamps.append(version << kernels.SEQUENCE_BITS | sequence)
    columns = [
        (
            np.frombuffer(b"".join(svs), ">u8").astype(np.uint64),
            np.frombuffer(b"".join(bodies), "<u8").astype(np.uint64),
            np.array(stamps, np.uint64),
        )
    ]
    for run in open_runs(txn, instance_id, view):
        columns.append((run.svs, run.bodies, np.full(run.entries, run.stamp, np.uint64)))
    columns = [column for column in columns if len(column[0])] or columns[:1]
    if len(columns) < 2 and (view.linear or not svs):
        return columns[0][:2]
    all_svs, all_bodies, all_stamps = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    order = np.lexsort((all_stamps, all_svs))
    all_svs, all_bodies, all_stamps = all_svs[order], all_bodies[order], all_stamps[order]
    last = np.append(all_svs[1:] != all_svs[:-1], True)
    if not view.linear:
        _settle(all_svs, all_bodies, all_stamps, last, view)
    return all_svs[last], all_bodies[last]


def statistics(txn: ReadTxn, instance_id: int) -> dict[str, Any]:
    """Return how many entries the mapping has, all versions together, as DVID's map-stats.

    Source: GetMapStats in datatype/labelmap/vmap.go (janelia-flyem/dvid).
    """
    prefix = instance_key(instance_id, JOURNAL)
    entries, size = 0, 0
    versions = set()
    for _, value in txn.scan(prefix, prefix + b"\xff" * 9):
        entries += (len(value) - 4) // 16
        size += len(value)
        versions.add(int.from_bytes(value[:4], "big"))
    prefix = instance_key(instance_id, mapruns.RUNS)
    for key, value in txn.scan(prefix, prefix + b"\xff" * 15):
        run = mapruns.open_run(*split_suffix(key), txn.bulk(mapruns.reference(value)))
        entries += run.entries
        size += len(run.data)
        versions.add(split_suffix(key)[0])
    return {
        "MapEntries": entries,
        "MapSize": _humanised(size),
        "NumVersions": len(versions),
        "MaxVersion": max(versions, default=0),
    }


def _humanised(size: int) -> str:
    """Return a number of bytes as people read it, in powers of 1000."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if amount < 10 and unit != "B" else f"{amount:.0f} {unit}"


def _settle(svs: Labels, bodies: Labels, stamps: Labels, last: Found, view: View) -> None:
    """Put the nearest body of each supervoxel into its last entry: the newest need not be it.

    A supervoxel that parents of a version merge disagree about is left out.
    """
    starts = np.append(0, np.flatnonzero(last)[:-1] + 1)
    mask = (1 << kernels.SEQUENCE_BITS) - 1
    for start, stop in zip(starts.tolist(), np.flatnonzero(last).tolist(), strict=True):
        if stop > start:
            candidates = [
                (int(stamps[at]) >> kernels.SEQUENCE_BITS, int(stamps[at]) & mask, int(bodies[at]))
                for at in range(start, stop + 1)
            ]
            try:
                bodies[stop] = mapping.choose(candidates, view)
            except VersionConflict:
                last[stop] = False
