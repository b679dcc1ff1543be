"""What clients ask of label counters.

Source: handleMaxlabel, handleNextlabel and handleSetNextlabel in datatype/labelmap/handlers.go
(janelia-flyem/dvid).
"""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.events import LabelsReserved, MaxLabelRaised, NextLabelSet
from dvid_es.errors import InvalidRequest

POSTED_MAX = 1 << 48
"""The highest label that may be posted as the highest one."""


@dataclass(frozen=True, slots=True)
class ReserveLabels:
    """Give new labels to a client."""

    count: int

    def decide(self, context: Context) -> Decision:
        """Give them, in a row."""
        if self.count == 0:
            raise InvalidRequest("cannot reserve 0 labels: ask for 1 or more")
        start, end = counters.allocate(context.txn, fixed_instance(context).id, self.count)
        answer = f'{{"start": {start}, "end": {end}}}'.encode()
        return Decision((Outcome(event=LabelsReserved(start=start, end=end)),), answer)


@dataclass(frozen=True, slots=True)
class RaiseMaxLabel:
    """Raise the highest label of a version; a lower one than there is changes nothing."""

    label: int

    def decide(self, context: Context) -> Decision:
        """Raise it."""
        if not 0 < self.label <= POSTED_MAX:
            raise InvalidRequest(f"max label {self.label} is not between 1 and 2^48 ({POSTED_MAX})")
        highest = counters.effective_max(context.txn, fixed_instance(context).id, context.view)
        if highest is not None and self.label <= highest:
            return Decision(())
        return Decision((Outcome(event=MaxLabelRaised(label=self.label)),))


@dataclass(frozen=True, slots=True)
class SetNextLabel:
    """Set from where new labels are given."""

    label: int
    ceiling: int | None
    """0 removes the ceiling, None keeps it."""

    def decide(self, context: Context) -> Decision:
        """Set it."""
        common = counters.read_common(context.txn, fixed_instance(context).id)
        if not 0 < self.label <= counters.LAST_LABEL:
            raise InvalidRequest(f"next label {self.label} must be above 0 and below 2^64 - 1")
        ceiling = common.ceiling if self.ceiling is None else self.ceiling
        if ceiling and ceiling < self.label:
            raise InvalidRequest(f"next label {self.label} is above the ceiling {ceiling}")
        return Decision((Outcome(event=NextLabelSet(label=self.label, ceiling=ceiling)),))
