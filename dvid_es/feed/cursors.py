"""Named places in the events of a repository, kept by the server for followers that come back.

They are no events, and nothing is made from them: one small file for each repository, replaced whole.
"""

import re
import threading
from pathlib import Path

import msgspec

from dvid_es.errors import CorruptStore, InvalidRequest
from dvid_es.logs.disk import DISK, create, failure

CURSORS_MAX = 1000
"""Of one repository."""

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}\Z")


class Cursors:
    """The cursors below one folder; any thread may use them, and each call may write a file."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, made when the first cursor is set."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, int]] = {}

    def all(self, root: str) -> dict[str, int]:
        """Return by name the last sequence that was acknowledged."""
        with self._lock:
            return dict(sorted(self._load(root).items()))

    def set(self, root: str, name: str, sequence: int) -> None:
        """Acknowledge all events up to a sequence; -1 for none. Durable when this returns.

        Raises:
            InvalidRequest: no such name may be, or there are too many.
            StorageFull: no space; the cursor is where it was.
        """
        if not _NAME.match(name):
            raise InvalidRequest(
                "a cursor has 1 to 100 letters, digits, dots, dashes or underscores"
            )
        with self._lock:
            found = dict(self._load(root))
            if name not in found and len(found) >= CURSORS_MAX:
                raise InvalidRequest(f"a repository has at most {CURSORS_MAX} cursors: delete some")
            self._store(root, {**found, name: sequence})

    def delete(self, root: str, name: str) -> bool:
        """Remove a cursor; say whether there was one."""
        with self._lock:
            found = dict(self._load(root))
            there = found.pop(name, None) is not None
            if there:
                self._store(root, found)
            return there

    def _path(self, root: str) -> Path:
        return self._folder / f"{root}.json"

    def _load(self, root: str) -> dict[str, int]:
        known = self._known.get(root)
        if known is None:
            path = self._path(root)
            try:
                known = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
            except FileNotFoundError:
                known = {}
            except msgspec.MsgspecError as problem:
                raise CorruptStore(f"{path} is damaged; remove it: cursors begin anew") from problem
            self._known[root] = known
        return known

    def _store(self, root: str, cursors: dict[str, int]) -> None:
        try:
            DISK.make_folder(self._folder)
            DISK.close(create(DISK, self._path(root), [msgspec.json.encode(cursors)]))
        except OSError as problem:
            raise failure(problem, f"the cursors in {self._folder} cannot be kept") from problem
        self._known[root] = cursors
