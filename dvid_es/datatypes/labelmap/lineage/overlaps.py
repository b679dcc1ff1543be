"""How many voxels went from which body to which one between two views.

Supervoxels that moved from body to body count with all their voxels; blocks that were written between
the views are compared voxel by voxel.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.lineage.setdiff import difference
from dvid_es.datatypes.labelmap.lineage.touched import Touched
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.events import Bulk
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Places = NDArray[np.int64]

Flows = Counter[tuple[int, int]]
"""Voxels that were in one body (0 for none) and are in another one now."""

_BLOCKS_AT_ONCE = 64


class Pairs(NamedTuple):
    """Voxels of blocks by their supervoxels in both views, each pair once."""

    first: Labels
    second: Labels
    voxels: Places


def flows(txn: ReadTxn, instance_id: int, first: View, second: View, touched: Touched) -> Flows:
    """Return how many voxels changed from one body to another one."""
    pairs = _compare_blocks(txn, instance_id, first, second, touched)
    found: Flows = Counter()
    owners = [
        _owners(txn, instance_id, view, svs)
        for view, svs in ((first, pairs.first), (second, pairs.second))
    ]
    other = owners[0] != owners[1]
    for source, target, voxels in zip(
        owners[0][other].tolist(), owners[1][other].tolist(), pairs.voxels[other].tolist(),
        strict=True,
    ):  # fmt: skip
        found[source, target] += voxels
    _add_moved(txn, instance_id, first, second, touched.bodies, pairs, found)
    return found


def _add_moved(
    txn: ReadTxn,
    instance_id: int,
    first: View,
    second: View,
    bodies: Labels,
    pairs: Pairs,
    found: Flows,
) -> None:
    """Add the voxels of moved supervoxels that lie in blocks that were not compared."""
    lost, gained = _moved(txn, instance_id, first, second, bodies)
    for svs, view, compared, other, forward in (
        (lost, first, pairs.first, gained, True),
        ({sv: body for sv, body in gained.items() if sv not in lost}, second, pairs.second, lost, False),
    ):  # fmt: skip
        labels = np.array(sorted(svs), np.uint64)
        outside = svindex.voxels_of(txn, instance_id, labels, view).astype(np.int64)
        order = np.argsort(compared, kind="stable")
        ends = [np.searchsorted(compared[order], labels, side=side) for side in ("left", "right")]
        sums = np.append(0, np.cumsum(pairs.voxels[order]))
        outside -= sums[ends[1]] - sums[ends[0]]
        for sv, voxels in zip(labels.tolist(), outside.tolist(), strict=True):
            if voxels > 0:
                here, there = svs[sv], other.get(sv, 0)
                found[(here, there) if forward else (there, here)] += voxels


def _moved(
    txn: ReadTxn, instance_id: int, first: View, second: View, bodies: Labels
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the body that each supervoxel has left, and the one that it has come into."""
    lost: dict[int, int] = {}
    gained: dict[int, int] = {}
    rows = [bodysets.read_values(txn, instance_id, bodies, view) for view in (first, second)]
    for label, one, two in zip(bodies.tolist(), *rows, strict=True):
        if one != two:
            states = [None if value is None else bodyrow.decode(value) for value in (one, two)]
            left, came = difference(txn, instance_id, *states)
            lost.update(dict.fromkeys(left.tolist(), label))
            gained.update(dict.fromkeys(came.tolist(), label))
    return lost, gained


def _compare_blocks(
    txn: ReadTxn, instance_id: int, first: View, second: View, touched: Touched
) -> Pairs:
    parts: list[Pairs] = []
    for start in range(0, len(touched.coords_zyx), _BLOCKS_AT_ONCE):
        coords = touched.coords_zyx[start : start + _BLOCKS_AT_ONCE]
        both = [blocks.find_list(txn, instance_id, 0, coords, view) for view in (first, second)]
        for one, two in zip(*both, strict=True):
            if one != two:
                parts.append(_compare(txn, one, two))
    if not parts:
        none = np.empty(0, np.uint64)
        return Pairs(none, none, np.empty(0, np.int64))
    one, two, voxels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    distinct, places = np.unique(np.stack([one, two]), axis=1, return_inverse=True)
    sums = np.bincount(places.reshape(-1), voxels).astype(np.int64)
    return Pairs(distinct[0], distinct[1], sums)


def _compare(txn: ReadTxn, first: Bulk | None, second: Bulk | None) -> Pairs:
    """Return how many voxels of a block have which two labels."""
    volumes = [
        None if stored is None else labelblock.decode(storedblock.load(txn.bulk(stored)))
        for stored in (first, second)
    ]
    shape = next(volume.shape for volume in volumes if volume is not None)
    one, two = (
        np.zeros(shape, np.uint64) if volume is None else volume.reshape(shape)
        for volume in volumes
    )
    labels, places = zip(
        *(np.unique(part, return_inverse=True) for part in (one, two)), strict=True
    )
    width = len(labels[1])
    counts = np.bincount(places[0].reshape(-1) * width + places[1].reshape(-1))
    there = np.flatnonzero(counts)
    return Pairs(labels[0][there // width], labels[1][there % width], counts[there])


def _owners(txn: ReadTxn, instance_id: int, view: View, svs: Labels) -> Labels:
    """Return the bodies whose sets have supervoxels, 0 for none: uint64[n]."""
    if not len(svs):
        return svs
    distinct, places = np.unique(svs, return_inverse=True)
    out = mapping.Mapping.at(txn, instance_id, view).map(distinct)
    bodies = np.unique(out[out != 0])
    values = bodysets.read_values(txn, instance_id, bodies, view)
    known = {
        label: bodyrow.decode(value)
        for label, value in zip(bodies.tolist(), values, strict=True)
        if value is not None
    }
    for label in [0, *bodies.tolist()]:
        own = np.flatnonzero(out == np.uint64(label))
        body = known.get(label, Body())
        strays = own[~bodysets.contains(txn, instance_id, body, distinct[own])]
        for place in strays.tolist():
            out[place] = _stray_owner(txn, instance_id, view, int(distinct[place]))
    return out[places]


def _stray_owner(txn: ReadTxn, instance_id: int, view: View, sv: int) -> int:
    """Return the body of a supervoxel that maps to another one, as after a posted mapping."""
    if sv == 0:
        return 0
    one: Labels = np.array([sv], np.uint64)
    for label in mapping.earlier_bodies(txn, instance_id, view, sv):
        body = bodysets.read(txn, instance_id, label, view)
        if body is not None and bodysets.contains(txn, instance_id, body, one)[0]:
            return label
    return 0
