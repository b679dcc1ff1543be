"""What a client asks and how it is decided: commands, their context, and decisions. Pure.

A command never changes anything: it reads a transaction and returns the events that record the
outcome (ids given, supervoxels moved, sizes), or raises and nothing has happened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dvid_es.errors import InvalidRequest
from dvid_es.events import Event
from dvid_es.ids import MutationId
from dvid_es.projections.catalog import Instance, Repo, next_mutation_id
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import Version, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One event to append; zeros take version and instance from the context."""

    event: Event
    mutation_id: int = 0
    version: int = 0
    instance: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The events of a granted command, appended and applied together, and its answer.

    No events is a command that changes nothing, such as setting what is already so.
    """

    outcomes: tuple[Outcome, ...]
    answer: bytes = b""
    """The body of the HTTP answer."""


@dataclass(slots=True, kw_only=True)
class Context:
    """The state that a command is decided against."""

    txn: ReadTxn
    """Holds the effects of every earlier command, acknowledged or in this batch."""

    sequence: int
    """Offset that the first event of this command gets."""

    time_ns: int
    """The time in the records of this command."""

    version: Version | None = None
    """The version addressed; the root's for an unversioned instance; None for repository commands."""

    instance: Instance | None = None
    user: str = ""
    app: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Server settings that decide something, such as `allow_split`."""

    taken: Callable[[str], bool] = lambda _: False
    """Whether any repository of the server has a version of this name, as of the last commit."""

    _mutations: int = 0

    @property
    def repo(self) -> Repo:
        """Versions and instances in this state."""
        return self.txn.repo

    @property
    def view(self) -> View:
        """What the addressed version sees."""
        assert self.version is not None
        return self.txn.view(self.version.id)

    def mutation_id(self) -> MutationId:
        """Give the next mutation id; ids of refused commands are given again."""
        self._mutations += 1
        return MutationId(next_mutation_id(self.txn) + self._mutations - 1)


class Command(Protocol):
    """A request, parsed and prepared."""

    def decide(self, context: Context) -> Decision:
        """Return what happens.

        Raises:
            InvalidRequest: the command cannot be granted; nothing has happened.
        """


def fixed_instance(context: Context) -> Instance:
    """Return the instance that the command is about.

    Raises:
        InvalidRequest: it was deleted or renamed since the request was resolved.
    """
    if context.instance is None:
        raise InvalidRequest("invalid data instance name")
    return context.instance


def _nobody(write: "Write") -> None:
    """Tell nobody."""
    del write


@dataclass(slots=True, kw_only=True, eq=False)
class Write:
    """A command on its way through the writer."""

    root: str
    """Repository; a new one when `creates`."""

    command: Command
    version: int = 0
    """Ordinal addressed; 0 for repository commands."""

    instance: int = 0
    user: str = ""
    app: str = ""
    unlocked: bool = False
    """May change a locked version: an admin, or a server in full-write mode."""

    dry_run: bool = False
    idempotency_key: str = ""
    creates: bool = False
    tell: Callable[["Write"], None] = _nobody
    """Called once, by the writer's thread, when there is `written` or `problem`."""

    withdrawn: bool = False
    """Nobody waits any more: a command that has not begun is refused."""

    written: "Written | None" = None
    problem: BaseException | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it is known what became of it."""
        return self.written is not None or self.problem is not None

    def succeed(self, written: "Written") -> None:
        """Say that it is durable and visible."""
        self.written = written
        self.tell(self)

    def fail(self, problem: BaseException) -> None:
        """Say that it is refused."""
        self.problem = problem
        self.tell(self)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a command."""

    answer: bytes
    sequence: int
    """Offset of its last event; of the last one applied if it had none."""

    events: tuple[dict[str, Any], ...] = ()
    """The events of a dry run, readable."""
