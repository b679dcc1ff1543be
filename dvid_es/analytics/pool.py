"""The processes that run queries, as the server sees them: started when needed, used again, killed."""

import contextlib
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

import msgspec

from dvid_es.analytics.replies import Reply
from dvid_es.errors import InvalidRequest, Overloaded

_LENGTH = struct.Struct("<I")
_BODY = struct.Struct("<Q")
GRACE_SECONDS = 5.0
"""How much longer than its own time limit a worker may live."""


class WorkerDied(Exception):
    """A worker ended before it answered; `status` is what its process ended with."""

    def __init__(self, status: int) -> None:
        """Keep the status."""
        super().__init__(f"ended with {status}")
        self.status = status


class Worker:
    """One process."""

    def __init__(self) -> None:
        """Start it, with nothing of this process but where its modules are."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dvid_es.analytics.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "ARROW_DEFAULT_MEMORY_POOL": "system",  # others reserve a gigabyte that would count
            },
            start_new_session=True,  # an interrupt from the terminal is for the server
        )

    def ask(self, request: bytes) -> tuple[Reply, bytes]:
        """Return the answer to a request.

        Raises:
            WorkerDied: there is none.
        """
        source, out = self._process.stdin, self._process.stdout
        assert source is not None
        assert out is not None
        with contextlib.suppress(BrokenPipeError):
            source.write(_LENGTH.pack(len(request)))
            source.write(request)
            source.flush()
        head = self._read(out, _LENGTH.unpack(self._read(out, _LENGTH.size))[0])
        body = self._read(out, _BODY.unpack(self._read(out, _BODY.size))[0])
        return msgspec.json.decode(head, type=Reply), body

    def _read(self, out: IO[bytes], length: int) -> bytes:
        data = out.read(length)
        if len(data) < length:
            raise WorkerDied(self._process.wait())
        return data

    def kill(self) -> None:
        """End the process now; whoever waits for its answer hears that it died."""
        self._process.kill()

    def close(self) -> None:
        """End the process and release what is left of it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


class Job:
    """One query on its way: can be cancelled from any thread."""

    def __init__(self) -> None:
        """Begin without a worker."""
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._deadline = math.inf
        self.cancelled = False

    def cancel(self) -> None:
        """End it: nobody waits for the answer any more."""
        with self._lock:
            self.cancelled = True
            if self._worker is not None:
                self._worker.kill()

    def until(self, deadline: float) -> None:
        """Let `check` stop at a reading of the monotonic clock, too."""
        self._deadline = deadline

    def check(self) -> None:
        """Stop here if it was cancelled, or has taken too long to prepare.

        Raises:
            InvalidRequest: so it is.
        """
        if self.cancelled:
            raise InvalidRequest("the query was cancelled")
        if time.monotonic() > self._deadline:
            raise InvalidRequest(
                "reading what instances hold at a version took too long: export it with"
                " `dvid-es export parquet --table`"
            )

    @contextlib.contextmanager
    def using(self, worker: Worker) -> Iterator[None]:
        """Let `cancel` end this worker within the block."""
        with self._lock:
            self.check()
            self._worker = worker
        try:
            yield
        finally:
            with self._lock:
                self._worker = None


class Pool:
    """At most so many queries at once, each in a process of its own."""

    def __init__(self, at_once: int) -> None:
        """Start no process yet."""
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running = 0
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """How many queries run."""
        return self._running

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Be one of those that run.

        Raises:
            Overloaded: as many as may are running.
        """
        with self._lock:
            if self._closed or self._running >= self._at_once:
                raise Overloaded(
                    f"{self._running} queries are running, which is the limit: try again later"
                )
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def ask(self, request: bytes, job: Job, seconds: float) -> tuple[Reply, bytes]:
        """Return the answer of a worker.

        Raises:
            InvalidRequest: it took too long, or its process ended otherwise.
        """
        worker, fresh = self._take()
        backstop = threading.Timer(seconds + GRACE_SECONDS, worker.kill)
        backstop.daemon = True
        backstop.start()
        reply = None
        try:
            with job.using(worker):
                reply, body = worker.ask(request)
                return reply, body
        except WorkerDied as died:
            job.check()
            if died.status == -signal.SIGALRM:
                raise InvalidRequest(
                    f"the query took longer than {seconds:g} s and was ended: narrow it"
                ) from None
            if not fresh and died.status == 0:
                return self.ask(request, job, seconds)  # it had nothing to do and left
            raise InvalidRequest(
                "the query ended the process that ran it, most likely by the memory it wanted:"
                " narrow it"
            ) from None
        finally:
            backstop.cancel()
            self._give_back(worker, reply is not None and not reply.leaving)

    def _take(self) -> tuple[Worker, bool]:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                self._busy.add(worker)
        if worker is not None:
            return worker, False
        worker = Worker()
        with self._lock:
            self._busy.add(worker)
        return worker, True

    def _give_back(self, worker: Worker, usable: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if usable and not self._closed:
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
        for worker in idle:
            worker.close()
