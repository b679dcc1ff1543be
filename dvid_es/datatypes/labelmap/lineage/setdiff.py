"""Which supervoxels one state of a body has and another one has not.

Both states mostly share their immutable bases, so this costs what differs, not what the body holds.
"""

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodysets
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.bodies.labelsets import without
from dvid_es.projections.txn import ReadTxn

Labels = NDArray[np.uint64]


def difference(
    txn: ReadTxn, instance_id: int, first: Body | None, second: Body | None
) -> tuple[Labels, Labels]:
    """Return the supervoxels in `first` alone and those in `second` alone: uint64[n], ascending.

    None is a body that is not there.
    """
    first, second = first or Body(), second or Body()
    mine = {base[:3]: base for base in first.bases}
    other = {base[:3]: base for base in second.bases}
    lost, gained = [first.added], [second.added]
    for key in mine.keys() | other.keys():
        if key not in other:
            lost.append(bodysets.supervoxels(txn, instance_id, Body(bases=(mine[key],))))
        elif key not in mine:
            gained.append(bodysets.supervoxels(txn, instance_id, Body(bases=(other[key],))))
        else:
            gone, also = mine[key].removed, other[key].removed
            lost.append(without(also, gone))
            gained.append(without(gone, also))
    left, came = (np.sort(np.concatenate(parts)) for parts in (lost, gained))
    return without(left, came), without(came, left)
