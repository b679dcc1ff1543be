"""What may be asked of a region of interest: all of it anew, or nothing left of it. Pure."""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.roi.events import SpansCleared, SpansReplaced
from dvid_es.events import Bulk


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceSpans:
    """Make the region these spans, checked and sorted already; see `SpansReplaced`."""

    spans: Bulk
    layers: tuple[int, int]
    """Lowest and highest z."""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        fixed_instance(context)
        min_z, max_z = self.layers
        event = SpansReplaced(spans=self.spans, min_z=min_z, max_z=max_z)
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSpans:
    """Delete the region at a version; an empty one is no error."""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        fixed_instance(context)
        return Decision((Outcome(event=SpansCleared()),))
