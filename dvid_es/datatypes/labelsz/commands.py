"""What may be asked of counts: to begin anew. Pure."""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelsz.events import CountsReloaded
from dvid_es.datatypes.labelsz.rows import counted_annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadCounts:
    """Count all elements of the synced annotation."""

    def decide(self, context: Context) -> Decision:
        """Return the event; none without a sync, as there is nothing to count."""
        if counted_annotation(context.txn, fixed_instance(context)) is None:
            return Decision(())
        return Decision((Outcome(event=CountsReloaded()),))
