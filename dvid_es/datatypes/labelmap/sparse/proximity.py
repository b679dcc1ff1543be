"""How near two bodies come to each other, block by block.

DVID names the request and the fields of its answer, and computes nothing; what is computed here is
the distance of the nearest voxels in each block that has voxels of both.

Source: handleProximity in datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.datatypes.labelmap.bodies.labelsets import member
from dvid_es.datatypes.labelmap.bodies.reads import BodyReads
from dvid_es.datatypes.labelmap.sparse.kernels import FAR, nearest
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple, to_xyz
from dvid_es.http.wire import parse_unsigned
from dvid_es.ids import PackRef
from dvid_es.projections.txn import BulkReader

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]

TASK_BLOCKS = 32
"""Blocks of one task of a kernel thread; it holds the voxels of one of them at a time."""


class Plan(NamedTuple):
    """What was read from the rows; the rest needs no transaction."""

    first: Labels
    """Supervoxels of one body, ascending."""

    second: Labels
    """Supervoxels of the other."""

    coords_zyx: Coords
    """Blocks of both, in ZYX order."""

    stored: Sequence[Bulk | None]
    shape_zyx: Triple


class Near(NamedTuple):
    """How near two bodies are in one block."""

    block_zyx: Triple
    distance: float
    """Of the nearest voxels, in voxels: 1 across a face."""


def parse_pair(words: Sequence[str]) -> tuple[int, int]:
    """Return the two labels of a path, .../1/2 or .../1,2.

    Raises:
        InvalidRequest: not two different labels above 0.
    """
    texts = words[0].split(",") if words and "," in words[0] else list(words[:2])
    if len(texts) != 2 or not all(texts):
        raise InvalidRequest("proximity needs two labels: proximity/<label>/<label>")
    first, second = (parse_unsigned(text, "label") for text in texts)
    if 0 in (first, second):
        raise InvalidRequest("label 0 is the background: nothing is known of where it lies")
    if first == second:
        raise InvalidRequest("the two supplied labels were identical")
    return first, second


def plan(reads: BodyReads, first: int, second: int, shape_zyx: Triple) -> Plan | None:
    """Return the blocks that two bodies share, None if one of these does not exist."""
    found = reads.chosen(first, False), reads.chosen(second, False)
    if found[0] is None or found[1] is None:
        return None
    mine, other = (reads.blocks(*one) for one in found if one is not None)
    both = np.concatenate((mine, other))
    order = np.lexsort((both[:, 2], both[:, 1], both[:, 0]))
    both = both[order]
    # The blocks of each body are distinct, so one that comes twice is shared.
    coords = both[1:][(both[1:] == both[:-1]).all(axis=1)]
    stored = blocks.find_list(reads.txn, reads.instance_id, 0, coords, reads.view)
    return Plan(found[0][2], found[1][2], coords, stored, shape_zyx)


def distances(plan: Plan, packs: BulkReader, start: int, stop: int) -> list[Near]:
    """Return how near the bodies are in blocks [start : stop) of a plan."""
    chosen = [place for place in range(start, stop) if plan.stored[place] is not None]
    refs = [ref for place in chosen if isinstance(ref := plan.stored[place], PackRef)]
    values = iter(packs.get_many(refs))
    sets = np.empty(plan.shape_zyx, np.uint64)
    squares = np.empty(sets.size, np.int32)
    out = []
    for place in chosen:
        stored = plan.stored[place]
        assert stored is not None
        block = storedblock.load(next(values) if isinstance(stored, PackRef) else stored)
        table = labelblock.table(block)
        # The table is replaced by which set a label belongs to, as it is for any mapping.
        codes = member(table, plan.first).astype(np.uint64)
        codes[member(table, plan.second)] = 2
        if not ((codes == 1).any() and (codes == 2).any()):
            continue
        labelblock.decode(block, codes, sets)
        square = nearest(sets.reshape(-1), *plan.shape_zyx, squares)
        if square < FAR:
            z, y, x = plan.coords_zyx[place].tolist()
            out.append(Near((z, y, x), math.sqrt(square)))
    return out


def to_json(found: Sequence[Near]) -> str:
    """Return the answer: block coordinates, and distances without a point where they are whole."""
    entries = (
        f'{{"Block":[{",".join(map(str, to_xyz(block)))}],'
        f'"Distance":{int(distance) if distance.is_integer() else distance!r}}}'
        for block, distance in found
    )
    return f"[{','.join(entries)}]"
