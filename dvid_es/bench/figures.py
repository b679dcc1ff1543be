"""Figures of a bench: what one repeat gives, what some repeats come to, and how two servers compare.

A ratio says how many times the second server is better than the first, whether the unit is a time
(less is better) or a rate (more is better): above 1 the second wins.
"""

import statistics
from dataclasses import dataclass

MILLISECONDS = "ms"
PER_SECOND = "/s"

BUSY_CLIENT = 0.85
"""Share of the time above which a rate is bound by the client rather than by the server."""


@dataclass(frozen=True)
class Sample:
    """One repeat of a workload on one server."""

    operations: int
    seconds: float
    """Wall time of all operations together."""

    cpu_s: float | None
    """CPU seconds of the server meanwhile; None if its process is not known."""

    client_cpu_s: float | None = None
    """CPU seconds of the client's thread meanwhile; None where it does not matter."""

    def value(self, unit: str) -> float:
        """Return the mean time of an operation in ms, or operations per second."""
        if unit == MILLISECONDS:
            return 1000 * self.seconds / self.operations
        return self.operations / self.seconds


@dataclass(frozen=True)
class Summary:
    """Some repeats of a workload on one server."""

    unit: str
    median: float
    low: float
    high: float
    repeats: int
    operations: int
    """Of all repeats together."""

    cpu_ms: float | None
    """CPU milliseconds of the server per operation, over all repeats."""

    client_share: float | None
    """Share of the time during which the client's thread was busy, at the median."""

    @property
    def is_client_bound(self) -> bool:
        """Say whether the client may have been slower than the server."""
        return self.client_share is not None and self.client_share > BUSY_CLIENT

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of the server in all repeats."""
        return None if self.cpu_ms is None else self.cpu_ms * self.operations / 1000


def summarize(samples: list[Sample], unit: str) -> Summary:
    """Return median, extremes and CPU of some repeats.

    Args:
        samples: at least one.
        unit: MILLISECONDS or PER_SECOND.
    """
    values = [sample.value(unit) for sample in samples]
    operations = sum(sample.operations for sample in samples)
    cpus = [sample.cpu_s for sample in samples if sample.cpu_s is not None]
    shares = [
        sample.client_cpu_s / sample.seconds
        for sample in samples
        if sample.client_cpu_s is not None
    ]
    return Summary(
        unit=unit,
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        repeats=len(samples),
        operations=operations,
        cpu_ms=1000 * sum(cpus) / operations if len(cpus) == len(samples) else None,
        client_share=statistics.median(shares) if shares else None,
    )


@dataclass(frozen=True)
class Bar:
    """The ratios that a path is held to."""

    must: float
    goal: float

    def verdict(self, ratio: float) -> str:
        """Return `goal`, `must` or `below`: the highest bar that a ratio reaches."""
        if ratio >= self.goal:
            return "goal"
        return "must" if ratio >= self.must else "below"


def ratio(base: Summary, against: Summary) -> float:
    """Return how many times `against` is better than `base`."""
    if base.unit == MILLISECONDS:
        return base.median / against.median
    return against.median / base.median


def cpu_ratio(base: Summary, against: Summary) -> float | None:
    """Return how many times less CPU an operation takes on `against`; None if it is not known."""
    if not base.cpu_ms or not against.cpu_ms:
        return None
    return base.cpu_ms / against.cpu_ms
