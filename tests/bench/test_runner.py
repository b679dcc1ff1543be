import json

import pytest

from dvid_es.bench import report
from dvid_es.bench.figures import MILLISECONDS, Bar, Sample
from dvid_es.bench.runner import run, run_one, settle
from dvid_es.bench.target import Target, TargetError
from dvid_es.bench.workloads.base import Finding, Workload


class Scripted(Workload):
    name, title, unit, bar = "scripted", "a scripted workload", MILLISECONDS, Bar(2.0, 8.0)

    def __init__(self):
        self.milliseconds = {"base": [8.0, 6.0, 7.0], "against": [2.0, 1.0, 3.0]}
        self.answers = {"base": "same", "against": "same"}
        self.problems: dict[str, list[str]] = {}
        self.failing = ("", "")
        self.order = []

    def step(self, step, target):
        self.order.append((step, target.name))
        if self.failing == (step, target.name):
            raise TargetError(f"{target.name}: POST merge: 400 no such body")

    def prepare(self, target):
        self.step("prepare", target)

    def measure(self, target):
        self.step("measure", target)
        done = self.order.count(("measure", target.name))
        return Sample(1, self.milliseconds[target.name][done - 1] / 1000, 0.01, None)

    def check(self, target):
        self.step("check", target)
        return Finding(self.answers[target.name], self.problems.get(target.name, []))


@pytest.fixture
def targets():
    return [Target("base", "http://127.0.0.1:1"), Target("against", "http://127.0.0.1:2")]


def silent(text: str) -> None:
    pass


def test_servers_take_turns(targets):
    workload = Scripted()
    run_one(workload, targets, 2, silent)
    measured = [name for step, name in workload.order if step == "measure"]
    assert measured == ["base", "against", "base", "against"]


class Busy:
    """A server that uses CPU for some looks and rests then."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.seconds = 0.0

    def cpu_seconds(self) -> float:
        self.seconds += 0.05 if self.looks > 0 else 0.0
        self.looks -= 1
        return self.seconds


@pytest.mark.parametrize(("looks", "pauses"), [([0, 0], 1), ([4, 2], 4), ([9999, 0], 60)])
def test_nothing_is_measured_before_all_servers_rest(looks, pauses):
    waited: list[float] = []
    settle([Busy(one) for one in looks], waited.append)
    assert len(waited) == pauses


def test_servers_of_unknown_process_are_not_waited_for(targets):
    settle(targets, lambda _: pytest.fail("waited for nothing"))


def test_medians_are_compared(targets):
    result = run_one(Scripted(), targets, 3, silent)
    assert result.problems == []
    assert result.ratio == pytest.approx(3.5)
    assert result.cpu_ratio == pytest.approx(1.0)


def test_different_answers_are_a_problem(targets):
    workload = Scripted()
    workload.answers = {"base": "this", "against": "that"}
    assert run_one(workload, targets, 1, silent).problems == [
        "the answers of the two servers differ"
    ]


def test_a_wrong_answer_names_the_server(targets):
    workload = Scripted()
    workload.problems = {"against": ["voxel 7 is wrong"]}
    assert run_one(workload, targets, 1, silent).problems == ["against: voxel 7 is wrong"]


@pytest.mark.parametrize("step", ["prepare", "measure"])
def test_a_server_that_fails_is_reported_and_the_other_is_measured_on(targets, step):
    workload = Scripted()
    workload.failing = (step, "against")
    result = run_one(workload, targets, 2, silent)
    assert result.problems == ["against: POST merge: 400 no such body"]
    assert list(result.summaries) == ["base"]
    assert result.ratio is None


def test_an_unreadable_answer_is_a_problem_and_no_crash(targets):
    workload = Scripted()
    workload.check = lambda target: json.loads("no json")  # type: ignore[method-assign]
    problems = run_one(workload, targets[:1], 1, silent).problems
    assert len(problems) == 1
    assert problems[0].startswith("base: unreadable answer: JSONDecodeError")


def test_the_table_has_a_line_for_each_workload_with_bars_and_verdict(targets):
    table = report.as_table(run([Scripted()], targets, 3, silent), ["base", "against"])
    line = next(line for line in table.splitlines() if line.startswith("scripted"))
    assert " ".join(line.split()) == (
        "scripted ms 7.00 6.00 .. 8.00 10.00 2.00 1.00 .. 3.00 10.00 3.50x 1.00x 2x 8x must"
    )
    assert table.endswith("All answers were right and equal.")


def test_the_table_says_what_differed(targets):
    workload = Scripted()
    workload.answers = {"base": "this", "against": "that"}
    table = report.as_table(run([workload], targets, 1, silent), ["base", "against"])
    assert "WRONG" in table
    assert table.endswith("DIFFERENT:\n  scripted: the answers of the two servers differ")


def test_the_table_of_one_server_has_no_ratio(targets):
    table = report.as_table(run([Scripted()], targets[:1], 1, silent), ["base"])
    assert "ratio" not in table
    assert "2x" in table


def test_the_json_holds_everything(targets):
    results = run([Scripted()], targets, 3, silent)
    whole = json.loads(json.dumps(report.as_json(results, targets, {"source": "made"})))
    assert whole["agrees"] is True
    assert whole["volume"] == {"source": "made"}
    assert list(whole["servers"]) == ["base", "against"]
    (workload,) = whole["workloads"]
    assert (workload["must"], workload["goal"], workload["reaches"]) == (2.0, 8.0, "must")
    assert workload["ratio"] == pytest.approx(3.5)
    base = workload["servers"]["base"]
    assert (base["median"], base["min"], base["max"]) == pytest.approx((7.0, 6.0, 8.0))
    assert base["cpu_seconds"] == pytest.approx(0.03)
