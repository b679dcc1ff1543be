"""What a server sets up in its process: the log file, the pid file, the C library's memory."""

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler

from dvid_es.errors import SettingsError
from dvid_es.settings import Settings

_SWITCH_SECONDS = 0.0002
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_FILES_KEPT = 20
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_file(settings: Settings) -> None:
    """Report to the file of the settings, if they name one, instead of standard error.

    Raises:
        SettingsError: the file cannot be written.
    """
    if settings.log_file is None:
        return
    try:
        handler = RotatingFileHandler(
            settings.log_file, maxBytes=settings.log_max_megabytes << 20, backupCount=_FILES_KEPT
        )
    except OSError as problem:
        raise SettingsError(f"the log file cannot be written: {problem}") from problem
    levels = logging.getLevelNamesMapping()
    level = levels.get(settings.log_level.upper(), logging.INFO)
    logging.basicConfig(handlers=[handler], level=level, format=_FORMAT, force=True)


@contextmanager
def pid_file(settings: Settings) -> Iterator[None]:
    """Keep this process's number in a file while it runs, if the settings name one.

    Raises:
        SettingsError: the file cannot be written.
    """
    path = settings.pid_file
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as problem:
        raise SettingsError(f"the pid file cannot be written: {problem}") from problem
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def switch_threads_sooner() -> None:
    """Let the writer have the interpreter soon after a sync, while requests keep the event loop busy.

    Python's own 5 ms are ten times what a batch of writes takes.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)


def raise_malloc_thresholds() -> None:
    """Let glibc keep freed pieces of some megabytes: answers need them again at once.

    Measured: joined answers of 4 MB are 3.5 times as fast.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another libc
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 64 << 20)
