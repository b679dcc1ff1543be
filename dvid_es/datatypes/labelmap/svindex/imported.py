"""Posted indices in the supervoxel index.

An import that ingests voxels without indexing them says by its indices where the supervoxels are.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.temporal import big_endian, make_keys, put_many
from dvid_es.projections.txn import WriteTxn

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
Counts = NDArray[np.uint32]

_INSIDE = (1 << svindex.REGION_BITS) - 1


def write(txn: WriteTxn, record: Record, svs: Labels, coords_zyx: Coords, counts: Counts) -> None:
    """Write where supervoxels are that the index does not know yet.

    Args:
        txn: the state being changed.
        record: the event.
        svs: uint64[n], a row for each pair of supervoxel and block, in any order.
        coords_zyx: int32[n, 3].
        counts: uint32[n], above 0.
    """
    if not len(svs):
        return
    header = record.header
    regions = coords_zyx >> svindex.REGION_BITS
    inside = (coords_zyx & _INSIDE).astype(np.uint16)
    local = inside[:, 0] << 8 | inside[:, 1] << 4 | inside[:, 2]
    order = np.lexsort((local, regions[:, 2], regions[:, 1], regions[:, 0], svs))
    svs, regions, local = svs[order], regions[order], local[order].astype("<u2")
    counts = counts[order].astype("<u4")
    first = np.ones(len(svs), bool)
    first[1:] = (svs[1:] != svs[:-1]) | (regions[1:] != regions[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    keys = make_keys(
        header.instance, svindex.REGIONS, _sv_bytes(svs[starts]), big_endian(regions[starts])
    )
    bounds = [*starts.tolist(), len(svs)]
    places, voxels = local.tobytes(), counts.tobytes()
    values = [places[2 * a : 2 * b] + voxels[4 * a : 4 * b] for a, b in pairwise(bounds)]
    put_many(txn, keys, values, header.version, record.offset)
    owners = np.flatnonzero(np.append(True, svs[1:] != svs[:-1]))
    totals = np.add.reduceat(counts.astype(np.uint64), owners).astype("<u8").tobytes()
    total_keys = make_keys(header.instance, svindex.TOTALS, _sv_bytes(svs[owners]))
    total_values = [totals[at : at + 8] for at in range(0, len(totals), 8)]
    put_many(txn, total_keys, total_values, header.version, record.offset)


def replace(txn: WriteTxn, record: Record, sv: int, coords_zyx: Coords, counts: Counts) -> None:
    """Make these all of the blocks of one supervoxel that the index knows already."""
    header = record.header
    before, _ = svindex.read_blocks(txn, header.instance, sv, txn.view(header.version))
    regions = np.unique(before >> svindex.REGION_BITS, axis=0)
    kept = {tuple(region) for region in (coords_zyx >> svindex.REGION_BITS).tolist()}
    gone = [region for region in regions.tolist() if tuple(region) not in kept]
    if gone:
        columns = big_endian(np.array(gone, np.int32))
        labels = np.full(len(gone), sv, np.uint64)
        keys = make_keys(header.instance, svindex.REGIONS, _sv_bytes(labels), columns)
        tombstones = [versioned.TOMBSTONE] * len(keys)
        put_many(txn, keys, tombstones, header.version, record.offset)
    write(txn, record, np.full(len(counts), sv, np.uint64), coords_zyx, counts)


def _sv_bytes(svs: Labels) -> NDArray[np.uint8]:
    return np.ascontiguousarray(svs, ">u8").view(np.uint8).reshape(len(svs), 8)
