"""Rows of the supervoxel index of many supervoxels, chosen without work per row in Python.

A large body has thousands of supervoxels with a row or two each: what costs is not the rows but
looking at them one by one. So all of them are fetched, and arrays say which ones a view sees.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import UNBOUNDED, View

# Keys: instance, kind, supervoxel, region; then the suffix of temporal keys.
_KEY = np.dtype([("place", "S25"), ("version", ">u4"), ("sequence", ">u8")])
_REGION = np.dtype([("before", "S13"), ("region", ">u4", 3), ("suffix", "S12")])


class RegionRows(NamedTuple):
    """The rows that a view sees, in the order of the supervoxels asked for."""

    counts: NDArray[np.int64]
    """int64[m]: number of rows of each supervoxel."""

    regions: NDArray[np.int64]
    """int64[n, 3]: the region of each row as it is in the key, ZYX, offset-binary."""

    values: list[bytes]

    decisive: dict[int, int]
    """The highest sequence of each version whose rows, tombstones too, were seen."""


def read(txn: ReadTxn, starts: Sequence[bytes], view: View) -> RegionRows:
    """Return the rows whose keys begin with `starts`, each a supervoxel, in a linear view."""
    assert view.linear, "below a version merge rows are merged"
    rows, sizes = txn.under(starts)
    data = b"".join([key for key, _ in rows])
    keys = np.frombuffer(data, _KEY)
    versions = 0xFFFFFFFF - keys["version"].astype(np.int64)
    sequences = np.uint64(UNBOUNDED) - keys["sequence"].astype(np.uint64)
    visible = np.zeros(len(rows), bool)
    for version in np.unique(versions).tolist():
        bound = view.bounds.get(version, -1)
        if bound >= 0:
            visible |= (versions == version) & (sequences <= np.uint64(bound))
    # Rows of one place lie together, the newest first: the first that is visible counts.
    seen = np.flatnonzero(visible)
    places = keys["place"][seen]
    first = np.ones(len(seen), bool)
    first[1:] = places[1:] != places[:-1]
    seen = seen[first]
    decisive = {
        version: int(sequences[seen][versions[seen] == version].max())
        for version in np.unique(versions[seen]).tolist()
    }
    chosen = [place for place in seen.tolist() if rows[place][1]]
    owners = np.repeat(np.arange(len(starts)), sizes)[chosen]
    return RegionRows(
        np.bincount(owners, minlength=len(starts)),
        np.frombuffer(data, _REGION)["region"][chosen].astype(np.int64),
        [rows[place][1] for place in chosen],
        decisive,
    )
