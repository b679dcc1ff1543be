"""What happens to repositories, versions and data instances, apart from their data.

Numbers 1 ... 39. Times are those of the records; a line of a log is shown with the time of its event.
"""

from typing import Any

from dvid_es.events import Bulk, Event, event
from dvid_es.versions import UNBOUNDED


@event(1, "repo.created")
class RepoCreated(Event, frozen=True, kw_only=True):
    """A repository and its root version, open, came into being."""

    root: str
    alias: str = ""
    description: str = ""
    passcode: str = ""
    """Digest of what must be shown to delete or rename things; "" for none."""


@event(2, "repo.described")
class RepoDescribed(Event, frozen=True, kw_only=True):
    """Alias or description changed; None leaves one as it is."""

    alias: str | None = None
    description: str | None = None


@event(3, "repo.log-appended")
class RepoLogAppended(Event, frozen=True, kw_only=True):
    """The log of the repository grew by lines."""

    lines: tuple[str, ...]


@event(4, "repo.deleted")
class RepoDeleted(Event, frozen=True, kw_only=True):
    """The repository is hidden; nothing is lost."""


@event(5, "repo.restored")
class RepoRestored(Event, frozen=True, kw_only=True):
    """A deleted repository is back."""


@event(6, "repo.purged")
class RepoPurged(Event, frozen=True, kw_only=True):
    """A deleted repository can never come back; its instances are purged next."""


@event(10, "version.created")
class VersionCreated(Event, frozen=True, kw_only=True):
    """A version was made: a child, a branch, a tag or the merge of several parents."""

    id: int
    """Ordinal."""

    uuid: str
    branch: str = ""
    parents: tuple[int, ...] = ()
    """Ordinals."""

    parent_bound: int = UNBOUNDED
    """Last sequence of its ancestors that it sees."""

    note: str = ""
    lines: tuple[str, ...] = ()
    locked: bool = False
    """A tag is born committed."""

    named: bool = False
    """Whether its branch was asked for by name, be it that of its parent."""


@event(11, "version.note-set")
class VersionNoteSet(Event, frozen=True, kw_only=True):
    """The note of the version in the header was replaced."""

    note: str


@event(12, "version.log-appended")
class VersionLogAppended(Event, frozen=True, kw_only=True):
    """The log of the version in the header grew by lines."""

    lines: tuple[str, ...]


@event(13, "version.committed")
class VersionCommitted(Event, frozen=True, kw_only=True):
    """The version in the header was locked for good."""

    note: str | None = None
    """A new note; None keeps the one there is."""

    lines: tuple[str, ...] = ()


@event(20, "instance.created")
class InstanceCreated(Event, frozen=True, kw_only=True):
    """A data instance came into being; the version in the header is where it was made."""

    id: int
    name: str
    typename: str
    data_uuid: str
    compression: str
    checksum: str
    versioned: bool = True
    tags: dict[str, str] | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it
    """Plain values, by the names of the datatype."""

    line: str = ""
    """Line in the log of the repository."""


@event(21, "instance.tags-set")
class InstanceTagsSet(Event, frozen=True, kw_only=True):
    """The tags of the instance in the header are now these."""

    tags: dict[str, str]


@event(22, "instance.syncs-set")
class InstanceSyncsSet(Event, frozen=True, kw_only=True):
    """The instance in the header now listens to these."""

    syncs: tuple[int, ...]
    line: str = ""
    """Line in the log of the repository."""


@event(23, "instance.renamed")
class InstanceRenamed(Event, frozen=True, kw_only=True):
    """The instance in the header has another name; its data and its UUID are the same."""

    name: str


@event(24, "instance.deleted")
class InstanceDeleted(Event, frozen=True, kw_only=True):
    """The instance in the header is hidden; nothing is lost."""


@event(25, "instance.restored")
class InstanceRestored(Event, frozen=True, kw_only=True):
    """A deleted instance is back, under this name."""

    name: str


@event(26, "instance.purged")
class InstancePurged(Event, frozen=True, kw_only=True):
    """Rows of a deleted instance were dropped from the projections: it can never come back.

    One event drops so many rows that its transaction stays small; several finish the work. Log and packs
    keep what they have.
    """

    rows: int
    """At most so many, the first ones in the order of their keys."""


@event(30, "blob.stored")
class BlobStored(Event, frozen=True, kw_only=True):
    """Bytes were stored under their own hash."""

    hash: bytes
    """128-bit FNV-1, 16 bytes, big endian."""

    value: Bulk
