"""Snapshots: a copy of the projections with a manifest, from which a start goes on with the log.

A snapshot appears under its name whole and durable or not at all, and it is never needed: without
one everything is replayed. It may be taken while a server writes.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from dvid_es.errors import CorruptStore, DvidError, StorageFull
from dvid_es.logs.disk import DISK, NO_SPACE, create, lock_folder, write_all
from dvid_es.projections.store import Store
from dvid_es.replay.catchup import check_not_ahead, checkpoints
from dvid_es.replay.digest import Kinds, Part, digests
from dvid_es.replay.places import LAYOUT, Places, layout_of, remove, swap_in, write_layout

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the manifest."""

KEEP = 3
_MANIFEST = "manifest.json"
_DATA = "data.mdb"
_NEW = ".new"
_PIECE_BYTES = 1 << 20


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself."""

    format: int
    layout: int
    """Of the rows: a snapshot of another layout is passed over."""

    time_ns: int
    """When it was taken: nanoseconds since 1970, UTC."""

    offsets: dict[str, int]
    """By root UUID, how many events are applied: the first one to apply after a restore."""

    bytes: int
    """Length of the copy."""

    blake2b: str
    """Digest of the copy's bytes, 32 bytes in hexadecimal."""

    parts: list[Part]
    """Digests of the rows."""


class Snapshot(NamedTuple):
    """A snapshot in its folder."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name of its folder: a number that rises."""
        return self.folder.name


def take(
    places: Places,
    kinds: Kinds,
    time_ns: int,
    keep: int = KEEP,
    store: Store | None = None,
) -> Snapshot | None:
    """Copy the live store as it is now and keep the newest `keep` snapshots.

    Args:
        places: of the data folder; a server may be running on it.
        kinds: of all datatypes.
        time_ns: for the manifest.
        keep: how many snapshots stay, at least 1.
        store: the live store if this process has it open.

    Returns:
        The new snapshot, or None if there is no store to copy.

    Raises:
        CorruptStore: the store cannot be read, or has another layout.
        SettingsError: another snapshot is being taken.
        StorageFull: no space for the copy; nothing is left of it.
    """
    if not (places.projections / _DATA).exists():
        return None
    if layout_of(places.projections) != LAYOUT:
        raise CorruptStore("the projections have another layout; start the server to renew them")
    DISK.make_folder(places.snapshots)
    lock = lock_folder(DISK, places.snapshots)
    new = places.snapshots / ("making" + _NEW)
    try:
        for leftover in places.snapshots.glob("*" + _NEW):
            remove(leftover)
        folder = places.snapshots / f"{_last_number(places) + 1:08d}"
        manifest = _make(places, new, kinds, time_ns, store)
        DISK.rename(new, folder)
        DISK.sync_folder(places.snapshots)
        _retire(places, max(1, keep))
        return Snapshot(folder, manifest)
    except (OSError, DvidError) as problem:
        remove(new)
        if isinstance(problem, OSError) and problem.errno in NO_SPACE:
            raise StorageFull(f"no space for a snapshot: {problem}") from problem
        raise
    finally:
        DISK.close(lock)


def _make(places: Places, new: Path, kinds: Kinds, time_ns: int, store: Store | None) -> Manifest:
    if store is not None:
        store.copy_to(new)
    else:
        live = Store(places.projections, read_only=True)
        try:
            live.copy_to(new)
        finally:
            live.close()
    # Offsets and digests are read from the copy, so they are its own whatever happened meanwhile.
    copy = Store(new, read_only=True)
    try:
        offsets, parts = checkpoints(copy), digests(copy, kinds)
    finally:
        copy.close()
    (new / "lock.mdb").unlink(missing_ok=True)
    size, digest = _durable(new / _DATA)
    manifest = Manifest(
        format=FORMAT, layout=LAYOUT, time_ns=time_ns, offsets=offsets,
        bytes=size, blake2b=digest, parts=parts,
    )  # fmt: skip
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    DISK.close(create(DISK, new / _MANIFEST, [text]))
    return manifest


def _durable(path: Path) -> tuple[int, str]:
    """Make a file durable; return its length and digest."""
    state, size = blake2b(digest_size=32), 0
    for piece in _pieces(path):
        state.update(piece)
        size += len(piece)
    fd = DISK.open(path, os.O_RDONLY)
    try:
        DISK.sync_data(fd)
    finally:
        DISK.close(fd)
    return size, state.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _folders(places: Places) -> list[Path]:
    """Return the folders of snapshots, newest first."""
    if not places.snapshots.is_dir():
        return []
    return sorted(
        (path for path in places.snapshots.iterdir() if path.is_dir() and path.name.isdecimal()),
        key=lambda path: int(path.name),
        reverse=True,
    )


def _last_number(places: Places) -> int:
    return max((int(path.name) for path in _folders(places)), default=0)


def _retire(places: Places, keep: int) -> None:
    for folder in _folders(places)[keep:]:
        remove(folder)


def listing(places: Places) -> list[Snapshot]:
    """Return the snapshots whose manifest can be read, newest first."""
    found = []
    for folder in _folders(places):
        try:
            manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError) as problem:
            logger.warning("snapshot %s has no good manifest: %s", folder, problem)
            continue
        found.append(Snapshot(folder, manifest))
    return found


def usable(places: Places, ends: Mapping[str, int]) -> Iterator[Snapshot]:
    """Return the snapshots that this program can read, newest first; their copies are unchecked.

    Args:
        places: of the data folder.
        ends: by root UUID, how many events each log holds.

    Raises:
        CorruptStore: a snapshot is ahead of a log: log files are missing.
    """
    for found in listing(places):
        manifest = found.manifest
        if manifest.format != FORMAT or manifest.layout != LAYOUT:
            logger.info("snapshot %s has another layout and is passed over", found.name)
            continue
        check_not_ahead(manifest.offsets, ends)
        yield found


def check(found: Snapshot) -> str:
    """Return what is wrong with the bytes of a snapshot's copy, or an empty text."""
    try:
        return _problem(found, _pieces(found.folder / _DATA))
    except OSError as problem:
        return str(problem)


def _problem(found: Snapshot, pieces: Iterable[bytes]) -> str:
    state, size = blake2b(digest_size=32), 0
    for piece in pieces:
        state.update(piece)
        size += len(piece)
    if size != found.manifest.bytes:
        return f"it has {size} bytes of {found.manifest.bytes}"
    return "" if state.hexdigest() == found.manifest.blake2b else "its bytes are not those written"


def restore_newest(places: Places, ends: Mapping[str, int]) -> Snapshot | None:
    """Make a copy of the newest sound snapshot the live store; None if there is none.

    Raises:
        CorruptStore: a snapshot is ahead of a log: log files are missing.
        StorageFull: no space for it; nothing is changed.
    """
    for found in usable(places, ends):
        remove(places.rebuild)
        write_layout(places.rebuild)
        try:
            problem = _copy(found, places.rebuild / _DATA)
        except OSError as error:
            remove(places.rebuild)
            if error.errno in NO_SPACE:
                raise StorageFull(f"no space to restore a snapshot: {error}") from error
            problem = str(error)
        if not problem:
            swap_in(places)
            return found
        logger.warning("snapshot %s is damaged and passed over: %s", found.name, problem)
    remove(places.rebuild)
    return None


def _copy(found: Snapshot, target: Path) -> str:
    """Copy the store of a snapshot, durably; return what is wrong with its bytes."""
    fd = DISK.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    position = 0

    def written() -> Iterator[bytes]:
        nonlocal position
        for piece in _pieces(found.folder / _DATA):
            position = write_all(DISK, fd, [piece], position)
            yield piece

    try:
        problem = _problem(found, written())
        DISK.sync_data(fd)
    finally:
        DISK.close(fd)
    return problem


def discard_ahead(places: Places, ends: Mapping[str, int]) -> list[str]:
    """Remove the snapshots that hold events which the logs lack; return their names."""
    gone = []
    for found in listing(places):
        if any(held > ends.get(root, 0) for root, held in found.manifest.offsets.items()):
            remove(found.folder)
            gone.append(found.name)
    return gone
