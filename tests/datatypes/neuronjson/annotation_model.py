"""What annotations must become and which ones queries must find: plain values, rule by rule."""

from __future__ import annotations

import re
from typing import Any

NOW = "<now>"


def is_meta(name: str) -> bool:
    return name.endswith(("_user", "_time"))


def same(one: Any, other: Any) -> bool:
    """Equal, and true is not 1; 3 and 3.0 are the same number."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one == other


def posted(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    user: str,
    conditional: tuple[str, ...] = (),
    replace: bool = False,
) -> dict[str, Any]:
    before = {name: value for name, value in (old or {}).items() if new.get(name, 1) is not None}
    kept = set() if replace else set(conditional) & before.keys() & new.keys()
    result = {} if replace else dict(before)
    result |= {name: new[name] for name in new if name not in kept and new[name] is not None}
    for name in {name.removesuffix("_user") if name.endswith("_user") else name for name in new}:
        value, only_author = new.get(name), name not in new
        if name == "bodyid" or is_meta(name) or (only_author and old is not None):
            continue
        if only_author and (new[f"{name}_user"] is None or name == "user"):
            continue
        for ending, stamp in (("_user", user), ("_time", NOW)):
            meta = name + ending
            given = meta in new and meta not in kept and (new[meta] is not None)
            if name in new and value is None:
                if meta not in new:
                    result[meta] = stamp
                elif meta in kept:
                    result[meta] = before[meta]
            elif given or name in kept:
                pass
            elif not only_author and name in before and same(before[name], value):
                if replace:
                    result[meta] = before.get(meta, stamp)
            elif name != "user" or (replace and old is not None):
                result[meta] = stamp
    return result


def shown(record: dict[str, Any], show: str = "", fields: str = "") -> dict[str, Any]:
    endings = {"user": ["_user"], "time": ["_time"], "all": ["_user", "_time"]}.get(show, [])
    if not fields:
        return {
            name: value
            for name, value in record.items()
            if not is_meta(name) or any(name.endswith(ending) for ending in endings)
        }
    wanted = {"bodyid"}
    for name in fields.split(","):
        wanted |= {name} | {name + ending for ending in endings if name != "bodyid"}
    return {name: value for name, value in record.items() if name in wanted}


def matches(query: dict[str, Any], record: dict[str, Any]) -> bool:
    return all(_holds(wanted, record.get(name)) for name, wanted in query.items())


def _holds(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, str) and re.fullmatch("exists/.", wanted):
        return (value is not None) == (wanted[-1] != "0")
    several = wanted if isinstance(wanted, list) else [wanted]
    whole = isinstance(value, float) and value.is_integer()
    members = value if isinstance(value, list) else [int(value) if whole else value]
    kinds = {type(member) for member in members}
    if isinstance(value, list) and kinds not in ({int}, {str}):
        return False
    return any(_is(one, member, isinstance(wanted, list)) for one in several for member in members)


def _is(wanted: Any, member: Any, in_list: bool) -> bool:
    if type(wanted) is int:
        return type(member) is int and wanted == member
    if isinstance(wanted, float):
        return in_list and type(member) is float and wanted == member
    if isinstance(wanted, str) and isinstance(member, str):
        if wanted.startswith("re/"):
            return re.search(wanted[3:], member) is not None
        return wanted == member
    return False
