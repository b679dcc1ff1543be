import pytest

from dvid_es.bench.figures import (
    MILLISECONDS,
    PER_SECOND,
    Bar,
    Sample,
    cpu_ratio,
    ratio,
    summarize,
)


def samples(*seconds: float, cpu: float | None = 0.5, client: float | None = None) -> list[Sample]:
    return [Sample(10, one, cpu, client) for one in seconds]


def test_the_median_is_reported_with_the_extremes():
    summary = summarize(samples(1.0, 9.0, 2.0, 3.0, 2.5), MILLISECONDS)
    assert (summary.median, summary.low, summary.high) == (250.0, 100.0, 900.0)
    assert (summary.repeats, summary.operations) == (5, 50)


def test_rates_are_operations_per_second():
    summary = summarize(samples(1.0, 2.0, 5.0), PER_SECOND)
    assert (summary.median, summary.low, summary.high) == (5.0, 2.0, 10.0)


def test_cpu_time_is_per_operation_over_all_repeats():
    assert summarize(samples(1.0, 1.0), MILLISECONDS).cpu_ms == 50.0
    assert summarize(samples(1.0, 1.0), MILLISECONDS).cpu_s == 1.0
    assert summarize(samples(1.0, cpu=None), MILLISECONDS).cpu_ms is None


def test_a_busy_client_is_marked():
    assert summarize(samples(1.0, client=0.95), PER_SECOND).is_client_bound
    assert not summarize(samples(1.0, client=0.5), PER_SECOND).is_client_bound
    assert not summarize(samples(1.0), PER_SECOND).is_client_bound


@pytest.mark.parametrize("unit", [MILLISECONDS, PER_SECOND])
def test_a_ratio_above_one_means_that_the_second_server_is_better(unit):
    slow, fast = summarize(samples(4.0), unit), summarize(samples(1.0), unit)
    assert ratio(slow, fast) == 4.0
    assert ratio(fast, slow) == 0.25


def test_the_cpu_ratio_needs_both_times():
    much, little = (summarize(samples(1.0, cpu=cpu), MILLISECONDS) for cpu in (3.0, 1.0))
    none = summarize(samples(1.0, cpu=None), MILLISECONDS)
    zero = summarize(samples(1.0, cpu=0.0), MILLISECONDS)
    assert cpu_ratio(much, little) == 3.0
    assert cpu_ratio(much, none) is None
    assert cpu_ratio(much, zero) is None


@pytest.mark.parametrize(
    ("times", "verdict"), [(1.4, "below"), (1.5, "must"), (2.9, "must"), (3.0, "goal")]
)
def test_the_verdict_is_the_highest_bar_reached(times, verdict):
    assert Bar(1.5, 3.0).verdict(times) == verdict
