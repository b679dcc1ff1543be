"""Long work behind an answer: jobs with progress, state and cancel.

A job changes no data: it is no event, and a restart of the server forgets it. What it has written by
then says itself how far it came.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dvid_es.clock import Clock
from dvid_es.errors import DvidError, InvalidRequest, NotFound, Overloaded

logger = logging.getLogger(__name__)

WAITING_MAX = 16
"""Jobs that may wait for their turn."""

KEPT = 100
"""Ended jobs that can still be asked for; older ones are forgotten."""

WAITING = "waiting"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"


class Cancelled(Exception):
    """Ends the work of a job that nobody wants any more; the work cleans up on its way."""


class Job:
    """One piece of long work. Written by its own thread and under the lock of `Jobs`; read by all."""

    def __init__(self, number: str, kind: str, about: Mapping[str, Any], created_ns: int) -> None:
        """Begin as waiting."""
        self.id = number
        self.kind = kind
        self.about = dict(about)
        """What it works on, for people: names and options."""

        self.state = WAITING
        self.done = 0
        self.total = 0
        """Of `done`; 0 until it is known."""

        self.error = ""
        self.result: dict[str, Any] = {}
        """What came of it, once it is done."""

        self.created_ns = created_ns
        self.started_ns = 0
        self.ended_ns = 0
        self.ended: Future[None] = Future()
        """Resolved once the state does not change any more."""

        self._stop = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether its state does not change any more."""
        return self.state in (DONE, FAILED, CANCELLED)

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked it to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the work to stop at its next `check`."""
        self._stop.set()

    def check(self) -> None:
        """Let the work go on.

        Raises:
            Cancelled: it shall not.
        """
        if self._stop.is_set():
            raise Cancelled

    def advance(self, count: int) -> None:
        """Note that more of the work is done, and let it go on.

        Raises:
            Cancelled: it shall not.
        """
        self.done += count
        self.check()


Work = Callable[[Job], Mapping[str, Any]]
"""Does a job and returns its result. It calls `advance` or `check` often: a second apart at most."""


class Jobs:
    """The jobs of a server since its start, in order of their creation."""

    def __init__(self, clock: Clock, at_once: int = 1) -> None:
        """Run up to `at_once` of them at a time; their threads begin with the first job."""
        self._clock = clock
        self._at_once = at_once
        self._jobs: dict[str, Job] = {}
        self._places: dict[str, str] = {}
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False

    def submit(self, kind: str, about: Mapping[str, Any], work: Work, place: str = "") -> Job:
        """Queue a job.

        Args:
            kind: such as "export precomputed".
            about: what it works on.
            work: does it, in a thread of its own.
            place: what no two jobs may use at the same time, such as a folder; "" is nothing.

        Raises:
            InvalidRequest: another job that is not over uses the place.
            Overloaded: too many are waiting, or the server is about to stop.
        """
        with self._lock:
            active = [job for job in self._jobs.values() if not job.is_over]
            for job in active:
                if place and self._places.get(job.id) == place:
                    raise InvalidRequest(f"job {job.id} is at work on {place}: wait or cancel it")
            waiting = sum(job.state == WAITING for job in active)
            if waiting >= WAITING_MAX or self._closed:
                raise Overloaded(f"{waiting} jobs are waiting: try again when some are done")
            number = self._clock.new_uuid()[-12:]
            job = Job(number, kind, about, self._clock.now_ns())
            self._jobs[job.id] = job
            self._places[job.id] = place
            self._forget()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="job")
            self._threads.submit(self._run, job, work)
        return job

    def _forget(self) -> None:
        over = [job.id for job in self._jobs.values() if job.is_over]
        for number in over[: max(0, len(over) - KEPT)]:
            del self._jobs[number], self._places[number]

    def all(self) -> list[Job]:
        """Return the jobs, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def get(self, number: str) -> Job:
        """Return a job.

        Raises:
            NotFound: there is none, or none any more.
        """
        with self._lock:
            found = self._jobs.get(number)
        if found is None:
            raise NotFound(f'no job "{number}": a restart of the server forgets all jobs')
        return found

    def cancel(self, number: str) -> Job:
        """Stop a job: at once if it is waiting, else soon. One that is over stays as it is.

        Raises:
            NotFound: there is no such job.
        """
        job = self.get(number)
        job.stop()
        with self._lock:
            if job.state == WAITING:
                self._end(job, CANCELLED)
        return job

    def close(self) -> None:
        """Stop all jobs and return when none runs any more."""
        with self._lock:
            self._closed = True
            for job in self._jobs.values():
                job.stop()
                if job.state == WAITING:
                    self._end(job, CANCELLED)
        if self._threads is not None:
            self._threads.shutdown()

    def _run(self, job: Job, work: Work) -> None:
        with self._lock:
            if job.is_over:
                return
            job.state = RUNNING
            job.started_ns = self._clock.now_ns()
        state, error = FAILED, ""
        try:
            job.result = dict(work(job))
            state = DONE
        except Cancelled:
            state = CANCELLED
        except DvidError as problem:
            error = str(problem)
        except Exception as problem:
            logger.exception("job %s (%s) failed", job.id, job.kind)
            error = f"internal error, the server's log says more: {problem}"
        with self._lock:
            job.error = error
            self._end(job, state)

    def _end(self, job: Job, state: str) -> None:
        job.state = state
        job.ended_ns = self._clock.now_ns()
        job.ended.set_result(None)
