from __future__ import annotations

import shutil
import threading

import pytest

from dvid_es.errors import SettingsError
from dvid_es.logs.disk import DISK, lock_folder
from dvid_es.projections.store import Store
from dvid_es.replay import snapshot
from dvid_es.replay.catchup import catch_up, checkpoints
from dvid_es.replay.digest import digests
from dvid_es.replay.opening import open_store
from tests.replay.toys import Toys

A = "a" * 32


def start(toys: Toys) -> tuple[Store, int]:
    store = open_store(toys.places, toys.ends)
    return store, catch_up(store, toys.streams, toys.projector)


def fill(toys: Toys, count: int) -> Store:
    toys.history(toys.stream(A), 1, count)
    return start(toys)[0]


def test_a_start_without_a_store_goes_on_from_the_newest_snapshot(toys: Toys) -> None:
    store = fill(toys, 300)
    taken = snapshot.take(toys.places, toys.kinds, 5, store=store)
    assert taken is not None
    assert taken.manifest.offsets == {A: 301}
    assert taken.manifest.parts == digests(store, toys.kinds)
    toys.history(toys.streams[0], 2, 40)
    catch_up(store, toys.streams, toys.projector)
    expected = digests(store, toys.kinds)
    store.close()
    shutil.rmtree(toys.places.projections)
    store, applied = start(toys)
    assert applied == 40
    assert digests(store, toys.kinds) == expected
    store.close()


def test_a_damaged_store_is_replaced_from_a_snapshot(toys: Toys) -> None:
    store = fill(toys, 3000)
    expected = digests(store, toys.kinds)
    snapshot.take(toys.places, toys.kinds, 5, store=store)
    store.close()  # not marked as clean
    data = toys.places.projections / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(8192)
    store, applied = start(toys)
    assert applied == 0
    assert digests(store, toys.kinds) == expected
    store.close()


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(toys: Toys) -> None:
    store = fill(toys, 300)
    snapshot.take(toys.places, toys.kinds, 5, store=store)
    toys.history(toys.streams[0], 2, 40)
    catch_up(store, toys.streams, toys.projector)
    taken = snapshot.take(toys.places, toys.kinds, 6, store=store)
    assert taken is not None
    store.close()
    data = bytearray((taken.folder / "data.mdb").read_bytes())
    data[len(data) // 2] ^= 1
    (taken.folder / "data.mdb").write_bytes(data)
    assert snapshot.check(taken) == "its bytes are not those written"
    found = snapshot.restore_newest(toys.places, toys.ends)
    assert found is not None
    assert found.name == "00000001"
    (found.folder / "manifest.json").write_text("{}")
    assert snapshot.restore_newest(toys.places, toys.ends) is None
    assert not toys.places.rebuild.exists()


def test_a_snapshot_of_another_layout_is_passed_over(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(toys, 10).close()
    assert snapshot.take(toys.places, toys.kinds, 5)
    monkeypatch.setattr("dvid_es.replay.snapshot.LAYOUT", 77)
    assert snapshot.restore_newest(toys.places, toys.ends) is None


def test_only_the_newest_snapshots_are_kept(toys: Toys) -> None:
    fill(toys, 10).close()
    for time_ns in range(5):
        snapshot.take(toys.places, toys.kinds, time_ns, keep=2)
    assert [found.name for found in snapshot.listing(toys.places)] == ["00000005", "00000004"]


def test_without_a_store_there_is_no_snapshot(toys: Toys) -> None:
    assert snapshot.take(toys.places, toys.kinds, 5) is None


def test_two_snapshots_at_once_are_refused(toys: Toys) -> None:
    fill(toys, 10).close()
    snapshot.take(toys.places, toys.kinds, 5)
    lock = lock_folder(DISK, toys.places.snapshots)
    with pytest.raises(SettingsError, match="in use"):
        snapshot.take(toys.places, toys.kinds, 6)
    DISK.close(lock)
    assert len(snapshot.listing(toys.places)) == 1


def test_an_unfinished_snapshot_is_never_used_and_is_removed_by_the_next(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(toys, 10).close()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DISK, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            snapshot.take(toys.places, toys.kinds, 5)
    assert snapshot.listing(toys.places) == []
    assert snapshot.take(toys.places, toys.kinds, 6) is not None
    assert [path.name for path in toys.places.snapshots.iterdir() if path.is_dir()] == ["00000001"]


def test_a_snapshot_taken_while_events_are_applied_is_one_consistent_state(toys: Toys) -> None:
    store = fill(toys, 50)
    failures: list[BaseException] = []
    stop = threading.Event()

    def write() -> None:
        try:
            seed = 10
            while not stop.is_set():
                toys.history(toys.streams[0], seed, 20)
                catch_up(store, toys.streams, toys.projector)
                seed += 1
        except BaseException as problem:
            failures.append(problem)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        taken = [snapshot.take(toys.places, toys.kinds, n, keep=100, store=store) for n in range(6)]
    finally:
        stop.set()
        writer.join()
    assert not failures
    for found in taken:
        assert found is not None
        upto = found.manifest.offsets
        aside = toys.places.data / "aside"
        other = Store(aside, scratch=True)
        catch_up(other, toys.streams, toys.projector, upto=upto)
        assert checkpoints(other) == upto
        assert digests(other, toys.kinds) == found.manifest.parts
        other.close()
        shutil.rmtree(aside)
    store.close()
