"""One total order that respects real time: concurrent clients, checked against a replay of the order.

Every answer carries a sequence. Writes have distinct ones; what ended before something else began has the
smaller one; and every value read is the one that the writes up to the read's sequence leave.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dvid_es.events import BY_CLASS, decode
from dvid_es.projections.catalog import Repo
from dvid_es.projections.store import Store
from dvid_es.streams import Stream
from tests.conftest import Live
from tests.reliability.forked import Connection, now

KEYS = 5


class Operation(NamedTuple):
    client: int
    began: float
    ended: float
    sequence: int
    key: str
    writes: bool
    value: bytes | None


def client(live: Live, path: str, number: int, count: int, found: list[Operation]) -> None:
    dice = random.Random(number)
    connection = Connection(live.port)
    try:
        for turn in range(count):
            key = f"k{dice.randrange(KEYS)}"
            kind = dice.random()
            began = now()
            if kind < 0.5:
                value: bytes | None = b"%d of %d" % (turn, number)
                answer = connection.call("POST", f"{path}/key/{key}", value)
                assert answer.status == 200
            elif kind < 0.6:
                answer, value = connection.call("DELETE", f"{path}/key/{key}"), None
                assert answer.status == 200
            else:
                answer = connection.call("GET", f"{path}/key/{key}")
                assert answer.status in (200, 404)
                value = answer.body if answer.status == 200 else None
            writes = kind < 0.6
            found.append(Operation(number, began, now(), answer.sequence, key, writes, value))
    finally:
        connection.close()


def record(live: Live, clients: int, count: int) -> list[Operation]:
    path = live.new_instance(live.new_repo(), "keyvalue", "kv")
    live.ok("POST", f"{path}/key/k0", b"first")
    live.ok("DELETE", f"{path}/key/k0")
    found: list[Operation] = []
    threads = [
        threading.Thread(target=client, args=(live, path, number, count, found))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == clients * count
    return found


def check(found: list[Operation]) -> None:
    writes = sorted((one for one in found if one.writes), key=lambda one: one.sequence)
    # A delete of what is not there changes nothing: its sequence is that of the state it saw.
    values = [one.sequence for one in writes if one.value is not None]
    assert len(set(values)) == len(values), "two writes have one place in the order"
    by_time = sorted(found, key=lambda one: one.ended)
    latest: dict[bool, int] = {True: -1, False: -1}
    done = 0
    for one in sorted(found, key=lambda one: one.began):
        while by_time[done].ended < one.began:
            past = by_time[done]
            latest[past.writes] = max(latest[past.writes], past.sequence)
            done += 1
        assert one.sequence >= latest[True], f"{one} does not see what ended before it began"
        assert one.sequence >= latest[False], f"{one} goes back behind an earlier read"
        if one.value is not None and one.writes:
            assert one.sequence > max(latest.values()), f"{one} is ordered before its past"
    for one in found:
        if not one.writes:
            before = [w for w in writes if w.key == one.key and w.sequence <= one.sequence]
            expected = before[-1].value if before else None
            assert one.value == expected, f"{one} is not what the order leaves: {expected!r}"


def test_concurrent_clients_see_one_order_that_respects_time(live: Live) -> None:
    check(record(live, clients=8, count=120))


def test_answers_equal_the_replay_of_the_log(live: Live) -> None:
    found = record(live, clients=4, count=60)
    (stream,) = live.engine.streams.all()
    replayed = replay(stream)
    for one in found:
        if one.writes and one.value is not None:
            assert replayed[one.sequence] == (one.key, one.value)


def replay(stream: Stream) -> dict[int, tuple[str, bytes]]:
    values = {}
    for stored in stream.log.read():
        event: Any = decode(*stored).event
        if BY_CLASS[type(event)].name == "keyvalue.put":
            (key,), (value,) = event.keys, event.values
            values[stored.offset] = key, value
    return values


def test_the_recipe_catches_reads_that_are_stale(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_read = Store.begin_read

    def stale(self: Store, repo: Repo, bulk: Any, at: int | None = None) -> Any:
        return begin_read(self, repo, bulk, repo.sequence - 3 if at is None else at)

    monkeypatch.setattr(Store, "begin_read", stale)
    found = record(live, clients=4, count=40)
    with pytest.raises(AssertionError, match="not what the order leaves"):
        check(found)


def test_the_recipe_catches_an_order_that_disagrees_with_time(live: Live) -> None:
    found = record(live, clients=4, count=40)
    check(found)
    writes = sorted((one for one in found if one.writes and one.value), key=lambda one: one.ended)
    first = writes[0]
    last = next(one for one in reversed(writes) if one.began > first.ended)
    places = {first: last.sequence, last: first.sequence}
    with pytest.raises(AssertionError):
        check([one._replace(sequence=places.get(one, one.sequence)) for one in found])


def test_the_data_folder_is_private(live: Live) -> None:
    folder = Path(live.engine.store.folder).parent
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
