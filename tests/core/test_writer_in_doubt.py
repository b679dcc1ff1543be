"""A log that does not say whether it took an append, under the writer of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

import dvid_es.bootstrap
from dvid_es.errors import LogUnavailable
from dvid_es.logs.base import Entry
from dvid_es.logs.memory import MemoryLog
from dvid_es.settings import Settings
from tests.conftest import Live


class DoubtfulLog(MemoryLog):
    """Loses its answers on demand, and knows what became of an append when it is told to."""

    stored = lost = False
    doubt = False

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.waiting: list[Callable[[], None]] = []

    def append(self, entries: Sequence[Entry]) -> int:
        if self.doubt:
            raise LogUnavailable("no broker answers")
        if self.stored:
            super().append(entries)
        if self.stored or self.lost:
            self.stored = self.lost = False
            self.doubt = True
            raise LogUnavailable("no broker answers")
        return super().append(entries)

    def settle(self, then: Callable[[], None] | None = None) -> int:
        if self.doubt:
            if then is not None:
                self.waiting.append(then)
            raise LogUnavailable("no broker answers")
        return self.end

    def answer(self) -> None:
        self.doubt = False
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then()


@pytest.fixture
def doubtful(
    settings: Settings, run_server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Live, str, DoubtfulLog]]:
    monkeypatch.setattr(dvid_es.bootstrap, "file_log", lambda _, root: DoubtfulLog(root))
    with run_server(settings) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        yield live, f"/api/node/{root}/kv", live.engine.streams.get(root).log


def refused(live: Live, path: str, value: bytes) -> None:
    answer = live.call("POST", path, value, headers={"Idempotency-Key": value.decode()})
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


def test_what_was_stored_after_all_is_seen_once_and_without_another_write(doubtful):
    live, kv, log = doubtful
    log.stored = True
    refused(live, f"{kv}/key/a", b"one")
    refused(live, f"{kv}/key/a", b"two")
    assert live.ok("GET", f"{kv}/keys").json() == [], "reads go on, and show what is sure"
    before = log.end
    log.answer()
    assert live.ok("GET", f"{kv}/key/a", min_seq=before - 1).body == b"one"
    again = live.call("POST", f"{kv}/key/a", b"one", headers={"Idempotency-Key": "one"})
    assert (again.status, again.headers["x-dvid-es-seq"]) == (200, str(before - 1))
    assert log.end == before, "the same request is not applied again"


def test_what_was_not_stored_leaves_nothing_behind(doubtful):
    live, kv, log = doubtful
    live.ok("POST", f"{kv}/key/a", b"zero")
    log.lost = True
    refused(live, f"{kv}/key/a", b"one")
    before = log.end
    log.answer()
    assert live.ok("GET", f"{kv}/key/a").body == b"zero"
    live.ok("POST", f"{kv}/key/a", b"two")
    assert log.end == before + 1
    assert live.ok("GET", f"{kv}/key/a").body == b"two"


def test_a_repository_whose_creation_was_in_doubt_appears_when_it_is_known(doubtful):
    live, _, log = doubtful
    genuine = DoubtfulLog.append

    def append(self: DoubtfulLog, entries: Sequence[Entry]) -> int:
        if self is not log:
            self.stored = not self.end
            made.append(self)
        return genuine(self, entries)

    made: list[DoubtfulLog] = []
    DoubtfulLog.append = append  # type: ignore[method-assign]
    try:
        root = "c" * 32
        answer = live.call("POST", "/api/repos", json_body={"alias": "new", "root": root})
    finally:
        DoubtfulLog.append = genuine  # type: ignore[method-assign]
    assert answer.status == 503
    made[0].answer()
    waited = live.call("POST", "/api/repos", json_body={"alias": "new", "root": root})
    assert waited.status == 400
    assert root in live.ok("GET", "/api/repos/info").json()
