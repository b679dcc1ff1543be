"""A process that has imported everything and forks servers: hundreds of starts and kills in a minute.

Lines on standard input: `start FOLDER OUTPUT LIMIT BUG` forks a server whose standard output is the file
OUTPUT, with a limit on the size of files in bytes (0: none) and with a planted bug (-: none); the answer is
its process id. `kill PID` ends it as kill -9 does and waits until it is gone.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any


def plant(bug: str) -> None:
    from dvid_es.errors import WritesHalted
    from dvid_es.projections.store import Store
    from dvid_es.writer import Writer

    if bug == "-":
        return
    if bug == "late":
        # Answers a batch before it is in the log: it is appended together with the next one.
        made_durable = Writer._make_durable
        waiting: list[Any] = []

        def late(self: Writer, pending: Any) -> None:
            if pending.records:
                waiting.append(pending)
            if len(waiting) > 1:
                made_durable(self, waiting.pop(0))

        Writer._make_durable = late  # type: ignore[method-assign]
        return
    if bug == "halts-when-full":
        # Takes a full disk for a broken one, so that a restart is needed.
        def broken(self: Store, problem: Exception) -> WritesHalted:
            self._broken = str(problem)
            return WritesHalted(self._broken)

        Store._failure = broken  # type: ignore[method-assign]
        return
    raise ValueError(bug)


def serve(folder: str, output: str, limit: int, bug: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    errors = os.open(folder + ".stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(errors, 2)
    if limit:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    plant(bug)
    from dvid_es.cli import main

    main(["serve", "--data", folder, "--port", "0"])


def run() -> None:
    import dvid_es.bench.command
    import dvid_es.bootstrap
    import dvid_es.cli
    import dvid_es.http.serving  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split("\t")
        if word == "start":
            folder, output, limit, bug = rest
            pid = os.fork()
            if pid == 0:
                code = 70
                try:
                    sys.stdin.close()
                    serve(folder, output, int(limit), bug.strip())
                    code = 0
                except SystemExit as ended:
                    code = ended.code if isinstance(ended.code, int) else 71
                finally:
                    sys.stdout.flush()
                    os._exit(code)
            print(pid, flush=True)
        elif word in ("kill", "wait"):
            pid = int(rest[0])
            if word == "kill":
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    run()
