"""Lower scales of a split that is undone or redone.

Where nobody else has written since, a block comes back as it was, also if a client had posted it. Where
somebody has, it follows from the blocks above it, as after any write.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.voxels import blocks, downres
from dvid_es.events import Bulk, Record
from dvid_es.geometry import Triple
from dvid_es.projections.txn import WriteTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]


def fold_levels(
    txn: WriteTxn,
    record: Record,
    coords_zyx: Coords,
    changed: Sequence[Bulk],
    levels: int,
    shape_zyx: Triple,
    source: View,
    back: View,
) -> None:
    """Write the blocks of `levels` scales above changed blocks of scale 0.

    Args:
        txn: the state being changed.
        record: the event.
        coords_zyx: int32[n, 3]: blocks of scale 0.
        changed: what is stored there now.
        levels: how many scales.
        shape_zyx: shape of all blocks.
        source: the state as the mutation left it.
        back: the state that comes back.
    """
    header = record.header
    instance_id, view = header.instance, txn.view(header.version)
    were = blocks.find_list(txn, instance_id, 0, coords_zyx, back)
    exact = [one == was for one, was in zip(changed, were, strict=True)]
    for above in range(1, levels + 1):
        parents = downres.parents_of(coords_zyx)
        now, left, came = (
            blocks.find_list(txn, instance_id, above, parents.coords_zyx, one)
            for one in (view, source, back)
        )
        derived: list[Bulk] = []
        settled = []
        for place, children in enumerate(parents.children.tolist()):
            below = [child for child in children if child >= 0]
            before = came[place]
            if before is not None and now[place] == left[place] and all(exact[c] for c in below):
                derived.append(before)
                settled.append(True)
                continue
            replaced = now[place] if len(below) < 8 else None
            made = downres.derive(txn.bulk, changed, children, replaced, shape_zyx)
            derived.append(made)
            settled.append(made == before)
        blocks.put_blocks(txn, record, above, parents.coords_zyx, derived)
        coords_zyx, changed, exact = parents.coords_zyx, derived, settled
