"""Merging versions: with conflicts left to be settled by writing, or resolved by the first parent.

A merge is one event and touches no data. What its parents disagree about is found beforehand by
looking through the eyes of the child that is about to be made.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

from dvid_es.codecs import gojson
from dvid_es.commands import Context, Decision, Outcome
from dvid_es.errors import InvalidRequest
from dvid_es.events import Event
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import winner
from dvid_es.repos.commands import check_new, check_there, check_uuid
from dvid_es.repos.events import VersionCreated
from dvid_es.repos.versioning import check_branch, child_decision
from dvid_es.versions import Version, VersionGraph

CONFLICTS_SHOWN = 100

ListConflicts = Callable[..., Iterable[str]]
Resolve = Callable[..., Iterable[Event]]
"""Hooks of a datatype: see `Datatype.conflicts` and `Datatype.resolve`."""


class Found(NamedTuple):
    """What the parents of a merge disagree about in one instance."""

    instance: str
    names: tuple[str, ...]
    """The first ones, for people."""

    more: bool


def with_child(graph: VersionGraph, parents: tuple[int, ...]) -> tuple[VersionGraph, int]:
    """Return the graph with one more version on top of `parents`, and its ordinal."""
    ordinal = graph.next_id
    child = Version(id=ordinal, uuid="", parents=parents)
    return VersionGraph([*graph.by_id.values(), child]), ordinal


def find_conflicts(
    txn: ReadTxn,
    parents: tuple[int, ...],
    instances: Iterable[Instance],
    hooks: Mapping[str, ListConflicts],
) -> list[Found]:
    """Return the conflicts of a merge of `parents`, by instance; `hooks` are by name of datatype.

    Unversioned instances have none, nor do types that cannot be merged.
    """
    graph, ordinal = with_child(txn.repo.graph, parents)
    return conflicts_at(txn, graph, ordinal, instances, hooks)


def conflicts_at(
    txn: ReadTxn,
    graph: VersionGraph,
    version: int,
    instances: Iterable[Instance],
    hooks: Mapping[str, ListConflicts],
) -> list[Found]:
    """Return the conflicts that a version sees, by instance."""
    view = graph.view(version)
    found = []
    for instance in instances:
        hook = hooks.get(instance.typename)
        if hook is None or not instance.versioned or instance.deleted or view.linear:
            continue
        names = tuple(islice(hook(txn, instance, view), CONFLICTS_SHOWN + 1))
        if names:
            shown = names[:CONFLICTS_SHOWN]
            found.append(Found(instance.name, shown, len(names) > CONFLICTS_SHOWN))
    return found


def conflicts_json(found: Iterable[Found]) -> str:
    """Return conflicts as a JSON object: names by instance, and "..." where there are more."""
    shown = {one.instance: [*one.names, *(["..."] if one.more else [])] for one in found}
    return gojson.dumps(shown, sort_keys=True)


def check_parents(context: Context, parents: tuple[int, ...]) -> list[Version]:
    """Return the parents of a merge.

    Raises:
        InvalidRequest: one is given twice, or is open.
    """
    check_there(context)
    if len(set(parents)) != len(parents):
        raise InvalidRequest("the parents of a merge must be different versions")
    found = [context.repo.graph.by_id[ordinal] for ordinal in parents]
    for parent in found:
        if not parent.locked:
            raise InvalidRequest(f"can't branch an unlocked node: {parent.uuid} is open")
    return found


def merged_branch(context: Context, first: Version, branch: str) -> str:
    """Return the branch of a merge: any new name, or that of its first parent; default: master.

    Raises:
        InvalidRequest: the name is in use.
    """
    name = "" if branch == "master" else branch
    if name:
        check_branch(context.repo.graph, first, name)
    return name  # like DVID's, merges go to master even beside another child on it


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeVersions:
    """Make a version of several committed ones."""

    uuid: str
    parents: tuple[int, ...]
    note: str = ""
    branch: str = ""
    found: tuple[Found, ...] = ()
    """Conflicts, for the answer. Committed versions do not change, so nobody makes new ones."""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        created = _created(self, context)
        extra = f', "conflicts": {conflicts_json(self.found)}' if self.found else ""
        return child_decision(created, extra=extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The events of a resolve, found ahead of its decision in the state at `sequence`."""

    sequence: int
    events: tuple[tuple[int, Event], ...]
    """Instance and event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveVersions:
    """Make a version of several committed ones, with the first one's value for each conflict."""

    uuid: str
    parents: tuple[int, ...]
    instances: tuple[int, ...]
    hooks: Mapping[str, Resolve]
    """By name of datatype."""

    note: str = ""
    branch: str = ""
    settled: Settled | None = None
    found: tuple[Found, ...] = field(default=())
    """Conflicts of the instances that were not asked for."""

    def decide(self, context: Context) -> Decision:
        """Return the events: the version, and the values that win."""
        created = _created(self, context)
        for number in self.instances:
            if context.repo.instances[number].deleted:
                raise InvalidRequest("invalid data instance name")
        settled = self.settled
        if settled is None or settled.sequence != context.sequence:
            settled = settle(
                context.txn, context.sequence, self.parents, self.instances, self.hooks
            )
        writes = (
            Outcome(
                event=event,
                mutation_id=context.mutation_id(),
                version=created.id,
                instance=number,
            )
            for number, event in settled.events
        )
        extra = f', "conflicts": {conflicts_json(self.found)}' if self.found else ""
        return child_decision(created, *writes, extra=extra)


def settle(
    txn: ReadTxn,
    sequence: int,
    parents: tuple[int, ...],
    instances: Iterable[int],
    hooks: Mapping[str, Resolve],
) -> Settled:
    """Return the events that settle all conflicts of these instances in a merge of `parents`."""
    graph, ordinal = with_child(txn.repo.graph, parents)
    view = graph.view(ordinal)
    events: list[tuple[int, Event]] = []
    for number in instances:
        instance = txn.repo.instances[number]
        if instance.versioned:
            choose = partial(winner, graph=graph, parents=parents)
            made = hooks[instance.typename](txn, instance, view, choose)
            events.extend((number, event) for event in made)
    return Settled(sequence=sequence, events=tuple(events))


def _created(command: MergeVersions | ResolveVersions, context: Context) -> VersionCreated:
    parents = check_parents(context, command.parents)
    branch = merged_branch(context, parents[0], command.branch)
    check_uuid(command.uuid)
    check_new(context, command.uuid)
    return VersionCreated(
        id=context.repo.graph.next_id,
        uuid=command.uuid,
        branch=branch,
        parents=command.parents,
        note=command.note,
    )
