"""The version graph of a repository: names, ancestry, and views of temporal rows. Pure.

A version is an ordinal, given in the order of creation, so an ancestor's is always smaller.
A `View` says which rows a read may see: for each version of an ancestry, up to which sequence.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import msgspec

from dvid_es.errors import InvalidRequest
from dvid_es.ids import VersionId

UNBOUNDED = 2**64 - 1
"""A bound that hides nothing."""

_pack_suffix = struct.Struct(">IQ").pack


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the graph."""

    id: int
    """Ordinal, from 1."""

    uuid: str
    """Public name: 32 hexadecimal digits, or the text of a tag."""

    branch: str = ""
    """Name of the branch; "" is the one that clients call master."""

    parents: tuple[int, ...] = ()
    """Ordinals, the first one being the default line of descent."""

    parent_bound: int = UNBOUNDED
    """Last sequence of the parents (and theirs) that this version sees; a branch at a past mutation."""

    note: str = ""
    log: tuple[str, ...] = ()
    """Lines as shown: time, two spaces, message."""

    locked: bool = False
    created_ns: int = 0
    updated_ns: int = 0


class View:
    """Which rows a read sees: the versions of an ancestry, each up to a sequence."""

    __slots__ = (
        "bounds",
        "fork",
        "limits",
        "linear",
        "parents",
        "seek_suffix",
        "sequence",
        "version",
    )

    def __init__(
        self,
        version: int,
        bounds: Mapping[int, int],
        parents: Mapping[int, tuple[int, ...]],
        sequence: int = UNBOUNDED,
        limits: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Make a view.

        Args:
            version: the ordinal read at.
            bounds: last sequence seen of it and of all its ancestors, by ordinal (inclusive).
            parents: of every version of the graph, by ordinal.
            sequence: bounds everything (`?at=`).
            limits: `parent_bound` of the versions that have one.
        """
        self.version = version
        self.bounds = bounds
        self.parents = parents
        self.sequence = sequence
        self.limits = limits
        self.fork = self._first_merge()
        """The newest version merge seen; 0 if there is none. Versions from there on are one line: what
        is found in one of them supersedes everything below."""
        self.linear = not self.fork
        # The newest row that this view may see sorts first from here on: both parts descend.
        self.seek_suffix = row_suffix(version, bounds[version])

    def at(self, sequence: int) -> "View":
        """Return this view as it was just after the event at `sequence`."""
        bounds = {ordinal: min(bound, sequence) for ordinal, bound in self.bounds.items()}
        return View(self.version, bounds, self.parents, min(self.sequence, sequence), self.limits)

    def _first_merge(self) -> int:
        version = self.version
        while parents := self.parents.get(version):
            if len(parents) > 1:
                return version
            version = parents[0]
        return 0

    def is_ancestor(self, ordinal: int, of: int) -> bool:
        """Say whether `ordinal` is a proper ancestor of `of`, both within this view."""
        waiting = [of]
        seen: set[int] = set()
        while waiting:
            for parent in self.parents.get(waiting.pop(), ()):
                if parent == ordinal:
                    return True
                if parent > ordinal and parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return False

    def nearest(self, found: Sequence[tuple[int, int]]) -> list[int]:
        """Return the places of the rows that no other one supersedes.

        A row is superseded by one at a version that sees it, unless both are of the same version.

        Args:
            found: version and sequence of the newest visible row of each version that has one, the
                highest ordinal first; all are rows of one key that this view sees.
        """
        if found[0][0] >= self.fork:
            return [0]
        lowest = found[-1][0]
        covered: dict[int, int] = {}
        kept = []
        for place, (version, sequence) in enumerate(found):
            if covered.get(version, -1) < sequence:
                kept.append(place)
            self._cover(version, lowest, covered)
        return kept

    def _cover(self, version: int, lowest: int, covered: dict[int, int]) -> None:
        """Note up to which sequence `version` sees each of its ancestors, down to `lowest`."""
        waiting = [(version, UNBOUNDED)]
        while waiting:
            ordinal, limit = waiting.pop()
            limit = min(limit, self.limits.get(ordinal, UNBOUNDED))
            for parent in self.parents.get(ordinal, ()):
                if parent >= lowest and covered.get(parent, -1) < limit:
                    covered[parent] = limit
                    waiting.append((parent, limit))


def row_suffix(version: int, sequence: int) -> bytes:
    """Return the 12 bytes that end a temporal key: descending ordinal, descending sequence."""
    return _pack_suffix(0xFFFFFFFF - version, UNBOUNDED - sequence)


def split_suffix(key: bytes) -> tuple[int, int]:
    """Return version and sequence of a temporal key."""
    return (
        0xFFFFFFFF - int.from_bytes(key[-12:-8], "big"),
        UNBOUNDED - int.from_bytes(key[-8:], "big"),
    )


class VersionGraph:
    """All versions of one repository. Immutable: a change makes another graph."""

    def __init__(self, versions: Iterable[Version]) -> None:
        """Index the versions; the first one is the root."""
        self.by_id: dict[int, Version] = {version.id: version for version in versions}
        self.by_uuid: dict[str, Version] = {v.uuid: v for v in self.by_id.values()}
        self._views: dict[int, View] = {}

    @property
    def root(self) -> Version:
        """The first version."""
        return self.by_id[1]

    @property
    def next_id(self) -> VersionId:
        """The ordinal that the next new version gets."""
        return VersionId(max(self.by_id, default=0) + 1)

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """Children of each version, in order of creation."""
        found: dict[int, list[int]] = {ordinal: [] for ordinal in self.by_id}
        for version in self.by_id.values():
            for parent in dict.fromkeys(version.parents):
                found[parent].append(version.id)
        return {ordinal: tuple(sorted(ids)) for ordinal, ids in found.items()}

    @cached_property
    def parents(self) -> dict[int, tuple[int, ...]]:
        """Parents of each version."""
        return {version.id: version.parents for version in self.by_id.values()}

    @cached_property
    def limits(self) -> dict[int, int]:
        """`parent_bound` of the versions that do not see all of their parents."""
        return {v.id: v.parent_bound for v in self.by_id.values() if v.parent_bound < UNBOUNDED}

    def view(self, version: int, at: int | None = None) -> View:
        """Return what a read at `version` sees, as of the sequence `at` if that is given."""
        found = self._views.get(version)
        if found is None:
            bounds: dict[int, int] = {}
            self._collect(version, UNBOUNDED, bounds)
            found = View(version, bounds, self.parents, limits=self.limits)
            self._views[version] = found
        return found if at is None else found.at(at)

    def _collect(self, version: int, bound: int, bounds: dict[int, int]) -> None:
        waiting = [(version, bound)]
        while waiting:
            ordinal, limit = waiting.pop()
            if bounds.get(ordinal, -1) >= limit:
                continue  # met before on a path that sees at least as much
            bounds[ordinal] = limit
            node = self.by_id[ordinal]
            waiting.extend((parent, min(limit, node.parent_bound)) for parent in node.parents)

    def ancestors(self, version: int) -> list[int]:
        """Return `version` and all its ancestors over all parents, newest first."""
        return sorted(self.view(version).bounds, reverse=True)

    def first_parents(self, version: int) -> list[int]:
        """Return `version` and its line of first parents down to the root."""
        line = [version]
        while parents := self.by_id[line[-1]].parents:
            line.append(parents[0])
        return line

    def leaf(self, branch: str) -> Version | None:
        """Return the newest version of a branch, or None if there is no such branch.

        A merge of versions, which is on master unless it is told otherwise, continues a branch only if it
        descends from its leaf: merging two side branches moves no master that goes on beside them.
        """
        leaf = None
        for version in sorted(self.by_id.values(), key=lambda version: version.id):
            if version.branch != branch:
                continue
            if leaf and len(version.parents) > 1 and leaf.id not in self.view(version.id).bounds:
                continue
            leaf = version
        return leaf

    def branch_line(self, branch: str) -> list[Version]:
        """Return a branch from its leaf down to the root, crossing into its parent branches.

        At a version merge the other parents are listed first and the line goes on through the last.
        Source: GetBranchVersions in datastore/repo_local.go (janelia-flyem/dvid).
        """
        tip = self.leaf(branch)
        line: list[Version] = []
        while tip is not None:
            line.append(tip)
            parents = tip.parents
            line.extend(self.by_id[ordinal] for ordinal in parents[:-1])
            tip = self.by_id[parents[-1]] if parents else None
        return line

    def named(self, branch: str, back: int) -> Version:
        """Return the version `back` steps behind the leaf of a branch ("" is master).

        Raises:
            InvalidRequest: no such branch, or the line is not that long.
        """
        line = self.branch_line(branch)
        if not line:
            raise InvalidRequest(
                f'branch "{branch or "master"}" not found in repo "{self.root.uuid}"'
            )
        if back >= len(line):
            raise InvalidRequest(f'parent {back} is out of range for branch "{branch or "master"}"')
        return line[back]
