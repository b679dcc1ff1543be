"""Exit codes: stable, and documented in docs/cli.md."""

from dvid_es.errors import Damage, DvidError, LogUnavailable, SettingsError, StorageFull

OK = 0
FOUND = 1
"""A check found something wrong."""

USAGE = 2
"""The command line is wrong; click's own code."""

SETTINGS = 3
"""A setting is wrong, an address or the data folder is in use."""

REFUSED = 4
"""The request was refused; nothing has changed."""

DAMAGE = 5
"""Stored bytes are not what was written."""

UNREACHABLE = 6
"""The server, or a broker of the log, does not answer."""

NO_SPACE = 7
"""The disk is full."""


class Unreachable(DvidError):
    """No server answers at the address."""


def code_of(problem: DvidError) -> int:
    """Return the exit code of an error."""
    match problem:
        case SettingsError():
            return SETTINGS
        case Damage():
            return DAMAGE
        case StorageFull():
            return NO_SPACE
        case Unreachable() | LogUnavailable():
            return UNREACHABLE
    return REFUSED
