from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from dvid_es.clock import FixedClock
from dvid_es.errors import InvalidRequest, NotFound, Overloaded, StorageFull
from dvid_es.jobs import KEPT, WAITING_MAX, Job, Jobs


class Gate:
    """Work that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, job: Job) -> Mapping[str, Any]:
        job.total = 2
        job.advance(1)
        self.begun.set()
        assert self.go_on.wait(30)
        job.advance(1)
        return {"files": 1}


def at_once(job: Job) -> Mapping[str, Any]:
    return {}


@pytest.fixture
def jobs() -> Any:
    made = Jobs(FixedClock())
    yield made
    made.close()


def test_a_job_waits_runs_and_is_done(jobs: Jobs) -> None:
    first, second = Gate(), Gate()
    one = jobs.submit("export", {"name": "a"}, first)
    two = jobs.submit("export", {"name": "b"}, second)
    assert first.begun.wait(30)
    assert (one.state, two.state) == ("running", "waiting")
    assert (one.done, one.total) == (1, 2)
    first.go_on.set()
    assert second.begun.wait(30)
    assert (one.state, one.done, one.result, one.error) == ("done", 2, {"files": 1}, "")
    second.go_on.set()
    two.ended.result(30)
    assert [job.id for job in jobs.all()] == [one.id, two.id]
    assert one.created_ns < one.started_ns < one.ended_ns


def test_two_at_once_when_the_setting_says_so() -> None:
    jobs = Jobs(FixedClock(), at_once=2)
    gates = [Gate(), Gate()]
    made = [jobs.submit("export", {}, gate) for gate in gates]
    assert all(gate.begun.wait(30) for gate in gates)
    assert [job.state for job in made] == ["running", "running"]
    for gate in gates:
        gate.go_on.set()
    jobs.close()


def test_a_running_job_stops_at_its_next_step_and_a_waiting_one_never_begins(jobs: Jobs) -> None:
    running, waiting = Gate(), Gate()
    one, two = jobs.submit("export", {}, running), jobs.submit("export", {}, waiting)
    assert running.begun.wait(30)
    jobs.cancel(two.id)
    jobs.cancel(one.id)
    assert (two.state, one.state, one.stopping) == ("cancelled", "running", True)
    running.go_on.set()
    one.ended.result(30)
    assert (one.state, one.done, one.result) == ("cancelled", 2, {})
    jobs.close()
    assert not waiting.begun.is_set()


def test_cancelling_what_is_over_changes_nothing(jobs: Jobs) -> None:
    job = jobs.submit("export", {}, at_once)
    job.ended.result(30)
    ended = job.ended_ns
    jobs.cancel(job.id)
    assert (job.state, job.ended_ns) == ("done", ended)


def test_what_goes_wrong_is_told_and_the_next_job_runs(jobs: Jobs) -> None:
    def full(job: Job) -> Mapping[str, Any]:
        raise StorageFull("no space left")

    def broken(job: Job) -> Mapping[str, Any]:
        raise ZeroDivisionError("planted")

    one, two = jobs.submit("export", {}, full), jobs.submit("export", {}, broken)
    three = jobs.submit("export", {}, at_once)
    three.ended.result(30)
    assert (one.state, one.error) == ("failed", "no space left")
    assert two.state == "failed"
    assert "planted" in two.error
    assert three.state == "done"


def test_one_place_has_one_job_at_a_time(jobs: Jobs) -> None:
    gate = Gate()
    job = jobs.submit("export", {}, gate, place="/here")
    with pytest.raises(InvalidRequest, match=job.id):
        jobs.submit("export", {}, at_once, place="/here")
    jobs.submit("export", {}, at_once, place="/there")
    gate.go_on.set()
    job.ended.result(30)
    jobs.submit("export", {}, at_once, place="/here").ended.result(30)


def test_too_many_are_refused_and_old_ones_forgotten(jobs: Jobs) -> None:
    gate = Gate()
    first = jobs.submit("export", {}, gate)
    assert gate.begun.wait(30)
    waiting = [jobs.submit("export", {}, at_once) for _ in range(WAITING_MAX)]
    with pytest.raises(Overloaded):
        jobs.submit("export", {}, at_once)
    gate.go_on.set()
    waiting[-1].ended.result(30)
    for _ in range(KEPT):
        jobs.submit("export", {}, at_once).ended.result(30)
    with pytest.raises(NotFound, match="restart"):
        jobs.get(first.id)
    assert len(jobs.all()) <= KEPT + 1


def test_a_server_that_stops_waits_for_no_job() -> None:
    jobs = Jobs(FixedClock())
    gate = Gate()
    running, waiting = jobs.submit("export", {}, gate), jobs.submit("export", {}, at_once)
    assert gate.begun.wait(30)
    closing = threading.Thread(target=jobs.close)
    closing.start()
    waiting.ended.result(30)
    gate.go_on.set()
    closing.join(30)
    assert not closing.is_alive()
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    with pytest.raises(Overloaded):
        jobs.submit("export", {}, at_once)


def test_jobs_over_http(live: Any) -> None:
    assert live.ok("GET", "/api/server/jobs").json() == []
    gate = Gate()
    job = live.engine.jobs.submit("export", {"name": "a"}, gate)
    path = f"/api/server/jobs/{job.id}"
    assert gate.begun.wait(30)
    found = live.ok("GET", path, wait="0.01").json()
    assert {key: found[key] for key in ("id", "kind", "state", "done", "total", "about")} == {
        "id": job.id, "kind": "export", "state": "running", "done": 1, "total": 2,
        "about": {"name": "a"},
    }  # fmt: skip
    assert found["started"].endswith("Z")
    assert found["ended"] == ""
    assert live.ok("DELETE", path).json()["state"] == "cancelling"
    gate.go_on.set()
    assert live.ok("GET", path, wait="60").json()["state"] == "cancelled"
    assert [one["id"] for one in live.ok("GET", "/api/server/jobs").json()] == [job.id]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/server/jobs/none", 404), ("DELETE", "/api/server/jobs/none", 404),
        ("DELETE", "/api/server/jobs", 400), ("GET", "/api/server/jobs/a/b", 400),
        ("POST", "/api/server/jobs", 404),
    ],
)  # fmt: skip
def test_requests_for_jobs_that_are_wrong(live: Any, method: str, path: str, status: int) -> None:
    assert live.call(method, path).status == status


@pytest.mark.parametrize("wait", ["61", "-1", "x", "nan", "1e1", "99999"])
def test_a_wait_that_is_no_time_is_refused(live: Any, wait: str) -> None:
    gate = Gate()
    job = live.engine.jobs.submit("export", {}, gate)
    assert live.call("GET", f"/api/server/jobs/{job.id}", wait=wait).status == 400
    gate.go_on.set()
