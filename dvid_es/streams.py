"""The open streams of a server: for each repository its log, its packs and its latest documents."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dvid_es.errors import InvalidRequest
from dvid_es.logs.base import Log, Packs
from dvid_es.projections.catalog import Repo

_FOLDER = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}\Z")


@dataclass(slots=True)
class Stream:
    """One repository: its log, its packs, and its documents as of the last commit."""

    root: str
    log: Log
    packs: Packs
    repo: Repo | None = None

    awaited: bool = False
    """Whether the brokers of its log have not answered since the start: what is in it is not known yet,
    nor what it is, if `repo` is None."""

    def publish(self, repo: Repo, sequence: int) -> None:
        """Make `repo` what new requests see."""
        self.repo = msgspec.structs.replace(repo, sequence=sequence)


OpenStream = Callable[[Path, str], Stream]
"""Opens (or makes) the log and the packs of a repository in a folder."""


class Streams:
    """All streams below one folder, one folder each, named by the root UUID."""

    def __init__(self, folder: Path, opener: OpenStream) -> None:
        """Use `opener` for every stream below `folder`; nothing is opened yet."""
        self.folder = folder
        self._opener = opener
        self._open: dict[str, Stream] = {}

    def open_all(self) -> list[Stream]:
        """Open every stream that lies in the folder, in order of their names."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self.folder.iterdir()):
            if path.is_dir() and _FOLDER.match(path.name):
                self._open[path.name] = self._opener(path, path.name)
        return list(self._open.values())

    def all(self) -> list[Stream]:
        """Return the open streams."""
        return list(self._open.values())

    def get(self, root: str) -> Stream:
        """Return the stream of a repository.

        Raises:
            InvalidRequest: there is no such repository.
        """
        found = self._open.get(root)
        if found is None:
            raise InvalidRequest(f"could not find repository {root}")
        return found

    def has_version(self, uuid: str) -> bool:
        """Say whether any repository, also a deleted one, has a version of this name."""
        return any(
            stream.root == uuid or (stream.repo is not None and uuid in stream.repo.graph.by_uuid)
            for stream in self.all()
            if stream.repo is not None or stream.awaited or stream.log.end
        )

    def create(self, root: str) -> Stream:
        """Make the stream of a new repository.

        Raises:
            InvalidRequest: there is one already, or the name cannot be a folder.
        """
        found = self._open.get(root)
        if found is not None and found.repo is None and not found.log.end:
            return found  # an earlier creation came to nothing
        if found is not None:
            raise InvalidRequest("UUID already exists in datastore")
        if not _FOLDER.match(root):
            raise InvalidRequest(f'"{root}" cannot be a root UUID: use 32 hexadecimal digits')
        stream = self._opener(self.folder / root, root)
        self._open[root] = stream
        return stream

    def discard(self, root: str) -> None:
        """Close and remove a stream whose creation was refused; one that holds something stays."""
        stream = self._open.get(root)
        if stream is not None and stream.repo is None and not stream.log.end:
            del self._open[root]
            stream.log.close()
            stream.packs.close()
            if (self.folder / root).exists():
                shutil.rmtree(self.folder / root)

    def close(self) -> None:
        """Close all logs and packs."""
        for stream in self._open.values():
            stream.log.close()
            stream.packs.close()
        self._open.clear()
