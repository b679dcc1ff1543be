"""What edits of labels say in their bodies, checked, and the blocks that they are about."""

from typing import NamedTuple

import numpy as np

from dvid_es.codecs import rle
from dvid_es.datatypes.labelarray import edits
from dvid_es.datatypes.labelarray.edits import Coords, Found, Labels
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Triple
from dvid_es.http.node import NodeRequest
from dvid_es.http.wire import parse_labels, parse_unsigned

VOXELS_MAX = 1 << 29
"""Runs of a split may cover so many voxels, or as many as the label has."""

BLOCKS_MAX = 1 << 22
"""Most blocks that coarse runs may name within the reach of a label."""


class Runs(NamedTuple):
    """The runs of a request."""

    posted: bytes
    ordered: rle.Runs
    """Distinct voxels or blocks, in Z, Y, X order."""

    covered: int
    """How many these are."""


def parse_runs(body: bytes, overlaps: bool) -> Runs:
    """Return the runs of a body.

    Args:
        body: of the request.
        overlaps: whether it may name voxels twice, which count once.

    Raises:
        InvalidRequest: it is malformed, has no runs, or overlapping ones that it must not have.
    """
    posted = rle.parse_legacy(body)
    if not len(posted):
        raise InvalidRequest("the sparse volume of the request has no voxels")
    ordered = rle.sort_runs(posted, overlaps)
    return Runs(rle.encode_runs(posted), ordered, rle.count_voxels(ordered))


def parse_merge(body: bytes) -> tuple[int, Labels]:
    """Return the target and the other labels, ascending, of a merge.

    Raises:
        InvalidRequest: not a list of two labels or more, background, or the target twice.
    """
    labels = parse_labels(body)
    if len(labels) < 2:
        raise InvalidRequest(
            f"invalid merge tuple {labels}, need at least target and to-merge labels"
        )
    if 0 in labels:
        raise InvalidRequest(
            f"invalid merge tuple {labels[:20]} -- cannot contain background label 0"
        )
    if labels[0] in labels[1:]:
        raise InvalidRequest(f"can't merge label {labels[0]} into itself")
    return labels[0], np.unique(np.array(labels[1:], np.uint64))


def parse_split_label(request: NodeRequest, label: int) -> int:
    """Return the label that a client chooses for the voxels split off; 0 leaves it to the server.

    Raises:
        InvalidRequest: no label, or the one that is split.
    """
    text = request.args.get("splitlabel")
    chosen = parse_unsigned(text, "splitlabel") if text else 0
    if chosen == label:
        raise InvalidRequest(f"label {label} cannot be split into itself")
    if chosen > counters.LAST_LABEL:
        raise InvalidRequest(f"label {chosen} cannot be used: the highest is {counters.LAST_LABEL}")
    return chosen


def near(runs: Runs, coords_zyx: Coords, side_zyx: Triple, enough: int) -> rle.Runs:
    """Return the part of runs that lies in the box around blocks, before anything grows with it.

    Args:
        runs: of voxels, or with sides of 1 of blocks.
        coords_zyx: int32[n, 3], at least one block.
        side_zyx: sides of a block.
        enough: voxels that the part may have in any case.

    Raises:
        InvalidRequest: it has too many voxels.
    """
    side = np.array(side_zyx, np.int64)
    first = coords_zyx.min(axis=0) * side
    last = coords_zyx.max(axis=0) * side + side - 1
    clipped = rle.clip_runs(runs.ordered, first.tolist(), last.tolist())
    if rle.count_voxels(clipped) > enough:
        raise InvalidRequest(
            f"the sparse volume covers {rle.count_voxels(clipped)} voxels or blocks where the label"
            f" is; at most {enough} can be edited at once: send it in parts"
        )
    return clipped


def blocks_under(runs: Runs, found: Found) -> Found:
    """Return those blocks that coarse runs name.

    Raises:
        InvalidRequest: too many.
    """
    if not len(found.coords_zyx):
        return found
    clipped = near(runs, found.coords_zyx, (1, 1, 1), BLOCKS_MAX)
    return found.only(expanded(clipped)) if len(clipped) else edits.Found(found.coords_zyx[:0], [])


def expanded(runs: rle.Runs) -> Coords:
    """Return the single places int32[n, 3], ZYX, of runs."""
    lengths = runs[:, 3].astype(np.int64)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    coords = np.repeat(runs[:, 2::-1], lengths, axis=0)
    coords[:, 2] += (np.arange(len(coords)) - starts).astype(np.int32)
    return np.ascontiguousarray(coords, np.int32)
