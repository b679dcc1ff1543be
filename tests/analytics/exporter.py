"""Exports one log again and again in forked children, each killed at another call to the disk.

Arguments: folder of the log, how many exports follow each other, and a planted bug (-: none). Lines on standard
input: `FOLDER FIRST LAST CALLS` does the exports FIRST ... LAST into FOLDER, each of a few more events, and is
killed (as by kill -9) at its CALLS-th call, 0 for never; the answer is `killed` or `done`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from dvid_es.analytics import export as exporting
from dvid_es.analytics.export import Source, export
from dvid_es.bootstrap import described
from dvid_es.logs.disk import Disk
from dvid_es.logs.reader import LogReader
from tests.analytics.synthetic import ROOT, synthetic_repo


class KillingDisk(Disk):
    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _count(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def open(self, path: Path, flags: int) -> int:
        self._count()
        return super().open(path, flags)

    def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
        self._count()
        return super().pwritev(fd, buffers, offset)

    def sync_data(self, fd: int) -> None:
        self._count()
        super().sync_data(fd)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)

    def sync_folder(self, folder: Path) -> None:
        self._count()
        super().sync_folder(folder)


def plant(bug: str) -> None:
    if bug == "unlinks-first":
        # Removes what a join replaces before the manifest says so.
        publish = exporting._Export.publish

        def early(self: Any, **changes: Any) -> None:
            parts = changes.get("parts", self.manifest.parts)
            kept = {name for part in parts for name in part.files}
            for part in self.manifest.parts:
                for name in set(part.files) - kept:
                    self.disk.unlink(self.folder / name)
            publish(self, **changes)

        exporting._Export.publish = early  # type: ignore[method-assign]
        return
    assert bug == "-"


def run_exports(
    log: LogReader, folder: Path, exports: int, first: int, last: int, calls: int
) -> None:
    disk = KillingDisk(calls)
    for number in range(first, last + 1):
        source = Source(synthetic_repo(), log, log.end * number // exports, bytes, None)  # type: ignore[arg-type]
        export(source, folder / ROOT, described(), part_events=1000, disk=disk)


def main() -> None:
    log_folder, exports, bug = sys.argv[1:]
    log = LogReader(Path(log_folder))
    plant(bug)
    print("ready", flush=True)
    for line in sys.stdin:
        folder, first, last, calls = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            try:
                run_exports(log, Path(folder), int(exports), int(first), int(last), int(calls))
            except BaseException as problem:
                print(repr(problem), file=sys.stderr, flush=True)
                os._exit(3)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print({0: "done", -signal.SIGKILL: "killed"}.get(code, f"ended with {code}"), flush=True)


if __name__ == "__main__":
    main()
