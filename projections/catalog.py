"""The repository's own documents: versions, data instances, log; and the `Repo` made of them.

Documents are rows of instance 0 and hold the present only: a version or an instance is not itself
versioned. `Repo` is an immutable picture that requests resolve names against.
"""

from typing import Any

import msgspec

from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import Version, VersionGraph

REPO_SCOPE = b"\x00\x00\x00\x00"
CHECKPOINT = REPO_SCOPE + b"\x01"
REPO_DOCUMENT = REPO_SCOPE + b"\x02"
VERSION_DOCUMENT = REPO_SCOPE + b"\x03"
INSTANCE_DOCUMENT = REPO_SCOPE + b"\x04"
IDEMPOTENCY = REPO_SCOPE + b"\x05"
NEXT_MUTATION_ID = REPO_SCOPE + b"\x06"


class RepoDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository says of itself."""

    root: str
    """UUID of the root version, the name of the repository."""

    alias: str = ""
    description: str = ""
    log: tuple[str, ...] = ()
    """Lines as shown: time, two spaces, message."""

    properties: dict[str, Any] = {}
    passcode: str = ""
    created_ns: int = 0
    updated_ns: int = 0
    deleted: bool = False


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One data instance."""

    id: int
    name: str
    typename: str
    data_uuid: str
    version: int
    """Ordinal of the version at which it was created."""

    compression: str = "LZ4 compression, level -1"
    """As shown in info."""

    checksum: str = "No checksum"
    versioned: bool = True
    tags: dict[str, str] | None = None
    syncs: tuple[int, ...] = ()
    """Numbers of the instances it listens to."""

    settings: dict[str, Any] = {}
    """What its datatype was configured with: plain values, names as in DVID's info."""

    deleted: bool = False
    """Hidden, and kept until purged."""


class Repo(msgspec.Struct, frozen=True, kw_only=True):
    """Versions and instances of one repository at one sequence."""

    document: RepoDocument
    graph: VersionGraph
    instances: dict[int, Instance]
    """By number, deleted ones included."""

    names: dict[str, Instance]
    """By name, without the deleted ones."""

    sequence: int = -1
    """Offset of the last event that is applied."""

    @property
    def root(self) -> str:
        """UUID of the root version."""
        return self.document.root


def load(txn: ReadTxn) -> Repo | None:
    """Return the repository as its documents say, or None if there is none."""
    document = txn.get(REPO_DOCUMENT)
    if document is None:
        return None
    versions = [
        msgspec.msgpack.decode(value, type=Version)
        for _, value in txn.scan(VERSION_DOCUMENT, REPO_SCOPE + b"\x04")
    ]
    instances = {
        found.id: found
        for _, value in txn.scan(INSTANCE_DOCUMENT, REPO_SCOPE + b"\x05")
        for found in [msgspec.msgpack.decode(value, type=Instance)]
    }
    return Repo(
        document=msgspec.msgpack.decode(document, type=RepoDocument),
        graph=VersionGraph(versions),
        instances=instances,
        names={found.name: found for found in instances.values() if not found.deleted},
        sequence=checkpoint(txn) - 1,
    )


def put_repo(txn: WriteTxn, document: RepoDocument) -> None:
    """Store the repository's own document."""
    txn.put(REPO_DOCUMENT, _encode(document))
    _renew(txn)


def put_version(txn: WriteTxn, *versions: Version) -> None:
    """Store new or changed versions."""
    for version in versions:
        txn.put(VERSION_DOCUMENT + version.id.to_bytes(4, "big"), _encode(version))
    _renew(txn)


def put_instance(txn: WriteTxn, *instances: Instance) -> None:
    """Store new or changed instances."""
    for instance in instances:
        txn.put(INSTANCE_DOCUMENT + instance.id.to_bytes(4, "big"), _encode(instance))
    _renew(txn)


def checkpoint(txn: ReadTxn) -> int:
    """Return the offset of the next event to apply."""
    return int.from_bytes(txn.get(CHECKPOINT) or b"\0", "big")


def next_mutation_id(txn: ReadTxn) -> int:
    """Return the id that the next mutation gets."""
    stored = txn.get(NEXT_MUTATION_ID)
    return FIRST_MUTATION_ID if stored is None else int.from_bytes(stored, "big")


def instance_key(instance: int, kind: int) -> bytes:
    """Return the first five bytes of the keys of one kind of row of one instance."""
    return instance.to_bytes(4, "big") + kind.to_bytes(1, "big")


def _renew(txn: WriteTxn) -> None:
    repo = load(txn)
    if repo is not None:
        txn.repo = repo


def _encode(document: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(document, order="deterministic")
