"""Which labels the events of labelvols touch, for analytics and the feed."""

from collections.abc import Mapping, Sequence

from dvid_es.analytics.touched import Describe, Fetch, Touched, column, one_each
from dvid_es.datatypes.labelvol.events import AreaDeleted, Resynced
from dvid_es.events import Event
from dvid_es.feed.messages import Place


def repairs(events: Sequence[AreaDeleted | Resynced], fetch: Fetch) -> Touched:
    """Return the labels whose voxels were dropped or fetched."""
    del fetch
    labels = column([event.label for event in events])
    return Touched(labels, None, (one_each("target", labels),))


TOUCHED: Mapping[type[Event], Describe] = {AreaDeleted: repairs, Resynced: repairs}

PLACED: Mapping[type[Event], Place] = {
    AreaDeleted: lambda event: (event.coords, 0),
    Resynced: lambda event: (event.coords, 0),
}
