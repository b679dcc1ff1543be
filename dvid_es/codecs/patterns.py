"""Regular expressions that clients send: RE2's, which Go has too, and which take linear time."""

from collections.abc import Callable
from functools import lru_cache

import re2

PATTERN_CHARACTERS_MAX = 10_000

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

Search = Callable[[str], bool]
"""Says whether a text has a part that matches."""


@lru_cache(256)
def search(pattern: str) -> Search | None:
    """Return what searches texts for an expression, unanchored; None if it is none."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        return None
    try:
        found = re2.compile(pattern, _OPTIONS).search
    except (re2.error, UnicodeError):
        return None
    return lambda text: found(text) is not None
