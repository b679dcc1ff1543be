"""Runs workloads on one server or on two in turn, and compares their answers.

Two servers take turns repeat by repeat, so that whatever else the machine does meets both alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dvid_es.bench.answer import MalformedAnswer
from dvid_es.bench.figures import Bar, Sample, Summary, cpu_ratio, ratio, summarize
from dvid_es.bench.load import LoadFailed
from dvid_es.bench.target import Target, TargetError
from dvid_es.bench.workloads.base import Finding, Workload
from dvid_es.errors import DvidError

Say = Callable[[str], None]

QUIET_S = 0.05
"""A server is quiet when it uses at most one clock tick of CPU in this time."""

SETTLE_AT_MOST_S = 3.0


@dataclass
class Result:
    """What one workload came to."""

    name: str
    title: str
    unit: str
    bar: Bar | None
    summaries: dict[str, Summary] = field(default_factory=dict)
    """By the server's name, `base` or `against`; a server that failed has none."""

    problems: list[str] = field(default_factory=list)
    """Wrong answers, differences between the servers, and failures."""

    @property
    def ratio(self) -> float | None:
        """How many times `against` is better than `base`, if both were measured."""
        if len(self.summaries) < 2:
            return None
        return ratio(self.summaries["base"], self.summaries["against"])

    @property
    def cpu_ratio(self) -> float | None:
        """How many times less CPU `against` takes, if both are known."""
        if len(self.summaries) < 2:
            return None
        return cpu_ratio(self.summaries["base"], self.summaries["against"])


def run(
    workloads: Sequence[Workload], targets: Sequence[Target], repeats: int, say: Say
) -> list[Result]:
    """Run each workload on all servers and return what came of it, in the same order.

    Args:
        workloads: in the order to run.
        targets: prepared servers, `base` first.
        repeats: measured repeats of each workload on each server.
        say: told what is going on, a line at a time.
    """
    results = []
    for number, workload in enumerate(workloads, 1):
        say(f"[{number}/{len(workloads)}] {workload.name}: {workload.title}")
        result = run_one(workload, targets, repeats, say)
        for problem in result.problems:
            say(f"    DIFFERENT: {problem}")
        results.append(result)
    return results


def run_one(workload: Workload, targets: Sequence[Target], repeats: int, say: Say) -> Result:
    """Prepare, measure in turn, check, and compare one workload.

    A server that fails is left out of the rest of the workload; that is a problem of the result.
    """
    result = Result(workload.name, workload.title, workload.unit, workload.bar)
    working = [one for one in targets if _try(result, one, lambda one: workload.prepare(one))]
    samples: dict[str, list[Sample]] = {one.name: [] for one in working}
    for _ in range(repeats):
        for one in list(working):
            settle(targets)
            if not _try(result, one, lambda one: samples[one.name].append(workload.measure(one))):
                working.remove(one)
    findings: dict[str, Finding] = {}
    for one in list(working):
        if not _try(result, one, lambda one: findings.update({one.name: workload.check(one)})):
            continue
        result.problems += [f"{one.name}: {text}" for text in findings[one.name].problems]
    for one in working:
        summary = summarize(samples[one.name], workload.unit)
        result.summaries[one.name] = summary
        say(f"    {one.name}: {summary.median:,.3f} {summary.unit}")
    if len({finding.fingerprint for finding in findings.values()}) > 1:
        result.problems.append("the answers of the two servers differ")
    return result


def settle(targets: Sequence[Target], pause: Callable[[float], None] = time.sleep) -> None:
    """Wait until no server works any more, so that none is measured while another tidies up.

    A server that never rests is waited for SETTLE_AT_MOST_S; one whose process is unknown, never.
    """
    before = [one.cpu_seconds() for one in targets]
    for _ in range(round(SETTLE_AT_MOST_S / QUIET_S)):
        if all(cpu is None for cpu in before):
            return
        pause(QUIET_S)
        after = [one.cpu_seconds() for one in targets]
        used = [
            b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None
        ]
        # Ticks are 10 ms; a little more allows for their sum not being exact.
        if all(seconds <= 0.011 for seconds in used):
            return
        before = after


def _try(result: Result, target: Target, action: Callable[[Target], object]) -> bool:
    """Do something with a server; note a failure in the result and return whether there was none."""
    try:
        action(target)
    except (TargetError, LoadFailed, MalformedAnswer, OSError) as error:
        text = str(error)
    except (DvidError, ValueError, KeyError, TypeError) as error:
        # An answer that cannot even be read is a wrong answer, not a crash of the bench.
        text = f"unreadable answer: {type(error).__name__}: {error}"
    else:
        return True
    result.problems.append(text if text.startswith(target.name) else f"{target.name}: {text}")
    return False
