"""Where exports are written: one folder each, below one root, files under their names only when whole.

A folder has `export.json`, written first: what is exported, as of which event, and whether all of it is
there. An export that was interrupted is taken up again with the same words, as of the same event.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from dvid_es.errors import InvalidRequest, StorageFull
from dvid_es.logs.disk import DISK, NEW_SUFFIX, failure, read_all, write_all

MANIFEST = "export.json"
CHECK_EVERY_BYTES = 64 << 20
"""So much is written between two looks at the free space."""

PART_BYTES = 8 << 20
"""Of a file that is read again."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}\Z")


class Destination:
    """The folder of one export."""

    def __init__(self, folder: Path, keep_free_bytes: int = 0) -> None:
        """Write into `folder`, which need not exist, while so much is free on its disk."""
        self.folder = folder
        self._keep_free_bytes = keep_free_bytes

    @classmethod
    def named(cls, root: Path, name: str, keep_free_bytes: int = 0) -> "Destination":
        """Return the folder of this name below a root.

        Raises:
            InvalidRequest: the name leads, or may lead, out of the root.
        """
        parts = name.split("/")
        if len(parts) > 8 or not all(
            _NAME.match(part) and not part.endswith(NEW_SUFFIX) for part in parts
        ):
            raise InvalidRequest(
                f'"{name}" cannot be a folder of exports: use letters, digits, ".", "_" and "-",'
                ' and "/" between folders; it lies below the root that the server\'s settings name'
            )
        folder = root.joinpath(*parts)
        if not folder.resolve().is_relative_to(root.resolve()):
            raise InvalidRequest(f'"{name}" is a link that leads out of the root of exports')
        return cls(folder, keep_free_bytes)

    def manifest(self) -> dict[str, Any] | None:
        """Return what the folder says it holds; None if it says nothing.

        Raises:
            InvalidRequest: there is something else.
        """
        try:
            found = json.loads((self.folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            if self.folder.exists() and any(self.folder.iterdir()):
                raise InvalidRequest(
                    f"{self.folder} holds something that is no export: name another folder"
                ) from None
            return None
        except (OSError, ValueError) as problem:
            raise InvalidRequest(f"{self.folder / MANIFEST} cannot be read: {problem}") from None
        if not isinstance(found, dict):
            raise InvalidRequest(f"{self.folder / MANIFEST} is no description of an export")
        return found

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Make the folder and say in it what comes; remove files that were not finished.

        Raises:
            StorageFull: no space for it.
        """
        try:
            DISK.make_folder(self.folder)
            for left in self.folder.rglob("*" + NEW_SUFFIX):
                left.unlink()
        except OSError as problem:
            raise failure(problem, f"{self.folder} cannot be made") from problem
        self.check_space()
        self.write_json(MANIFEST, manifest)

    def write_json(self, name: str, value: Any) -> None:
        """Write a document."""
        with self.file(name) as file:
            file.write(json.dumps(value, indent=1).encode() + b"\n")

    def has(self, name: str) -> bool:
        """Say whether a file is there, and so whole."""
        return (self.folder / name).exists()

    def file(self, name: str) -> "NewFile":
        """Return a file to write; it takes its name at the end of a `with`, unless that raises."""
        return NewFile(self, self.folder / name)

    def check_space(self) -> None:
        """Let the export go on.

        Raises:
            StorageFull: too little is free.
        """
        free = shutil.disk_usage(self.folder).free
        if free < self._keep_free_bytes:
            raise StorageFull(
                f"only {free >> 20} MiB are free on the disk of {self.folder}, and exports leave"
                f" {self._keep_free_bytes >> 20} (exportKeepFreeBytes)"
            )


class NewFile:
    """A file that is being written under another name."""

    def __init__(self, destination: Destination, path: Path) -> None:
        """Use with `with`."""
        self._destination = destination
        self.path = path
        self._new = path.with_name(path.name + NEW_SUFFIX)
        self._fd = -1
        self.size = 0
        """Bytes so far."""

        self._checked = 0
        self._dropped = False

    def __enter__(self) -> Self:
        try:
            DISK.make_folder(self.path.parent)
            self._fd = DISK.open(self._new, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.fchmod(self._fd, 0o644)  # for other programs to read; folders above are the guard
        except OSError as problem:
            raise failure(problem, f"{self._new} cannot be made") from problem
        return self

    def write(self, *buffers: bytes | memoryview) -> int:
        """Append bytes; return where they begin.

        Raises:
            StorageFull: no space, or less than is to be left.
        """
        start = self.size
        self.size = self._put(buffers, start)
        if self.size - self._checked >= CHECK_EVERY_BYTES:
            self._checked = self.size
            self._destination.check_space()
        return start

    def parts(self) -> Iterator[bytes]:
        """Iterate over all bytes so far."""
        for at in range(0, self.size, PART_BYTES):
            yield read_all(DISK, self._fd, min(PART_BYTES, self.size - at), at)

    def drop(self) -> None:
        """Let there be no file after all."""
        self._dropped = True

    def overwrite(self, data: bytes, offset: int) -> None:
        """Replace bytes that were written before."""
        self._put([data], offset)

    def _put(self, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        try:
            return write_all(DISK, self._fd, buffers, offset)
        except OSError as problem:
            raise failure(problem, f"{self._new} cannot be written") from problem

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and not self._dropped:
                DISK.sync_data(self._fd)
                DISK.rename(self._new, self.path)
                DISK.sync_folder(self.path.parent)
            else:
                self._new.unlink(missing_ok=True)
        except OSError as problem:
            raise failure(problem, f"{self.path} cannot be finished") from problem
        finally:
            DISK.close(self._fd)
