from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvid_es.errors import CorruptStore
from dvid_es.events import decode
from dvid_es.projections.store import Store
from dvid_es.replay import places as swaps
from dvid_es.replay.catchup import catch_up, checkpoints
from dvid_es.replay.digest import digests
from dvid_es.replay.opening import examine_apart, open_store
from dvid_es.replay.rebuild import rebuild
from dvid_es.replay.snapshot import listing, take
from tests.replay.toys import Toys

A, B = "a" * 32, "b" * 32


def start(toys: Toys) -> Store:
    store = open_store(toys.places, toys.ends)
    try:
        catch_up(store, toys.streams, toys.projector)
    except BaseException:
        store.close()
        raise
    return store


def stop(toys: Toys, store: Store) -> None:
    store.sync()
    store.close()
    swaps.mark_clean(toys.places)


def seen(toys: Toys) -> list[object]:
    store = Store(toys.places.projections, read_only=True)
    try:
        return [checkpoints(store), *digests(store, toys.kinds)]
    finally:
        store.close()


def filled(toys: Toys, count: int = 400) -> list[object]:
    for seed, root in enumerate((A, B)):
        toys.history(toys.stream(root), seed, count)
    stop(toys, start(toys))
    return seen(toys)


def test_a_start_applies_all_events(toys: Toys) -> None:
    found = filled(toys)
    assert found[0] == {A: 401, B: 401}
    assert len(found) > 8


def test_a_deleted_store_comes_back_the_same(toys: Toys) -> None:
    before = filled(toys)
    shutil.rmtree(toys.places.projections)
    stop(toys, start(toys))
    assert seen(toys) == before


def test_only_the_tail_is_applied_at_the_next_start(toys: Toys) -> None:
    filled(toys)
    toys.history(toys.streams[0], 7, 30)
    store = open_store(toys.places, toys.ends)
    assert catch_up(store, toys.streams, toys.projector) == 30
    store.close()


def test_catching_up_in_small_steps_gives_the_same(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled(toys)
    shutil.rmtree(toys.places.projections)
    monkeypatch.setattr("dvid_es.replay.catchup.EVENTS_PER_TRANSACTION", 7)
    stop(toys, start(toys))
    assert seen(toys) == before


def test_after_a_clean_stop_nothing_is_examined(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(toys)
    calls: list[Path] = []
    monkeypatch.setattr("dvid_es.replay.opening.examine_apart", calls.append)
    start(toys).close()  # without the marker of a clean stop
    assert calls == []
    start(toys).close()
    assert calls == [toys.places.projections]


def test_a_store_that_the_last_stop_tore_is_set_aside_and_made_anew(toys: Toys) -> None:
    before = filled(toys, 3000)
    start(toys).close()  # unclean
    data = toys.places.projections / "data.mdb"
    with data.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * (data.stat().st_size - 2 * 4096))
    stop(toys, start(toys))
    assert (toys.places.damaged / "data.mdb").exists()
    assert seen(toys) == before


def test_a_store_cut_short_is_found_by_the_child_and_kills_nobody(toys: Toys) -> None:
    before = filled(toys, 3000)
    start(toys).close()  # unclean
    data = toys.places.projections / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(3 * 4096)
    with pytest.raises(CorruptStore):
        examine_apart(toys.places.projections)
    stop(toys, start(toys))
    assert seen(toys) == before


def test_a_sound_store_is_examined_and_kept(toys: Toys) -> None:
    filled(toys)
    rows = examine_apart(toys.places.projections)
    assert rows > 800


def test_a_store_of_another_layout_is_made_anew(toys: Toys) -> None:
    before = filled(toys)
    (toys.places.projections / "LAYOUT").write_text("0\n")
    stop(toys, start(toys))
    assert seen(toys) == before


def test_a_store_ahead_of_its_log_is_refused_with_both_numbers(toys: Toys) -> None:
    before = filled(toys)
    toys.close()
    shutil.rmtree(toys.places.repos / A / "log")
    toys.stream(A)
    toys.stream(B)
    with pytest.raises(CorruptStore, match=r"hold 401 events, its log only 1\b"):
        start(toys)
    assert seen(toys) == before
    assert rebuild(toys.places, toys.streams, toys.projector) == 402
    stop(toys, start(toys))


def test_a_repository_whose_folder_is_gone_is_refused(toys: Toys) -> None:
    filled(toys)
    toys.close()
    shutil.rmtree(toys.places.repos / A)
    toys.stream(B)
    with pytest.raises(CorruptStore, match=r"hold 401 events, its log only 0\b"):
        start(toys)


def test_a_snapshot_ahead_of_its_log_is_refused_when_the_store_is_gone_too(toys: Toys) -> None:
    filled(toys)
    assert take(toys.places, toys.kinds, 1) is not None
    toys.close()
    shutil.rmtree(toys.places.repos / A)
    shutil.rmtree(toys.places.projections)
    toys.stream(B)
    with pytest.raises(CorruptStore, match=r"hold 401 events, its log only 0\b"):
        start(toys)
    rebuild(toys.places, toys.streams, toys.projector)
    assert listing(toys.places) == []
    stop(toys, start(toys))


def test_replay_leaves_what_the_writer_left_by_applying_one_by_one(toys: Toys) -> None:
    stream = toys.stream(A)
    toys.history(stream, 3, 300)
    one_by_one = Store(toys.places.data / "one")
    for stored in stream.log.read():
        with one_by_one.write() as batch:
            toys.projector.apply(batch.scope(A, None, stream.packs), decode(*stored))
    at_once = Store(toys.places.data / "all")
    catch_up(at_once, toys.streams, toys.projector)
    assert digests(one_by_one, toys.kinds) == digests(at_once, toys.kinds)
    one_by_one.close()
    at_once.close()
