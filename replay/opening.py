"""Opening the projections at start: the live store if it is sound, else a snapshot, else nothing.

What comes back may lack events; `catch_up` applies them. Bytes that a power loss may have torn are
looked at by a child process first, because LMDB can answer damaged pages with a signal.
"""

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dvid_es
from dvid_es.errors import CorruptStore
from dvid_es.projections import anchor
from dvid_es.projections.store import Store
from dvid_es.replay import snapshot
from dvid_es.replay.places import (
    LAYOUT,
    Places,
    layout_of,
    mark_running,
    remove,
    set_aside,
    settle,
    was_clean,
    write_layout,
)

logger = logging.getLogger(__name__)

_EXAMINE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from dvid_es.errors import CorruptStore
from dvid_es.projections.store import examine
try:
    print(examine(Path(sys.argv[2])))
except CorruptStore as problem:
    sys.exit(str(problem))
"""


def open_store(places: Places, ends: Mapping[str, int]) -> Store:
    """Open the projections of a data folder, whatever the last stop left.

    Args:
        places: of the data folder; its lock is held.
        ends: by root UUID, how many events each log holds.

    Returns:
        A sound store, not ahead of any log unless the live one is: `catch_up` refuses that.

    Raises:
        CorruptStore: there is no store, and a snapshot is ahead of a log: log files are missing.
    """
    settle(places)
    store = _open_live(places)
    if store is None:
        found = snapshot.restore_newest(places, ends)
        if found is not None:
            logger.info("starting from snapshot %s", found.name)
        else:
            write_layout(places.projections)
        store = Store(places.projections)
    mark_running(places)
    return store


def _open_live(places: Places) -> Store | None:
    """Return the live store, or None after taking an unusable one out of the way."""
    folder = places.projections
    if not (folder / "data.mdb").exists():
        remove(folder)
        return None
    if layout_of(folder) != LAYOUT:
        logger.info("the projections have another layout than this program's: making them anew")
        remove(folder)
        return None
    try:
        if not was_clean(places):
            logger.info("the last stop was not clean: examining the projections")
            anchor.settle(folder)
            examine_apart(folder)
        return Store(folder)
    except CorruptStore as problem:
        set_aside(places, str(problem))
        return None


def examine_apart(folder: Path) -> int:
    """Read the whole store in a child process and return the number of its rows.

    Raises:
        CorruptStore: it is damaged; also if reading it ended the child by a signal.
    """
    package = Path(dvid_es.__file__).parent.parent
    command = [sys.executable, "-c", _EXAMINE, str(package), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise CorruptStore(f"{folder}: reading it ended a process by signal {-done.returncode}")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise CorruptStore(lines[-1] if lines else f"{folder}: it cannot be read")
    return int(done.stdout)
