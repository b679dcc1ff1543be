"""Commands about a repository as a whole."""

import hmac
import re
from dataclasses import dataclass

from dvid_es.codecs import gojson
from dvid_es.commands import Context, Decision, Outcome
from dvid_es.errors import InvalidRequest
from dvid_es.repos.events import (
    RepoCreated,
    RepoDeleted,
    RepoDescribed,
    RepoLogAppended,
    RepoPurged,
    RepoRestored,
)

_HEX = re.compile(r"[0-9a-fA-F]*\Z")


def check_uuid(uuid: str) -> None:
    """Refuse a UUID from a client that is not 32 hexadecimal digits.

    Raises:
        InvalidRequest: it is not.
    """
    if len(uuid) != 32:
        raise InvalidRequest("Bad UUID provided: UUID must be 32 character hexadecimal string")
    if not _HEX.match(uuid):
        raise InvalidRequest(f'Bad UUID provided: "{uuid}" has other characters than 0-9 and a-f')


def check_new(context: Context, uuid: str) -> None:
    """Refuse a name that a version of any repository has already.

    Raises:
        InvalidRequest: it has. DVID overwrites its entry for that name.
    """
    there = context.sequence > 0  # otherwise this is the creation of the repository
    if context.taken(uuid) or (there and uuid in context.repo.graph.by_uuid):
        raise InvalidRequest("UUID already exists in datastore")


def check_passcode(context: Context, shown: str) -> None:
    """Refuse what a repository guards with a passcode; `shown` is the digest of the one given.

    Raises:
        InvalidRequest: it is not the right one.
    """
    wanted = context.repo.document.passcode
    if wanted and not hmac.compare_digest(wanted.encode(), shown.encode()):
        raise InvalidRequest(f"incorrect passcode for repo {context.repo.root}")


def check_there(context: Context) -> None:
    """Refuse commands to a deleted repository.

    Raises:
        InvalidRequest: it was deleted since the request was resolved.
    """
    if context.repo.document.deleted:
        raise InvalidRequest(f"repository {context.repo.root} was deleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRepo:
    """Make a repository with an open root version."""

    root: str
    alias: str = ""
    description: str = ""
    passcode: str = ""
    """Digest."""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        check_uuid(self.root)
        if context.sequence:
            raise InvalidRequest("UUID already exists in datastore")
        check_new(context, self.root)
        created = RepoCreated(
            root=self.root,
            alias=self.alias,
            description=self.description,
            passcode=self.passcode,
        )
        answer = f'{{"root": {gojson.string(self.root)}}}'.encode()
        return Decision((Outcome(event=created),), answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeRepo:
    """Set alias and description; None leaves one as it is."""

    alias: str | None = None
    description: str | None = None

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if nothing would change."""
        check_there(context)
        now = context.repo.document
        if self.alias in (None, now.alias) and self.description in (None, now.description):
            return Decision(())
        described = RepoDescribed(alias=self.alias, description=self.description)
        return Decision((Outcome(event=described),))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRepoLog:
    """Append lines to the log of a repository."""

    lines: tuple[str, ...]

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        check_there(context)
        if not self.lines:
            return Decision(())
        return Decision((Outcome(event=RepoLogAppended(lines=self.lines)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRepo:
    """Hide a repository; nothing is lost."""

    passcode: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        check_there(context)
        check_passcode(context, self.passcode)
        return Decision((Outcome(event=RepoDeleted()),))


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRepo:
    """Bring a deleted repository back."""

    passcode: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        document = context.repo.document
        if document.purged:
            raise InvalidRequest(f"repository {document.root} was purged: it cannot come back")
        if not document.deleted:
            raise InvalidRequest(f"repository {document.root} is not deleted")
        check_passcode(context, self.passcode)
        return Decision((Outcome(event=RepoRestored()),))


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeRepo:
    """Give up a deleted repository for good; its instances are purged one by one."""

    passcode: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if it is done."""
        document = context.repo.document
        if not document.deleted:
            raise InvalidRequest(f"repository {document.root} must be deleted before it is purged")
        check_passcode(context, self.passcode)
        return Decision(() if document.purged else (Outcome(event=RepoPurged()),))
