from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvid_es.errors import InvalidRequest
from dvid_es.logs.disk import DISK
from dvid_es.projections.store import Store
from dvid_es.replay import places as swaps
from dvid_es.replay.catchup import catch_up, checkpoints
from dvid_es.replay.digest import digests
from dvid_es.replay.opening import open_store
from dvid_es.replay.rebuild import build, rebuild
from dvid_es.replay.verify import verify
from tests.replay.toys import Toys

A, B = "a" * 32, "b" * 32


def fill(toys: Toys, count: int = 300) -> list[object]:
    for seed, root in enumerate((A, B)):
        toys.history(toys.stream(root), seed, count)
    store = open_store(toys.places, toys.ends)
    catch_up(store, toys.streams, toys.projector)
    store.sync()
    store.close()
    swaps.mark_clean(toys.places)
    return seen(toys.places.projections, toys)


def seen(folder: Path, toys: Toys) -> list[object]:
    store = Store(folder, read_only=True)
    try:
        return [checkpoints(store), *digests(store, toys.kinds)]
    finally:
        store.close()


def spoil(toys: Toys, root: str, key: bytes, value: bytes) -> None:
    store = Store(toys.places.projections)
    with store.write() as batch:
        batch.scope(root, None, None).put(key, value)
    store.close()


def test_a_rebuilt_store_has_equal_digests(toys: Toys) -> None:
    before = fill(toys)
    assert rebuild(toys.places, toys.streams, toys.projector) == 602
    assert seen(toys.places.projections, toys) == before
    assert swaps.was_clean(toys.places)


def test_digests_do_not_depend_on_the_numbers_of_repositories(toys: Toys) -> None:
    before = fill(toys)
    build(toys.places.rebuild, reversed(toys.streams), toys.projector)
    assert seen(toys.places.rebuild, toys) == before


def test_a_digest_sees_any_change_of_a_row(toys: Toys) -> None:
    before = fill(toys)
    for key, value in (
        (b"\0\0\0\1\xc8extra", b"x"),
        (b"\0\0\0\1\xc8extra", b"y"),
        (b"\0\0\0\2\x20", b""),
    ):
        spoil(toys, A, key, value)
        after = seen(toys.places.projections, toys)
        assert after != before
        before = after


def test_caches_are_no_part_of_a_digest(toys: Toys) -> None:
    before = fill(toys)
    spoil(toys, A, b"\0\0\0\1\xc9" + b"k", b"anything")
    assert seen(toys.places.projections, toys) == before


def test_one_repository_is_rebuilt_and_the_other_stays_as_it_is(toys: Toys) -> None:
    before = fill(toys)
    for root in (A, B):
        spoil(toys, root, b"\0\0\0\1\xc8spoiled", b"x")
    assert rebuild(toys.places, toys.streams, toys.projector, root=A) == 301
    after = seen(toys.places.projections, toys)
    assert [part for part in after if getattr(part, "root", A) == A] == [
        part for part in before if getattr(part, "root", A) == A
    ]
    assert after != before


def test_an_unknown_repository_is_refused_and_nothing_changes(toys: Toys) -> None:
    before = fill(toys)
    with pytest.raises(InvalidRequest, match="could not find repository"):
        rebuild(toys.places, toys.streams, toys.projector, root="c" * 32)
    assert seen(toys.places.projections, toys) == before
    assert not toys.places.rebuild.exists()


def test_a_store_can_be_built_up_to_an_offset(toys: Toys) -> None:
    fill(toys)
    build(toys.places.rebuild, toys.streams, toys.projector, upto={A: 100, B: 0})
    assert seen(toys.places.rebuild, toys)[0] == {A: 100}


class Crash(BaseException):
    pass


def crashing(call: Callable[..., Any], at: int) -> tuple[Callable[..., Any], list[int]]:
    """Return `call` so that its `at`-th use raises instead; and the list of its uses."""
    uses: list[int] = []

    def wrapped(*args: Any) -> Any:
        uses.append(1)
        if len(uses) == at:
            raise Crash
        return call(*args)

    return wrapped, uses


@pytest.mark.parametrize("after_the_call", [False, True])
def test_a_crash_at_any_rename_of_a_swap_leaves_a_whole_store(
    toys: Toys, monkeypatch: pytest.MonkeyPatch, after_the_call: bool
) -> None:
    before = fill(toys)
    rename = DISK.rename
    crashes = 0
    for at in range(1, 10):
        spoil(toys, A, b"\0\0\0\1\xc8spoiled", b"%d" % at)
        uses = 0

        def crash(old: Path, new: Path, at: int = at) -> None:
            nonlocal uses
            uses += 1
            if uses == at and not after_the_call:
                raise Crash
            rename(old, new)
            if uses == at:
                raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(DISK, "rename", crash)
            try:
                rebuild(toys.places, toys.streams, toys.projector)
                break
            except Crash:
                crashes += 1
        store = open_store(toys.places, toys.ends)
        catch_up(store, toys.streams, toys.projector)
        spoiled = store_has(store, A, b"\0\0\0\1\xc8spoiled")
        store.close()
        left = {path.name for path in toys.places.data.iterdir() if "projections" in path.name}
        assert left == {"projections"}
        # the second rename decides: from then on the new store is the one to be
        assert spoiled == (at < 2 or (at == 2 and not after_the_call))
    assert crashes >= 2
    assert seen(toys.places.projections, toys) == before


def store_has(store: Store, root: str, key: bytes) -> bool:
    with store.read(root) as txn:
        return txn.get(key) is not None


def test_verify_finds_nothing_where_nothing_is_wrong(toys: Toys, tmp_path: Path) -> None:
    fill(toys)
    live = Store(toys.places.projections, read_only=True)
    report = verify(live, toys.streams, toys.projector, toys.kinds, tmp_path / "aside")
    live.close()
    assert report.differences == []
    assert report.events == {A: 301, B: 301}
    assert {part.name for part in report.parts} >= {"toy values", "versions", "idempotency keys"}


def test_verify_says_the_first_differing_key_and_both_values(toys: Toys, tmp_path: Path) -> None:
    fill(toys)
    live = Store(toys.places.projections)
    with live.write() as batch:
        txn = batch.scope(A, None, None)
        rows = list(txn.scan(b"\0\0\0\1\xc8", b"\0\0\0\1\xc9"))
        (changed, value), (lost, _) = rows[10], rows[20]
        txn.put(changed, b"other")
        txn.delete(lost)
        batch.scope(B, None, None).put(b"\0\0\0\1\xc8added", b"new")
    report = verify(live, toys.streams, toys.projector, toys.kinds, tmp_path / "aside")
    live.close()
    first, second = report.differences
    assert (first.root, first.name, first.instance) == (A, "toy values", 1)
    assert bytes.fromhex(first.key) == changed
    assert (first.live, first.rebuilt) == (b"other".hex(), value.hex()[:128] + first.rebuilt[128:])
    assert (second.root, second.live, second.rebuilt) == (B, b"new".hex(), None)


def test_verify_compares_at_the_events_that_the_store_holds(toys: Toys, tmp_path: Path) -> None:
    fill(toys)
    toys.history(toys.streams[0], 9, 50)
    live = Store(toys.places.projections, read_only=True)
    report = verify(live, toys.streams, toys.projector, toys.kinds, tmp_path / "aside")
    live.close()
    assert report.differences == []
    assert report.events[A] == 301


def test_a_rebuild_that_fails_leaves_the_old_store(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(toys)
    broken, _ = crashing(toys.projector.apply_all, 2)
    monkeypatch.setattr(toys.projector, "apply_all", broken)
    with pytest.raises(Crash):
        rebuild(toys.places, toys.streams, toys.projector)
    assert seen(toys.places.projections, toys) == before
    assert not toys.places.rebuild.exists()
    shutil.rmtree(toys.places.projections)
