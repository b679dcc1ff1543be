"""Repositories of a data folder for export and queries, also beside the server that writes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dvid_es.analytics.export import Readable, Source
from dvid_es.analytics.service import Subject
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.logs.packread import PackReader
from dvid_es.projections.catalog import Repo, checkpoint
from dvid_es.projections.store import Store
from dvid_es.projections.txn import ReadTxn


@contextmanager
def opened(store: Store, root: str, log: Readable, packs: Path) -> Iterator[Source]:
    """Open one repository as its projections show it: what they hold is durable in the log.

    Args:
        store: the projections; a server may be writing them.
        root: UUID of the repository.
        log: its log, opened after the store's last commit that counts.
        packs: folder of its packs.

    Raises:
        InvalidRequest: there is no such repository.
    """
    reader = PackReader(packs)

    def fetch(bulk: Bulk) -> bytes:
        return bulk if isinstance(bulk, bytes) else reader.get(bulk)

    try:
        with store.read(root, reader) as txn:
            repo: Repo | None = txn.repo
            upto = min(checkpoint(txn), log.end)
        if repo is None:
            raise InvalidRequest(f"there is no repository {root}")

        @contextmanager
        def begin(repo: Repo) -> Iterator[ReadTxn]:
            txn = store.begin_read(repo, reader, upto - 1)
            try:
                yield txn
            finally:
                store.finish_read(txn)

        yield Source(repo, log, upto, fetch, begin)
    finally:
        reader.close()


def subject_of(source: Source) -> Subject:
    """Return what queries are asked about."""
    repo = msgspec.structs.replace(source.repo, sequence=source.upto - 1)
    return Subject(repo.root, lambda: repo, source.log, source.fetch, source.begin, find_version)


def find_version(repo: Repo, spec: str) -> int:
    """Return the ordinal of the version of a UUID, the beginning of one, or `:branch`.

    Raises:
        InvalidRequest: none, or more than one, has this name.
    """
    name, colon, branch = spec.partition(":")
    graph = repo.graph
    if colon and not name:
        return graph.named("" if branch == "master" else branch, 0).id
    if name in graph.by_uuid:
        return graph.by_uuid[name].id
    found = [
        version.id for uuid, version in graph.by_uuid.items() if name and uuid.startswith(name)
    ]
    if len(found) != 1:
        raise InvalidRequest(f'{len(found)} versions begin with "{spec}"')
    return found[0]
