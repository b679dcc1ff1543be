"""What can happen to a region of interest: events 180 to 189."""

from dvid_es.events import Bulk, Event, event


@event(180, "roi.replaced")
class SpansReplaced(Event, frozen=True, kw_only=True):
    """The region consists of these spans and of nothing else, whatever it was before.

    Source: PutSpans in datatype/roi/roi.go (janelia-flyem/dvid), where old spans are deleted first and
    new ones are written in batches.
    """

    spans: Bulk
    """int32[n, 4], little endian: z, y, x0, x1 in blocks, x1 inclusive; in this order, equal ones once."""

    min_z: int = 2147483647
    """Lowest z; 2147483647 without spans."""

    max_z: int = -2147483648
    """Highest z; -2147483648 without spans."""


@event(181, "roi.cleared")
class SpansCleared(Event, frozen=True, kw_only=True):
    """The region has no spans any more, whether it had any or not."""
