"""Reading through versions against a slow reading of the rule, on random graphs."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvid_es.errors import InvalidRequest, VersionConflict
from dvid_es.projections import versioned
from dvid_es.projections.catalog import RepoDocument, put_repo, put_version
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.versions import UNBOUNDED, Version, VersionGraph, row_suffix, split_suffix

KEYS = [b"\0\0\0\1\x20a", b"\0\0\0\1\x20b", b"\0\0\0\1\x20c"]
START, STOP = b"\0\0\0\1\x20", b"\0\0\0\1\x21"
ROOT = "0" * 32


@dataclass
class World:
    versions: list[Version] = field(default_factory=list)
    rows: list[tuple[bytes, int, int, bytes]] = field(default_factory=list)
    """Key, version, sequence, value."""

    @property
    def graph(self) -> VersionGraph:
        return VersionGraph(self.versions)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Versions are made and written to in a random order; a row's place is its sequence.

    A version with children is committed, so nothing is written to it.
    """
    world = World([Version(id=1, uuid="1")])
    for sequence in range(draw(st.integers(5, 30))):
        ordinals = [version.id for version in world.versions]
        parents = {parent for version in world.versions for parent in version.parents}
        if draw(st.integers(0, 2)) == 0:
            count = draw(st.integers(1, min(3, len(ordinals))))
            chosen = st.lists(
                st.sampled_from(ordinals), min_size=count, max_size=count, unique=True
            )
            bound = draw(st.sampled_from([UNBOUNDED, UNBOUNDED, draw(st.integers(0, sequence))]))
            number = len(ordinals) + 1
            version = Version(
                id=number, uuid=str(number), parents=tuple(draw(chosen)), parent_bound=bound
            )
            world.versions.append(version)
        else:
            value = draw(st.sampled_from([b"", b"x", b"y", b"z"]))
            version_id = draw(st.sampled_from([n for n in ordinals if n not in parents]))
            world.rows.append((draw(st.sampled_from(KEYS)), version_id, sequence, value))
    return world


class Slow:
    """The rule, word by word: the nearest rows over all parents, without those that another one saw."""

    def __init__(self, world: World) -> None:
        self.by_id = {version.id: version for version in world.versions}
        self.rows = world.rows

    def newest(self, key: bytes, version: int, limit: int) -> tuple[int, int, bytes] | None:
        found = [
            (version, sequence, value)
            for row_key, row_version, sequence, value in self.rows
            if (row_key, row_version) == (key, version) and sequence <= limit
        ]
        return max(found, default=None)

    def met(self, key: bytes, version: int, limit: int) -> set[tuple[int, int, bytes]]:
        """The first rows on each path up from a version."""
        own = self.newest(key, version, limit)
        if own is not None:
            return {own}
        node = self.by_id[version]
        limit = min(limit, node.parent_bound)
        return {row for parent in node.parents for row in self.met(key, parent, limit)}

    def sees(self, version: int, row: tuple[int, int, bytes], limit: int = UNBOUNDED) -> bool:
        """Whether a row of a proper ancestor is visible from a version."""
        node = self.by_id[version]
        limit = min(limit, node.parent_bound)
        return any(
            (parent == row[0] and row[1] <= limit) or self.sees(parent, row, limit)
            for parent in node.parents
        )

    def nearest(self, key: bytes, version: int, at: int) -> set[tuple[int, int, bytes]]:
        met = self.met(key, version, at)
        return {
            row
            for row in met
            if not any(
                self.sees(other[0], row) or (other[0] == row[0] and other[1] > row[1])
                for other in met
            )
        }

    def read(self, key: bytes, version: int, at: int) -> bytes | None:
        values = {value for _, _, value in self.nearest(key, version, at) if value}
        if len(values) > 1:
            raise VersionConflict
        return values.pop() if values else None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("views"))
    yield opened
    opened.close()


@contextmanager
def filled(store: Store, world: World) -> Iterator[LmdbTxn]:
    """A transaction that holds a world, and is undone."""
    with store.write() as batch:
        txn = batch.scope(ROOT, None, None)
        seed(txn, *world.versions)
        for key, version, sequence, value in world.rows:
            versioned.put(txn, key, version, sequence, value)
        yield txn
        batch.abort()


def either(read: Callable[..., Any], *args: Any) -> Any:
    try:
        return read(*args)
    except VersionConflict:
        return "conflict"


@given(world=worlds(), at=st.one_of(st.just(UNBOUNDED), st.integers(0, 40)))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_reads_and_scans_follow_the_rule_at_every_version_and_sequence(
    store: Store, world: World, at: int
) -> None:
    slow = Slow(world)
    with filled(store, world) as txn:
        for version in world.versions:
            view = txn.repo.graph.view(version.id, None if at == UNBOUNDED else at)
            expected = {key: either(slow.read, key, version.id, at) for key in KEYS}
            found = {key: either(versioned.read, txn, key, view) for key in KEYS}
            assert found == expected
            readable = {k: v for k, v in expected.items() if v not in (None, "conflict")}
            assert dict(versioned.scan(txn, START, STOP, view)) == readable
            conflicts = {one.key: one for one in versioned.conflicts(txn, START, STOP, view)}
            assert set(conflicts) == {k for k, v in expected.items() if v == "conflict"}
            for key, conflict in conflicts.items():
                nearest = {row for row in slow.nearest(key, version.id, at) if row[2]}
                assert {(row.version, row.sequence, row.value) for row in conflict.rows} == nearest


@given(world=worlds())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_winner_of_a_conflict_is_what_the_first_parent_reads_if_it_reads_one_of_the_rows(
    store: Store, world: World
) -> None:
    slow = Slow(world)
    with filled(store, world) as txn:
        graph = txn.repo.graph
        for version in world.versions:
            view = graph.view(version.id)
            for conflict in versioned.conflicts(txn, START, STOP, view):
                parents = version.parents
                while len(parents) == 1:  # the conflict comes from a version merge further up
                    parents = graph.by_id[parents[0]].parents
                won = versioned.winner(conflict.rows, graph, parents)
                assert won in conflict.rows
                if version.parent_bound == UNBOUNDED and len(version.parents) > 1:
                    # Equal values may also come from a row that the conflict is not about.
                    nearest = slow.nearest(conflict.key, parents[0], UNBOUNDED)
                    read = {row for row in nearest if row[2]}
                    rows = {(row.version, row.sequence, row.value) for row in conflict.rows}
                    if len(read) == 1 and read <= rows:
                        assert (won.version, won.sequence, won.value) in read


@given(world=worlds())
@settings(max_examples=100, deadline=None)
def test_ancestors_are_what_the_parents_say_and_have_smaller_ordinals(world: World) -> None:
    graph = world.graph
    for version in world.versions:
        expected = {version.id}
        waiting = [version.id]
        while waiting:
            waiting.extend(graph.by_id[waiting.pop()].parents)
            expected.update(waiting)
        assert graph.ancestors(version.id) == sorted(expected, reverse=True)
        view = graph.view(version.id)
        for ordinal in expected:
            assert view.is_ancestor(ordinal, version.id) == (ordinal != version.id)
        line = graph.first_parents(version.id)
        assert line[-1] == 1
        assert all(
            graph.by_id[child].parents[0] == parent for child, parent in itertools.pairwise(line)
        )


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, UNBOUNDED))
def test_a_suffix_is_read_back(version: int, sequence: int) -> None:
    assert split_suffix(b"any" + row_suffix(version, sequence)) == (version, sequence)


def test_newer_rows_and_higher_ordinals_sort_first() -> None:
    order = [(3, 9), (3, 8), (2, 100), (2, 1), (1, 0)]
    assert sorted(order, key=lambda pair: row_suffix(*pair)) == order


def seed(txn: LmdbTxn, *versions: Version) -> None:
    put_repo(txn, RepoDocument(root=ROOT))
    put_version(txn, *versions)


def test_a_read_jumps_over_thousands_of_rows_that_it_may_not_see(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = KEYS[0]
    with store.write() as batch:
        txn = batch.scope(ROOT, None, None)
        seed(
            txn,
            Version(id=1, uuid="1"),
            Version(id=2, uuid="2", parents=(1,)),
            Version(id=3, uuid="3", parents=(1,), parent_bound=5),
            Version(id=4, uuid="4", parents=(2, 3)),
        )
        for sequence in range(3000):
            versioned.put(txn, key, 1, sequence, b"%d" % sequence)
        for sequence in range(3000, 6000):
            versioned.put(txn, key, 2, sequence, b"%d" % sequence)
    with store.read(ROOT) as txn:
        counted = CountingTxn(txn)
        assert versioned.read(counted, key, txn.repo.graph.view(3)) == b"5"
        assert counted.steps < 50
        counted.steps = 0
        assert versioned.read(counted, key, txn.repo.graph.view(4)) == b"5999"
        assert counted.steps < 80
        counted.steps = 0
        assert versioned.read(counted, key, txn.repo.graph.view(1, 17)) == b"17"
        assert counted.steps == 1
    store.close()


class CountingTxn:
    """Counts how often rows are asked for."""

    def __init__(self, txn: LmdbTxn) -> None:
        self.txn = txn
        self.steps = 0

    def seek(self, start: bytes):  # type: ignore[no-untyped-def]
        self.steps += 1
        return self.txn.seek(start)

    def next(self):  # type: ignore[no-untyped-def]
        self.steps += 1
        return self.txn.next()


def test_a_value_above_a_version_merge_supersedes_everything_below_at_once() -> None:
    versions = [Version(id=1, uuid="1")]
    versions += [Version(id=n, uuid=str(n), parents=(n - 1,)) for n in range(2, 500)]
    versions += [Version(id=500, uuid="500", parents=(499, 3))]
    versions += [Version(id=n, uuid=str(n), parents=(n - 1,)) for n in range(501, 600)]
    view = VersionGraph(versions).view(599)
    assert view.fork == 500
    assert view.nearest([(550, 7), (400, 6), (3, 5)]) == [0]
    assert view.nearest([(400, 6), (3, 5)]) == [0]
    # One key written in each of 499 versions below: not quadratic, so done in no time.
    assert view.nearest([(n, n) for n in range(499, 0, -1)]) == [0]


def test_a_branch_made_at_a_past_sequence_conflicts_with_what_came_after_it() -> None:
    graph = VersionGraph(
        [
            Version(id=1, uuid="1"),
            Version(id=2, uuid="2", parents=(1,), parent_bound=5),
            Version(id=3, uuid="3", parents=(1,)),
            Version(id=4, uuid="4", parents=(2, 3)),
        ]
    )
    assert graph.view(4).nearest([(2, 20), (1, 10)]) == [0, 1]
    assert graph.view(4).nearest([(2, 20), (1, 4)]) == [0]


def test_names_along_a_branch_go_on_in_its_parents() -> None:
    graph = VersionGraph(
        [
            Version(id=1, uuid="root"),
            Version(id=2, uuid="m1", parents=(1,)),
            Version(id=3, uuid="a1", branch="a", parents=(2,)),
            Version(id=4, uuid="m2", parents=(2,)),
            Version(id=5, uuid="merged", parents=(4, 3)),
        ]
    )
    assert [v.uuid for v in graph.branch_line("a")] == ["a1", "m1", "root"]
    assert [v.uuid for v in graph.branch_line("")] == ["merged", "m2", "a1", "m1", "root"]
    assert graph.branch_line("nothing") == []
    assert graph.named("a", 2).uuid == "root"
    with pytest.raises(InvalidRequest, match="out of range"):
        graph.named("a", 3)
    with pytest.raises(InvalidRequest, match="not found"):
        graph.named("b", 0)
