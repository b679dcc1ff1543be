"""Measures export and queries over a long synthetic history; no test, run it on a quiet machine.

    python -m tests.analytics.measure FOLDER [MUTATIONS]

FOLDER/log is made if it is not there. Everything runs as in a server, but for HTTP.
"""

from __future__ import annotations

import re
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dvid_es.analytics.export import Source, export
from dvid_es.analytics.service import Analytics, Limits, Query, Subject
from dvid_es.bootstrap import described
from dvid_es.logs.base import Entry
from dvid_es.logs.filelog import FileLog
from tests.analytics.synthetic import ROOT, synthetic_repo, write_history

PAGE = Path(__file__).parents[2] / "docs" / "analytics.md"
PARAMETERS: dict[str, Any] = {
    "Edits that survived": {"since": "2025-05-20"},
    "History of a body": {"body": 1_000_123},
    "Contested bodies": {"since": "2024-06-18", "times": 20},
    "Top merged bodies": {"since": "2024-06-18"},
}


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:<60} {value:>12,.2f} {unit}", flush=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


class Bench:
    def __init__(self, folder: Path, log: FileLog) -> None:
        self.folder, self.log, self.repo = folder, log, synthetic_repo()
        self.analytics = Analytics(
            folder / "exports", described(), Limits(), folder / "scratch", lambda _: ["false"]
        )

    def export(self) -> Any:
        source = Source(self.repo, self.log, self.log.end, bytes, None)  # type: ignore[arg-type]
        return export(source, self.folder / "exports" / ROOT, described())

    def ask(self, sql: str, parameters: Any = None) -> bytes:
        repo = msgspec.structs.replace(self.repo, sequence=self.log.end - 1)
        subject = Subject(ROOT, lambda: repo, self.log, bytes, None, lambda *_: 1)  # type: ignore[arg-type]
        with self.analytics.slot() as job:
            return self.analytics.answer(Query(sql, parameters), subject, job).body


def main() -> None:
    folder = Path(sys.argv[1])
    mutations = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000_000
    if not (folder / "log").exists():
        write_history(folder / "log", mutations).close()
    shutil.rmtree(folder / "exports", ignore_errors=True)
    log = FileLog(folder / "log")
    bench = Bench(folder, log)
    cpu = time.process_time()
    seconds, manifest = timed(bench.export)
    events = manifest.upto
    say("export", events / seconds, "events/s")
    say("export, of processor time", events / (time.process_time() - cpu), "events/s")
    say("size", sum(part.bytes for part in manifest.parts) / events, "bytes/event")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say("memory of the export, at most", peak, "MiB")
    more = events // 100
    log.close()
    log = write_history(folder / "log", log.end + more, more=log.end)
    bench.log = log
    say(
        f"first query with {more} events not exported", timed(lambda: bench.ask("SELECT 1"))[0], "s"
    )
    say("the same again", timed(lambda: bench.ask("SELECT count(*) FROM events"))[0], "s")
    say("export of 1 % more", timed(bench.export)[0], "s")
    say("export of nothing more", timed(bench.export)[0], "s")
    for title, sql in re.findall(r"^### (.*?)\n.*?```sql\n(.*?)```", PAGE.read_text(), re.M | re.S):
        took = [timed(lambda: bench.ask(sql, PARAMETERS.get(title)))[0] for _ in range(5)]  # noqa: B023
        say(title, statistics.median(took), "s")
    seen = []
    for _ in range(10):
        log.append([Entry(*next(log.read(1000, 1001))[1:])])
        log.sync()
        seconds, body = timed(lambda: bench.ask("SELECT max(seq) FROM events"))
        assert msgspec.json.decode(body)["rows"] == [[log.end - 1]]
        seen.append(seconds)
    say("from an acknowledged event to its answer, longest of 10", max(seen), "s")
    bench.analytics.close()
    log.close()


if __name__ == "__main__":
    main()
