"""How events change the documents of a repository and its blobs."""

from collections.abc import Callable
from itertools import islice

import msgspec
from msgspec.structs import replace

from dvid_es.codecs.gojson import rfc3339
from dvid_es.events import Bulk, Event, Record
from dvid_es.ids import PackRef
from dvid_es.projections import labels
from dvid_es.projections.catalog import (
    BLOB,
    Instance,
    RepoDocument,
    instance_key,
    put_instance,
    put_repo,
    put_version,
)
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn
from dvid_es.publishing.messages import keep_long
from dvid_es.repos import events as e
from dvid_es.repos import published
from dvid_es.versions import Version

_decode_bulk = msgspec.msgpack.Decoder(bytes | PackRef).decode


def blob_key(digest: bytes) -> bytes:
    """Return the key of a blob: its 16-byte hash after the kind."""
    return BLOB + digest


def decode_bulk(stored: bytes) -> Bulk:
    """Return the bulk value that a row holds."""
    return _decode_bulk(stored)


def repo_created(txn: WriteTxn, record: Record) -> None:
    """Store the repository and its root version."""
    facts: e.RepoCreated = record.event  # type: ignore[assignment]
    now = record.time_ns
    document = RepoDocument(
        root=facts.root,
        alias=facts.alias,
        description=facts.description,
        passcode=facts.passcode,
        created_ns=now,
        updated_ns=now,
    )
    put_repo(txn, document)
    put_version(txn, Version(id=1, uuid=facts.root, created_ns=now, updated_ns=now))


def repo_described(txn: WriteTxn, record: Record) -> None:
    """Replace alias and description where they are given."""
    facts: e.RepoDescribed = record.event  # type: ignore[assignment]
    _touch(
        txn,
        record,
        **{
            name: value
            for name, value in (("alias", facts.alias), ("description", facts.description))
            if value is not None
        },
    )


def repo_log_appended(txn: WriteTxn, record: Record) -> None:
    """Append lines."""
    facts: e.RepoLogAppended = record.event  # type: ignore[assignment]
    _touch(txn, record, log=txn.repo.document.log + _timed(record, facts.lines))


def repo_deleted(txn: WriteTxn, record: Record) -> None:
    """Hide the repository."""
    _touch(txn, record, deleted=True)


def repo_restored(txn: WriteTxn, record: Record) -> None:
    """Show the repository again."""
    _touch(txn, record, deleted=False)


def repo_purged(txn: WriteTxn, record: Record) -> None:
    """Hide the repository for good."""
    _touch(txn, record, deleted=True, purged=True)


def version_created(txn: WriteTxn, record: Record) -> None:
    """Store a version."""
    facts: e.VersionCreated = record.event  # type: ignore[assignment]
    version = Version(
        id=facts.id,
        uuid=facts.uuid,
        branch=facts.branch,
        parents=facts.parents,
        parent_bound=facts.parent_bound,
        note=facts.note,
        log=_timed(record, facts.lines),
        locked=facts.locked,
        created_ns=record.time_ns,
        updated_ns=record.time_ns,
    )
    put_version(txn, version)
    _touch(txn, record)
    keep_long(txn, published.version(record, txn))


def version_note_set(txn: WriteTxn, record: Record) -> None:
    """Replace a note."""
    facts: e.VersionNoteSet = record.event  # type: ignore[assignment]
    _change_version(txn, record, note=facts.note)
    keep_long(txn, published.note(record, txn))


def version_log_appended(txn: WriteTxn, record: Record) -> None:
    """Append lines."""
    facts: e.VersionLogAppended = record.event  # type: ignore[assignment]
    version = txn.repo.graph.by_id[record.header.version]
    _change_version(txn, record, log=version.log + _timed(record, facts.lines))
    keep_long(txn, published.log(record, txn))


def version_committed(txn: WriteTxn, record: Record) -> None:
    """Lock a version."""
    facts: e.VersionCommitted = record.event  # type: ignore[assignment]
    version = txn.repo.graph.by_id[record.header.version]
    _change_version(
        txn,
        record,
        locked=True,
        note=version.note if facts.note is None else facts.note,
        log=version.log + _timed(record, facts.lines),
    )
    keep_long(txn, published.commit(record, txn))


def instance_created(txn: WriteTxn, record: Record) -> None:
    """Store an instance; the log of the repository tells of it."""
    facts: e.InstanceCreated = record.event  # type: ignore[assignment]
    instance = Instance(
        id=facts.id,
        name=facts.name,
        typename=facts.typename,
        data_uuid=facts.data_uuid,
        version=record.header.version,
        compression=facts.compression,
        checksum=facts.checksum,
        versioned=facts.versioned,
        tags=facts.tags,
        settings=facts.settings,
    )
    put_instance(txn, instance)
    _touch(txn, record, log=txn.repo.document.log + _timed(record, (facts.line,)))


def instance_tags_set(txn: WriteTxn, record: Record) -> None:
    """Replace the tags."""
    facts: e.InstanceTagsSet = record.event  # type: ignore[assignment]
    _change_instance(txn, record, tags=facts.tags)


def instance_syncs_set(txn: WriteTxn, record: Record) -> None:
    """Replace the syncs."""
    facts: e.InstanceSyncsSet = record.event  # type: ignore[assignment]
    _change_instance(txn, record, syncs=facts.syncs)
    labels.syncs_set(txn, record)
    _touch(txn, record, log=txn.repo.document.log + _timed(record, (facts.line,)))


def instance_renamed(txn: WriteTxn, record: Record) -> None:
    """Replace the name."""
    facts: e.InstanceRenamed = record.event  # type: ignore[assignment]
    _change_instance(txn, record, name=facts.name)


def instance_deleted(txn: WriteTxn, record: Record) -> None:
    """Hide an instance."""
    _change_instance(txn, record, deleted=True)


def instance_restored(txn: WriteTxn, record: Record) -> None:
    """Show an instance again."""
    facts: e.InstanceRestored = record.event  # type: ignore[assignment]
    _change_instance(txn, record, deleted=False, name=facts.name)


def instance_purged(txn: WriteTxn, record: Record) -> None:
    """Drop the first rows of an instance. Rows are a function of the log, so which ones is too."""
    facts: e.InstancePurged = record.event  # type: ignore[assignment]
    instance = record.header.instance
    rows = txn.scan(instance_key(instance, 0), instance_key(instance + 1, 0))
    for key in [key for key, _ in islice(rows, facts.rows)]:
        txn.delete(key)
    if not txn.repo.instances[instance].purged:
        _change_instance(txn, record, deleted=True, purged=True)


def blob_stored(txn: WriteTxn, record: Record) -> None:
    """Store a blob, or where it lies."""
    facts: e.BlobStored = record.event  # type: ignore[assignment]
    txn.put(blob_key(facts.hash), msgspec.msgpack.encode(facts.value))


def _timed(record: Record, lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return lines as logs show them: the second, two spaces, the text."""
    stamp = rfc3339(record.time_ns)
    return tuple(f"{stamp}  {line}" for line in lines)


def _touch(txn: WriteTxn, record: Record, **changes: object) -> None:
    put_repo(txn, replace(txn.repo.document, updated_ns=record.time_ns, **changes))


def _change_version(txn: WriteTxn, record: Record, **changes: object) -> None:
    version = txn.repo.graph.by_id[record.header.version]
    put_version(txn, replace(version, updated_ns=record.time_ns, **changes))
    _touch(txn, record)


def _change_instance(txn: WriteTxn, record: Record, **changes: object) -> None:
    put_instance(txn, replace(txn.repo.instances[record.header.instance], **changes))
    _touch(txn, record)


def _folds(
    *pairs: tuple[type[Event], Callable[[WriteTxn, Record], None]],
) -> dict[type[Event], Fold]:
    return dict(pairs)


FOLDS: dict[type[Event], Fold] = _folds(
    (e.RepoCreated, repo_created),
    (e.RepoDescribed, repo_described),
    (e.RepoLogAppended, repo_log_appended),
    (e.RepoDeleted, repo_deleted),
    (e.RepoRestored, repo_restored),
    (e.RepoPurged, repo_purged),
    (e.VersionCreated, version_created),
    (e.VersionNoteSet, version_note_set),
    (e.VersionLogAppended, version_log_appended),
    (e.VersionCommitted, version_committed),
    (e.InstanceCreated, instance_created),
    (e.InstanceTagsSet, instance_tags_set),
    (e.InstanceSyncsSet, instance_syncs_set),
    (e.InstanceRenamed, instance_renamed),
    (e.InstanceDeleted, instance_deleted),
    (e.InstanceRestored, instance_restored),
    (e.InstancePurged, instance_purged),
    (e.BlobStored, blob_stored),
)
