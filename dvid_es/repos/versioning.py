"""Commands about versions: notes, logs, commits, children, branches, tags.

Source: datastore/repo_local.go (janelia-flyem/dvid), where some checks are missing: a name in use, an
empty tag, two children made at once.
"""

import re
from dataclasses import dataclass

from dvid_es.codecs import gojson
from dvid_es.commands import Context, Decision, Outcome
from dvid_es.errors import InvalidRequest, LockedVersion
from dvid_es.repos.commands import check_new, check_there, check_uuid
from dvid_es.repos.events import (
    VersionCommitted,
    VersionCreated,
    VersionLogAppended,
    VersionNoteSet,
)
from dvid_es.versions import UNBOUNDED, Version, VersionGraph

_NO_TAG = re.compile(r"[\x00-\x1f/:\x7f]")


def addressed(context: Context) -> Version:
    """Return the version that the command is about, of a repository that is there."""
    check_there(context)
    assert context.version is not None
    return context.version


def check_open(version: Version, method: str, unlocked: bool) -> None:
    """Refuse to change a committed version.

    Raises:
        LockedVersion: it is committed, and the request may not change it nevertheless.
    """
    if version.locked and not unlocked:
        raise LockedVersion(f"Cannot do {method} on locked node {version.uuid}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNote:
    """Replace the note of a version."""

    note: str
    unlocked: bool = False

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if the note is the same."""
        version = addressed(context)
        check_open(version, "post", self.unlocked)
        if version.note == self.note:
            return Decision(())
        return Decision((Outcome(event=VersionNoteSet(note=self.note)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendLog:
    """Append lines to the log of a version."""

    lines: tuple[str, ...]
    unlocked: bool = False

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        version = addressed(context)
        check_open(version, "post", self.unlocked)
        if not self.lines:
            return Decision(())
        return Decision((Outcome(event=VersionLogAppended(lines=self.lines)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Lock a version for good. Writes that were asked for earlier and come later are refused."""

    note: str = ""
    """Replaces the note of the version unless empty."""

    lines: tuple[str, ...] = ()

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        version = addressed(context)
        if version.locked:
            raise LockedVersion(f"node {version.uuid} already committed")
        committed = VersionCommitted(note=self.note or None, lines=self.lines)
        answer = f'{{"committed": {gojson.string(version.uuid)}}}'.encode()
        return Decision((Outcome(event=committed),), answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """Make a child of a committed version, on its branch or on a new one; as of a sequence, of any."""

    uuid: str
    """Of the child: the client's, or a new one."""

    branch: str | None = None
    """None, or the parent's own branch, continues that."""

    note: str = ""
    at: int | None = None
    """Last sequence of the ancestors that the child sees; None for all of them."""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        parent = addressed(context)
        branch = parent.branch if self.branch is None else self.branch
        if not parent.locked and (self.at is None or branch == parent.branch):
            raise InvalidRequest("can't branch an unlocked node")
        check_branch(context.repo.graph, parent, branch)
        check_uuid(self.uuid)
        check_new(context, self.uuid)
        if self.at is not None and not 0 <= self.at < context.sequence:
            raise InvalidRequest(
                f'"at" is {self.at}: this repository has the sequences 0 to {context.sequence - 1}'
            )
        created = VersionCreated(
            id=context.repo.graph.next_id,
            uuid=self.uuid,
            branch=branch,
            parents=(parent.id,),
            parent_bound=UNBOUNDED if self.at is None else self.at,
            note=self.note,
            named=self.branch is not None,
        )
        return child_decision(created)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """Make a committed child whose public name is a tag."""

    tag: str
    note: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        parent = addressed(context)
        check_tag(self.tag)
        if not parent.locked:
            raise InvalidRequest("can't branch an unlocked node")
        branch = f"tag-{self.tag}"
        check_branch(context.repo.graph, parent, branch)
        check_new(context, self.tag)
        line = f'Tag of version {parent.uuid} with "{self.tag}"'
        created = VersionCreated(
            id=context.repo.graph.next_id,
            uuid=self.tag,
            branch=branch,
            parents=(parent.id,),
            note=self.note or line,
            lines=(line,),
            locked=True,
        )
        return child_decision(created)


def check_branch(graph: VersionGraph, parent: Version, branch: str) -> None:
    """Refuse a branch name that is in use, but for a first child that continues its parent's.

    Raises:
        InvalidRequest: it is in use.
    """
    if branch == parent.branch:
        taken = any(graph.by_id[child].branch == branch for child in graph.children[parent.id])
    else:
        taken = graph.leaf(branch) is not None
    if taken:
        raise InvalidRequest("branch already exists with given name")


def check_tag(tag: str) -> None:
    """Refuse a tag that no request could name.

    Raises:
        InvalidRequest: it is empty, too long, or has characters that part the names in a path.
    """
    if not tag or len(tag) > 200 or tag in (".", ".."):
        raise InvalidRequest("a tag has 1 to 200 characters")
    if _NO_TAG.search(tag):
        raise InvalidRequest("a tag has no control characters, and neither / nor :")


def child_decision(created: VersionCreated, *more: Outcome, extra: str = "") -> Decision:
    """Return the decision that makes a version; the header names the new one.

    Args:
        created: the version.
        more: what is written to it at once.
        extra: more of the answer: JSON members, each after a comma.
    """
    answer = f'{{"child": {gojson.string(created.uuid)}{extra}}}'.encode()
    return Decision((Outcome(event=created, version=created.id), *more), answer)
