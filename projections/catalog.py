"""The repository's own documents: versions, data instances, log; and the `Repo` made of them.

Documents are rows of instance 0 and hold the present only: a version or an instance is not itself
versioned. `Repo` is an immutable picture that requests resolve names against.
"""

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from dvid_es.errors import InvalidRequest
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import Version, VersionGraph

_pack_key = struct.Struct(">IB").pack

REPO_SCOPE = b"\x00\x00\x00\x00"
CHECKPOINT = REPO_SCOPE + b"\x01"
REPO_DOCUMENT = REPO_SCOPE + b"\x02"
VERSION_DOCUMENT = REPO_SCOPE + b"\x03"
INSTANCE_DOCUMENT = REPO_SCOPE + b"\x04"
IDEMPOTENCY = REPO_SCOPE + b"\x05"
NEXT_MUTATION_ID = REPO_SCOPE + b"\x06"
BLOB = REPO_SCOPE + b"\x07"
MUTATION = REPO_SCOPE + b"\x08"

_PLACE = struct.Struct(">QII")


class MutationPlace(NamedTuple):
    """Where a mutation is."""

    sequence: int
    """Offset of its event; of its last one, if a command wrote several under one id."""

    version: int
    """Ordinal."""

    instance: int


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
    """Hidden, and kept until purged."""

    purged: bool = False
    """Its data are dropped from the projections, or are being dropped: it cannot come back."""


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

    purged: bool = False
    """Its rows are dropped, or are being dropped. The document stays: a number is given once."""


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
        names=_names(instances),
        sequence=checkpoint(txn) - 1,
    )


# Each change makes another `Repo` of the one before: reading all documents again for each event
# would make the creation of many versions quadratic in what is decoded.


def put_repo(txn: WriteTxn, document: RepoDocument) -> None:
    """Store the repository's own document."""
    txn.put(REPO_DOCUMENT, _encode(document))
    before: Repo | None = txn.repo  # None in a transaction of a repository that is being made
    if before is None:
        txn.repo = Repo(document=document, graph=VersionGraph([]), instances={}, names={})
    else:
        txn.repo = msgspec.structs.replace(before, document=document)


def put_version(txn: WriteTxn, *versions: Version) -> None:
    """Store new or changed versions."""
    for version in versions:
        txn.put(VERSION_DOCUMENT + version.id.to_bytes(4, "big"), _encode(version))
    changed = {**txn.repo.graph.by_id, **{version.id: version for version in versions}}
    txn.repo = msgspec.structs.replace(txn.repo, graph=VersionGraph(changed.values()))


def put_instance(txn: WriteTxn, *instances: Instance) -> None:
    """Store new or changed instances."""
    for instance in instances:
        txn.put(INSTANCE_DOCUMENT + instance.id.to_bytes(4, "big"), _encode(instance))
    changed = {**txn.repo.instances, **{instance.id: instance for instance in instances}}
    txn.repo = msgspec.structs.replace(txn.repo, instances=changed, names=_names(changed))


def checkpoint(txn: ReadTxn) -> int:
    """Return the offset of the next event to apply."""
    return int.from_bytes(txn.get(CHECKPOINT) or b"\0", "big")


def next_mutation_id(txn: ReadTxn) -> int:
    """Return the id that the next mutation gets."""
    stored = txn.get(NEXT_MUTATION_ID)
    return FIRST_MUTATION_ID if stored is None else int.from_bytes(stored, "big")


def mutation_row(mutation_id: int, place: MutationPlace) -> tuple[bytes, bytes]:
    """Return key and value of the row that says where a mutation is."""
    return MUTATION + mutation_id.to_bytes(8, "big"), _PLACE.pack(*place)


def find_mutation(txn: ReadTxn, mutation_id: int) -> MutationPlace | None:
    """Return where a mutation of any version and instance is, or None if there is none of this id."""
    value = txn.get(MUTATION + mutation_id.to_bytes(8, "big"))
    return None if value is None else MutationPlace(*_PLACE.unpack(value))


def sequence_of_mutation(txn: ReadTxn, mutation_id: int) -> int:
    """Return the sequence of the last event of a mutation.

    Raises:
        InvalidRequest: the repository has no mutation of this id.
    """
    place = find_mutation(txn, mutation_id)
    if place is None:
        raise InvalidRequest(
            f"{mutation_id} is the id of no mutation of this repository: take one of its mutations, or"
            f" a sequence below {FIRST_MUTATION_ID}"
        )
    return place.sequence


@lru_cache(1024)
def instance_key(instance: int, kind: int) -> bytes:
    """Return the first five bytes of the keys of one kind of row of one instance."""
    return _pack_key(instance, kind)


def _names(instances: dict[int, Instance]) -> dict[str, Instance]:
    return {found.name: found for found in instances.values() if not found.deleted}


def _encode(document: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(document, order="deterministic")
