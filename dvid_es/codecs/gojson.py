"""JSON and times as Go writes them, for answers whose bytes clients compare or parse by pattern.

Source: encoding/json and time of Go's library, as used by DVID's json.Marshal and time.String.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from dvid_es.errors import InvalidRequest

_DAYS_TO_1970 = 719_468
_ESCAPES = {c: f"\\u{c:04x}" for c in (*range(0x20), *map(ord, "<>&\u2028\u2029"))}
_ESCAPES |= {ord(c): "\\" + e for c, e in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)}
# A lone surrogate cannot be UTF-8; Go has the replacement character for what it cannot decode.
_ESCAPES |= dict.fromkeys(range(0xD800, 0xE000), "\\ufffd")
_FLAT = frozenset((str, int, bool, type(None)))
_ESCAPED = re.compile(rb"[\\<>&\x7f]|\xe2\x80[\xa8\xa9]").search
_encode = msgspec.json.Encoder(order="sorted").encode


def string(text: str) -> str:
    """Return a JSON string as Go's encoder escapes it: also `<`, `>`, `&`, U+2028 and U+2029."""
    return '"' + text.translate(_ESCAPES) + '"'


def number(value: float) -> str:
    """Return a float64 as Go's encoder writes it: shortest digits, exponents beyond 1e-6 ... 1e21.

    Raises:
        InvalidRequest: NaN and infinities have no JSON.
    """
    if not math.isfinite(value):
        raise InvalidRequest(f"{value} cannot be written as JSON")
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    digits, _, exponent_text = f"{value!r}".partition("e")
    sign = "-" if value < 0 else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    significant = (whole + fraction).lstrip("0")
    # The value is 0.SIGNIFICANT * 10 ** point.
    point = len(whole) + int(exponent_text or 0)
    point -= len(whole + fraction) - len(significant)
    significant = significant.rstrip("0")
    if 1e-6 <= abs(value) < 1e21:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{significant}"
        if point >= len(significant):
            return sign + significant + "0" * (point - len(significant))
        return f"{sign}{significant[:point]}.{significant[point:]}"
    tail = "." + significant[1:] if len(significant) > 1 else ""
    exponent = point - 1
    # Go takes the zero out of e-09 but pads nothing in e+21.
    return f"{sign}{significant[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent)}"


def float32(value: float) -> float:
    """Return a number as Go keeps it in 32 bits and writes it: shortest digits, whole ones without a point.

    The value must be finite in 32 bits.
    """
    short = float(np.format_float_positional(np.float32(value), unique=True))
    return int(short) if short.is_integer() else short


def _flat(value: dict[Any, Any]) -> str | None:
    """Return the text of an object of texts and whole numbers, None where Go may write another one."""
    for name, item in value.items():
        kind = type(item)
        if kind is list:
            if not all(type(one) is int for one in item):
                return None
        elif kind not in _FLAT:
            return None
        if type(name) is not str:
            return None
    try:
        data = _encode(value)
    except (OverflowError, UnicodeError):
        return None
    return None if _ESCAPED(data) else data.decode()


def dumps(value: Any, sort_keys: bool = False) -> str:
    """Return compact JSON text.

    Args:
        value: None, bool, int, float, str, and mappings and sequences of these.
        sort_keys: order the keys of mappings by their bytes, as Go does for maps (fields of structs
            keep their order: put those into the mapping in that order).

    Raises:
        InvalidRequest: a float that is not finite.
        TypeError: any other type.
    """
    if sort_keys and type(value) is dict and (text := _flat(value)) is not None:
        return text
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return string(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        keys = list(value)
        if sort_keys:
            keys.sort(key=lambda key: str(key).encode("utf-8", "surrogatepass"))
        items = (f"{string(str(key))}:{dumps(value[key], sort_keys)}" for key in keys)
        return "{" + ",".join(items) + "}"
    if type(value) is list and all(type(item) is int for item in value):
        return "[" + ",".join(map(int.__repr__, value)) + "]"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return "[" + ",".join([dumps(item, sort_keys) for item in value]) + "]"
    raise TypeError(f"no JSON for {type(value).__name__}")


def _civil(time_ns: int) -> tuple[str, str, int]:
    """Return date, time of day and nanoseconds, UTC; any integer works, also before 1970."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    days, second = divmod(seconds, 86_400)
    time = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return _date(days), time, nanoseconds


@lru_cache(64)  # what is written one after the other is of the same day
def _date(days: int) -> str:
    """Return a day, counted from 1970, in the calendar."""
    # Counted from 1 March of year 0, so that the leap day is the last of its year.
    days += _DAYS_TO_1970
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = era * 400 + year_of_era + (month <= 2)
    return f"{year:04d}-{month:02d}-{day:02d}"


def _fraction(nanoseconds: int) -> str:
    """Return `.` and the digits without trailing zeros; nothing for a whole second."""
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def rfc3339_nano(time_ns: int) -> str:
    """Return nanoseconds since 1970 as Go's RFC3339Nano in UTC: `2026-06-03T12:00:00.5Z`."""
    date, time, nanoseconds = _civil(time_ns)
    return f"{date}T{time}{_fraction(nanoseconds)}Z"


def rfc3339(time_ns: int) -> str:
    """Return nanoseconds since 1970 as Go's RFC3339 in UTC, cut to seconds."""
    return _rfc3339(time_ns // 1_000_000_000)


@lru_cache(16)
def _rfc3339(seconds: int) -> str:
    date, time, _ = _civil(seconds * 1_000_000_000)
    return f"{date}T{time}Z"


def time_string(time_ns: int) -> str:
    """Return nanoseconds since 1970 as Go's Time.String in UTC: `2021-02-14 00:58:02.7 +0000 UTC`."""
    date, time, nanoseconds = _civil(time_ns)
    return f"{date} {time}{_fraction(nanoseconds)} +0000 UTC"
