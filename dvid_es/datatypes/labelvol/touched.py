"""Which labels the events of labelvols touch, for analytics."""

from collections.abc import Mapping, Sequence

from dvid_es.analytics.touched import Describe, Fetch, Touched, column, one_each
from dvid_es.datatypes.labelvol.events import AreaDeleted, Resynced
from dvid_es.events import Event


def repairs(events: Sequence[AreaDeleted | Resynced], fetch: Fetch) -> Touched:
    """Return the labels whose voxels were dropped or fetched."""
    del fetch
    labels = column([event.label for event in events])
    return Touched(labels, None, (one_each("target", labels),))


TOUCHED: Mapping[type[Event], Describe] = {AreaDeleted: repairs, Resynced: repairs}
