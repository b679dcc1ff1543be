"""Random histories of versions against a model that is written down plainly."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvid_es.commands import Context
from dvid_es.errors import InvalidRequest
from dvid_es.events import Header, Record
from dvid_es.projections.catalog import load
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.repos.commands import CreateRepo
from dvid_es.repos.fold import FOLDS
from dvid_es.repos.merging import MergeVersions
from dvid_es.repos.versioning import Commit, NewVersion, SetNote, Tag

ROOT = "0" * 32
ELSEWHERE = "e" * 32
"""A version of another repository."""

FRESH = "fresh"
"""Stands for a UUID that nothing has yet."""

places = st.integers(0, 1000)
"""Which version: taken modulo their number."""

uuids = st.sampled_from([FRESH] * 6 + [ROOT, ELSEWHERE, f"{3:032x}", "short", "x" * 32])
branches = st.sampled_from([None, None, "a", "b", "tag-t1"])
_operations = {
    "commit": st.tuples(places),
    "note": st.tuples(places, st.booleans()),
    "child": st.tuples(places, branches, uuids),
    "tag": st.tuples(places, st.sampled_from(["t1", "t2", "t3", "", "a/b", ROOT, ELSEWHERE])),
    "merge": st.tuples(st.lists(places, min_size=2, max_size=3), branches, uuids),
}
_often = ["commit", "commit", "note", "child", "child", "tag", "merge"]
operations = st.sampled_from(_often).flatmap(
    lambda kind: st.tuples(st.just(kind), _operations[kind])
)


@dataclass
class Node:
    uuid: str
    branch: str
    parents: list[int]
    locked: bool = False
    note: str = ""


@dataclass
class Model:
    nodes: list[Node] = field(default_factory=lambda: [Node(ROOT, "", [])])

    def node(self, ordinal: int) -> Node:
        return self.nodes[ordinal - 1]

    def children(self, ordinal: int) -> list[Node]:
        return [node for node in self.nodes if ordinal in node.parents]

    def uuid_is_new(self, uuid: str) -> bool:
        return uuid != ELSEWHERE and all(node.uuid != uuid for node in self.nodes)

    def uuid_is_good(self, uuid: str) -> bool:
        return len(uuid) == 32 and "x" not in uuid and self.uuid_is_new(uuid)

    def branch_is_free(self, parent: int, branch: str) -> bool:
        if branch == self.node(parent).branch:
            return all(child.branch != branch for child in self.children(parent))
        return all(node.branch != branch for node in self.nodes)

    def apply(self, kind: str, *args: Any) -> bool:
        """Do one operation; return whether it is granted."""
        return getattr(self, kind)(*args)

    def commit(self, ordinal: int) -> bool:
        granted = not self.node(ordinal).locked
        self.node(ordinal).locked = True
        return granted

    def note(self, ordinal: int, admin: bool) -> bool:
        granted = admin or not self.node(ordinal).locked
        if granted:
            self.node(ordinal).note = "noted"
        return granted

    def child(self, ordinal: int, branch: str | None, uuid: str) -> bool:
        parent = self.node(ordinal)
        name = parent.branch if branch is None else branch
        granted = parent.locked and self.branch_is_free(ordinal, name) and self.uuid_is_good(uuid)
        if granted:
            self.nodes.append(Node(uuid, name, [ordinal]))
        return granted

    def tag(self, ordinal: int, tag: str) -> bool:
        branch = f"tag-{tag}"
        granted = (
            bool(tag)
            and "/" not in tag
            and self.node(ordinal).locked
            and self.branch_is_free(ordinal, branch)
            and self.uuid_is_new(tag)
        )
        if granted:
            note = f'Tag of version {self.node(ordinal).uuid} with "{tag}"'
            self.nodes.append(Node(tag, branch, [ordinal], True, note))
        return granted

    def merge(self, parents: list[int], branch: str | None, uuid: str) -> bool:
        granted = (
            len(set(parents)) == len(parents)
            and all(self.node(parent).locked for parent in parents)
            and (not branch or self.branch_is_free(parents[0], branch))
            and self.uuid_is_good(uuid)
        )
        if granted:
            self.nodes.append(Node(uuid, branch or "", list(parents)))
        return granted

    def behind(self, ordinal: int) -> set[int]:
        """A version and all its ancestors."""
        parents = (self.behind(parent) for parent in self.node(ordinal).parents)
        return {ordinal}.union(*parents)

    def line(self, branch: str) -> list[str]:
        """A branch from its leaf to the root: at a merge, its first parents, then on from the last."""
        tip = 0
        for place, node in enumerate(self.nodes, 1):
            aside = len(node.parents) > 1 and tip and tip not in self.behind(place)
            if node.branch == branch and not aside:
                tip = place
        found = []
        while tip:
            found.append(self.node(tip).uuid)
            *others, tip = self.node(tip).parents or [0]
            found += [self.node(other).uuid for other in others]
        return found


class Real:
    """Commands decided and folded as the writer does it, without a log."""

    def __init__(self, txn: LmdbTxn) -> None:
        self.txn = txn
        self.projector = Projector({kind: (fold,) for kind, fold in FOLDS.items()})
        self.sequence = 0
        self.write(CreateRepo(root=ROOT), 0)

    def write(self, command: Any, version: int) -> None:
        found = self.txn.repo.graph.by_id[version] if version else None
        context = Context(
            txn=self.txn,
            sequence=self.sequence,
            time_ns=10**18 + self.sequence,
            version=found,
            taken=lambda uuid: uuid == ELSEWHERE,
        )
        for outcome in command.decide(context).outcomes:
            header = Header(version=outcome.version or version)
            record = Record(self.sequence, context.time_ns, header, outcome.event)
            self.projector.apply(self.txn, record)
            self.sequence += 1

    def apply(self, kind: str, first: Any, *args: Any) -> bool:
        version = 0 if kind == "merge" else first
        match kind:
            case "commit":
                command: Any = Commit()
            case "note":
                command = SetNote(note="noted", unlocked=args[0])
            case "child":
                command = NewVersion(branch=args[0], uuid=args[1])
            case "tag":
                command = Tag(tag=args[0])
            case "merge":
                command = MergeVersions(parents=tuple(first), branch=args[0] or "", uuid=args[1])
        before = self.sequence
        try:
            self.write(command, version)
        except InvalidRequest:
            assert self.sequence == before
            return False
        return True


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("model"))
    yield opened
    opened.close()


def concrete(kind: str, args: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Return an operation with ordinals for places and a new UUID for a fresh one."""
    first = [place % count + 1 for place in args[0]] if kind == "merge" else args[0] % count + 1
    return kind, first, *(f"{count + 100:032x}" if arg == FRESH else arg for arg in args[1:])


@given(history=st.lists(operations, min_size=20, max_size=60))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_versions_are_granted_refused_and_kept_as_the_model_says(
    store: Store, history: list[tuple[str, tuple[Any, ...]]]
) -> None:
    with store.write() as batch:
        model, real = Model(), Real(batch.scope(ROOT, None, None))
        for kind, args in history:
            operation = concrete(kind, args, len(model.nodes))
            assert real.apply(*operation) == model.apply(*operation), operation
        graph = real.txn.repo.graph
        assert [
            Node(one.uuid, one.branch, list(one.parents), one.locked, one.note)
            for _, one in sorted(graph.by_id.items())
        ] == model.nodes
        for ordinal, version in graph.by_id.items():
            expected = [node.uuid for node in model.children(ordinal)]
            assert [graph.by_id[child].uuid for child in graph.children[ordinal]] == expected
            assert all(parent < ordinal for parent in version.parents)
        for branch in ("", "a", "b", "c", "tag-t1", "none"):
            assert [one.uuid for one in graph.branch_line(branch)] == model.line(branch)
        stored = load(real.txn)
        assert stored is not None
        assert stored.graph.by_id == graph.by_id
        assert stored.document == real.txn.repo.document
        batch.abort()
