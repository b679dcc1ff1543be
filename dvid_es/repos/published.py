"""What DVID sends to Kafka about repositories.

Source: LogRepoOpToKafka's callers in server/web.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.events import Event, Record
from dvid_es.projections.txn import ReadTxn
from dvid_es.publishing.messages import Classic
from dvid_es.repos.events import (
    InstanceCreated,
    VersionCommitted,
    VersionCreated,
    VersionLogAppended,
    VersionNoteSet,
)

_TAG = "tag-"


def _json(action: str, **fields: Any) -> str:
    return gojson.dumps({"Action": action, **fields}, sort_keys=True)


def _uuid(record: Record, txn: ReadTxn) -> str:
    return txn.repo.graph.by_id[record.header.version].uuid


def new_instance(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a new data instance."""
    event = record.event
    assert isinstance(event, InstanceCreated)
    names = {"Typename": event.typename, "Dataname": event.name}
    yield _json("newinstance", UUID=_uuid(record, txn), **names)


def note(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a new note of a version."""
    assert isinstance(record.event, VersionNoteSet)
    yield _json("nodenote", UUID=_uuid(record, txn), Note=record.event.note)


def log(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of new lines in the log of a version."""
    assert isinstance(record.event, VersionLogAppended)
    yield _json("nodelog", UUID=_uuid(record, txn), Log=list(record.event.lines))


def commit(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell that a version was committed."""
    event = record.event
    assert isinstance(event, VersionCommitted)
    lines = list(event.lines) or None
    yield _json("commit", UUID=_uuid(record, txn), Note=event.note or "", Log=lines)


def version(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a new version, branch or tag; DVID says nothing of the root and of merges."""
    event = record.event
    assert isinstance(event, VersionCreated)
    if len(event.parents) != 1:
        return
    parent = txn.repo.graph.by_id[event.parents[0]]
    both = {"Parent": parent.uuid, "Child": event.uuid}
    if event.locked and event.branch.startswith(_TAG):
        tag = event.branch.removeprefix(_TAG)
        note = f"Tag of version {parent.uuid} with {gojson.string(tag)}"
        yield _json("tag", **both, Branch=event.branch, Tag=tag, Note=note)
    elif event.branch == parent.branch and not event.named:
        yield _json("newversion", **both, Note=event.note)
    else:
        yield _json("branch", **both, Branch=event.branch, Note=event.note)


PUBLISHED: Mapping[type[Event], Classic] = {
    InstanceCreated: new_instance,
    VersionNoteSet: note,
    VersionLogAppended: log,
    VersionCommitted: commit,
    VersionCreated: version,
}
