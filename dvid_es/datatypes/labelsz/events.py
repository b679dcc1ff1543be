"""What can happen to counts of elements: events 270 to 279. They follow elements by themselves."""

from dvid_es.events import Event, event


@event(270, "labelsz.reload")
class CountsReloaded(Event, frozen=True, kw_only=True):
    """From here on all elements count, also those that were there before the sync.

    The region of interest counts as it is now.

    Source: resync in datatype/labelsz/labelsz.go (janelia-flyem/dvid).
    """
