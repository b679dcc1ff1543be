"""The CPU time of a server on this machine, and which process it is (Linux; elsewhere unknown)."""

import os
import socket
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"


def cpu_seconds(pid: int, proc: Path = PROC) -> float | None:
    """Return user plus system seconds of a process and its children, or None if it is not there.

    The resolution is that of the kernel's clock tick, mostly 10 ms.
    """
    ticks = [_ticks(one, proc) for one in [pid, *descendants(pid, proc)]]
    if ticks[0] is None:
        return None
    return sum(one for one in ticks if one is not None) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """Return the processes that `pid` started, and those that these started."""
    found: list[int] = []
    for listing in (proc / str(pid) / "task").glob("*/children"):
        try:
            children = [int(word) for word in listing.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child, proc)]
    return found


def memory_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Return the resident bytes of a process and its children, or None if it is not there."""
    total = None
    for one in [pid, *descendants(pid, proc)]:
        try:
            pages = int((proc / str(one) / "statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue
        total = (total or 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return total


def find_listener(host: str, port: int, proc: Path = PROC) -> int | None:
    """Return the process that listens on a port of this machine, or None if that cannot be told.

    Of several that share the socket (a server and its workers) it is the one that started first.
    """
    if not _is_here(host):
        return None
    sockets = {f"socket:[{inode}]" for inode in _listening(port, proc)}
    if not sockets:
        return None
    for folder in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                return int(folder.name)
        except OSError:
            # Another user's process, or one that has just ended.
            continue
    return None


def _is_here(host: str) -> bool:
    try:
        return socket.gethostbyname(host).startswith("127.") or host == "::1"
    except OSError:
        return False


def _listening(port: int, proc: Path) -> set[str]:
    inodes = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in (line.split() for line in lines):
            if words[3] == LISTEN and int(words[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(words[9])
    return inodes


def _ticks(pid: int, proc: Path) -> int | None:
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name of the program stands in brackets and may hold blanks and brackets itself.
    words = text.rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def load_average() -> float | None:
    """Return how many processes wanted to run in the last minute, or None where it is not told."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
