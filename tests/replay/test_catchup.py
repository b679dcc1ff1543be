from __future__ import annotations

import pytest

from dvid_es.errors import CorruptLog, CorruptStore, StorageFull
from dvid_es.events import BY_CLASS, BY_NUMBER, UPCASTERS, Event, Header, Record, event, upcaster
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.projections.txn import WriteTxn
from dvid_es.replay.catchup import Setbacks, catch_up, checkpoints
from dvid_es.replay.digest import digests
from tests.replay.toys import Toys, ValueSet

A, B = "a" * 32, "b" * 32


class Later(Event):
    what: str


def store_of(toys: Toys) -> Store:
    return Store(toys.places.projections)


def test_an_unknown_event_stops_and_is_never_skipped(toys: Toys) -> None:
    stream = toys.stream(A)
    toys.history(stream, 1, 20)
    event(64110, "toy.later")(Later)
    toys.append(stream, [(Later(what="new"), Header())])
    del BY_NUMBER[64110], BY_CLASS[Later]
    toys.history(stream, 2, 20)
    store = store_of(toys)
    with pytest.raises(CorruptLog, match="offset 21: event number 64110 is not known"):
        catch_up(store, toys.streams, toys.projector)
    assert checkpoints(store).get(A, 0) <= 21
    store.close()


def test_an_event_of_a_newer_schema_stops(toys: Toys) -> None:
    stream = toys.stream(A)
    event(64110, "toy.later", schema=2)(Later)
    toys.append(stream, [(Later(what="new"), Header())])
    del BY_NUMBER[64110], BY_CLASS[Later]
    event(64110, "toy.later", schema=1)(Later)
    store = store_of(toys)
    try:
        with pytest.raises(CorruptLog, match=r"toy.later of schema 2 is not known"):
            catch_up(store, toys.streams, toys.projector)
    finally:
        store.close()
        del BY_NUMBER[64110], BY_CLASS[Later]


def test_an_event_of_an_older_schema_is_brought_up(toys: Toys) -> None:
    stream = toys.stream(A)
    event(64110, "toy.later", schema=1)(Later)
    toys.append(stream, [(Later(what="old"), Header())])
    del BY_NUMBER[64110], BY_CLASS[Later]
    event(64110, "toy.later", schema=3)(Later)
    upcaster(64110, 1)(lambda fields: [fields[0] + " one"])
    upcaster(64110, 2)(lambda fields: [fields[0] + " two"])
    seen: list[str] = []

    def fold(txn: WriteTxn, record: Record) -> None:
        assert isinstance(record.event, Later)
        seen.append(record.event.what)

    store = store_of(toys)
    try:
        catch_up(store, toys.streams, Projector({**toys.projector._folds, Later: (fold,)}))
    finally:
        store.close()
        del BY_NUMBER[64110], BY_CLASS[Later], UPCASTERS[64110, 1], UPCASTERS[64110, 2]
    assert seen == ["old one two"]


def poisoned(toys: Toys, key: str) -> Projector:
    def fold(txn: WriteTxn, record: Record) -> None:
        assert isinstance(record.event, ValueSet)
        if record.event.key == key:
            raise ZeroDivisionError("a fold with a bug")

    folds = dict(toys.projector._folds)
    folds[ValueSet] = (*folds[ValueSet], fold)
    return Projector(folds)


def test_an_event_that_cannot_be_applied_is_named_and_all_before_it_are_applied(toys: Toys) -> None:
    for root in (A, B):
        toys.history(toys.stream(root), 1, 30)
    toys.append(toys.streams[0], [(ValueSet(key="poison", value=b"x"), Header(version=1))])
    toys.history(toys.streams[0], 2, 30)
    store = store_of(toys)
    projector = poisoned(toys, "poison")
    with pytest.raises(CorruptStore, match=r"offset 31 \(toy.valueset\) cannot be applied: a fold"):
        catch_up(store, toys.streams, projector)
    assert checkpoints(store)[A] == 31
    setbacks = Setbacks()
    catch_up(store, toys.streams, projector, setbacks=setbacks)
    assert list(setbacks.failed) == [A]
    assert "offset 31" in setbacks.failed[A]
    assert checkpoints(store) == {A: 31, B: 31}
    assert toys.streams[0].repo is not None
    assert toys.streams[0].repo.sequence == 30
    store.close()


def test_events_without_space_are_postponed(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.history(toys.stream(A), 1, 30)
    monkeypatch.setattr("dvid_es.replay.catchup.EVENTS_PER_TRANSACTION", 10)
    store = store_of(toys)
    apply_all = Projector.apply_all

    def full(self: Projector, txn: WriteTxn, records: list[Record]) -> int:
        if records[0].offset >= 20:
            raise StorageFull("planted")
        return apply_all(self, txn, records)

    with monkeypatch.context() as patch:
        patch.setattr(Projector, "apply_all", full)
        with pytest.raises(StorageFull):
            catch_up(store, toys.streams, toys.projector)
        setbacks = Setbacks()
        catch_up(store, toys.streams, toys.projector, setbacks=setbacks)
    assert [record.offset for record in setbacks.postponed[A]] == list(range(20, 31))
    catch_up(store, toys.streams, toys.projector)
    assert checkpoints(store) == {A: 31}
    assert digests(store, toys.kinds)
    store.close()
