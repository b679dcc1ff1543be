"""Where things lie in a data folder, and how projections are put in place of others.

A swap is three names: `projections.rebuild` is being made and means nothing; `projections.ready` is
whole and durable and shall become `projections`; `projections.old` is what it replaces. Whatever
rename a crash falls between, `settle` finishes the swap, and there is a whole store at every moment.
"""

import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import StorageFull, WritesHalted
from dvid_es.logs.disk import DISK, NO_SPACE, create

logger = logging.getLogger(__name__)

LAYOUT = 4
"""Rises whenever a row of any projection changes its key or its value: older stores are rebuilt."""


class Places(NamedTuple):
    """The folders and files of one data folder."""

    data: Path

    @property
    def repos(self) -> Path:
        """Logs and packs: one folder for each repository."""
        return self.data / "repos"

    @property
    def projections(self) -> Path:
        """The live store."""
        return self.data / "projections"

    @property
    def rebuild(self) -> Path:
        """A store that is being made."""
        return self.data / "projections.rebuild"

    @property
    def ready(self) -> Path:
        """A whole store on its way into place."""
        return self.data / "projections.ready"

    @property
    def old(self) -> Path:
        """A store that was replaced, about to be removed."""
        return self.data / "projections.old"

    @property
    def damaged(self) -> Path:
        """The last store that was set aside, kept for whoever wants to look."""
        return self.data / "projections.damaged"

    @property
    def snapshots(self) -> Path:
        """Copies of the store, one folder each."""
        return self.data / "snapshots"

    @property
    def analytics(self) -> Path:
        """History as Parquet files: one folder for each repository."""
        return self.data / "analytics"

    @property
    def clean_stop(self) -> Path:
        """The marker of a clean stop: there while no process has the store open."""
        return self.data / "clean-stop"


def layout_of(folder: Path) -> int:
    """Return the layout of the store in a folder; 0 if it does not say."""
    try:
        return int((folder / "LAYOUT").read_text())
    except (OSError, ValueError):
        return 0


def write_layout(folder: Path) -> None:
    """Say in a store's folder, made if need be, which layout its rows have."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    DISK.close(create(DISK, folder / "LAYOUT", [b"%d\n" % LAYOUT]))


def settle(places: Places) -> None:
    """Finish or undo what a crash interrupted; nothing else may use the folder."""
    remove(places.rebuild)
    if places.ready.exists():
        logger.info("finishing the swap of the projections in %s", places.data)
        _move_in(places)
    remove(places.old)


def swap_in(places: Places) -> None:
    """Make the finished store in `places.rebuild` the live one.

    Its files are durable already. After a crash in here `settle` goes on.
    """
    DISK.sync_folder(places.rebuild)
    remove(places.ready)
    DISK.rename(places.rebuild, places.ready)
    DISK.sync_folder(places.data)
    _move_in(places)


def _move_in(places: Places) -> None:
    if places.projections.exists():
        remove(places.old)
        DISK.rename(places.projections, places.old)
        DISK.sync_folder(places.data)
    DISK.rename(places.ready, places.projections)
    DISK.sync_folder(places.data)
    remove(places.old)


def set_aside(places: Places, reason: str) -> None:
    """Take a damaged store out of the way; the one set aside before is removed."""
    remove(places.damaged)
    DISK.rename(places.projections, places.damaged)
    DISK.sync_folder(places.data)
    logger.warning("the projections are damaged and set aside in %s: %s", places.damaged, reason)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def was_clean(places: Places) -> bool:
    """Say whether the last process that had the store open closed it in order."""
    return places.clean_stop.exists()


def mark_running(places: Places) -> None:
    """Take the marker of a clean stop away, durably: before the first change."""
    if places.clean_stop.exists():
        DISK.unlink(places.clean_stop)
        DISK.sync_folder(places.data)


def mark_clean(places: Places) -> None:
    """Say that everything was closed in order and is durable.

    Raises:
        StorageFull: no space; then the next start examines the store, which is no harm.
    """
    try:
        DISK.close(create(DISK, places.clean_stop, [b"closed in order\n"]))
    except OSError as problem:
        kind = StorageFull if problem.errno in NO_SPACE else WritesHalted
        raise kind(f"the marker of a clean stop cannot be written: {problem}") from problem
