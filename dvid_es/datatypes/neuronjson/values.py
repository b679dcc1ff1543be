"""Annotations as texts: what is posted, made canonical; what comes of it; what of it is shown. Pure.

A record is a dict of field names and JSON texts. Equal values have equal texts, and the text of a record
is its fields in the order of their names: so records are compared, merged and cut without parsing values.

Source: NeuronJSON.UnmarshalJSON and updateJSON in datatype/neuronjson/neuronjson.go, selectFields in
datatype/neuronjson/fields.go (janelia-flyem/dvid).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from dvid_es.codecs import gojson
from dvid_es.errors import InvalidRequest

Record = dict[str, bytes]
"""Names and canonical JSON texts of the fields of an annotation."""

USER, TIME = "_user", "_time"
META = (USER, TIME)
"""How the names of fields end that say who set another field, and when."""

DEPTH_MAX = 100
_UNTIMED = frozenset({"bodyid", "user"})
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEYS_KEPT = 4096
_ABSENT = msgspec.Raw(b"")


def parse(text: bytes) -> Record:
    """Return a record of its text, which was made by `dump`."""
    return {name: bytes(value) for name, value in _RAW.decode(text).items()}


def dump(record: Mapping[str, bytes]) -> bytes:
    """Return the text of a record."""
    return b"{" + b",".join([_named(name) + record[name] for name in sorted(record)]) + b"}"


@lru_cache(_KEYS_KEPT)
def _named(name: str) -> bytes:
    return gojson.string(name).encode() + b":"


def is_meta(name: str) -> bool:
    """Say whether a field tells the author or time of another one."""
    return name.endswith(META)


def without(full: bytes, endings: str | tuple[str, ...]) -> bytes:
    """Return the text of a record without the fields whose names end like that."""
    found = _RAW.decode(full).items()
    parts = [_named(name) + bytes(text) for name, text in found if not name.endswith(endings)]
    return b"{" + b",".join(parts) + b"}"


# -- what is posted ---------------------------------------------------------------------------


def canonical(values: Mapping[str, Any]) -> dict[str, bytes | None]:
    """Return the texts of the fields of a posted object; None for null.

    Raises:
        InvalidRequest: a number is too large, or values are nested too deeply.
    """
    return {
        name: None if value is None else gojson.dumps(_settled(value, 0), sort_keys=True).encode()
        for name, value in values.items()
    }


def _settled(value: Any, depth: int) -> Any:
    """Return a value with each number as what it is kept as: 64-bit integers, or floats."""
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"values can be nested {DEPTH_MAX} times, not more")
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else _float(value)
    if type(value) is float:
        return _float(value)
    if isinstance(value, list):
        return [_settled(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {name: _settled(item, depth + 1) for name, item in value.items()}
    return value


def _float(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRequest("a number is too large for 64 bits")
    return number


def merged(
    old: Record | None,
    posted: Mapping[str, bytes | None],
    user: bytes,
    time: bytes,
    conditional: Collection[str] = (),
    replace: bool = False,
) -> Record:
    """Return the annotation that comes of what was there and what is posted.

    Args:
        old: what was there; None if nothing was.
        posted: new values; None takes a field away.
        user: who posts, as JSON text.
        time: when, as JSON text.
        conditional: names of fields that keep a value that they have.
        replace: fields that are not posted go.
    """
    removed = {name for name, text in posted.items() if text is None}
    new = {name: text for name, text in posted.items() if text is not None}
    for name in removed:
        if not is_meta(name):  # who took it away, and when, unless the client says
            for ending, text in ((USER, user), (TIME, time)):
                if name + ending not in posted:
                    new[name + ending] = text
    before = {name: text for name, text in (old or {}).items() if name not in removed}
    fresh, given = _fresh(None if old is None else before, new)
    if old is not None and not replace:
        for name, text in before.items():
            if name not in new:
                new[name] = text
            elif name in conditional:
                new[name] = text
                fresh.discard(name)
    for name in fresh:
        if name in _UNTIMED or name in removed or is_meta(name):
            continue
        if name + USER not in fresh:
            new[name + USER] = user
        if name + TIME not in fresh:
            new[name + TIME] = time
    if replace:
        for name in given - removed - {"bodyid"}:
            new.setdefault(name + USER, before.get(name + USER, user))
            new.setdefault(name + TIME, before.get(name + TIME, time))
    return new


def _fresh(before: Record | None, new: Record) -> tuple[set[str], set[str]]:
    """Return the names of fields that are set anew, and, if there was a record, of all plain ones."""
    if before is None:
        fresh = set(new)
        fresh |= {name[: -len(USER)] for name in new if name.endswith(USER)}
        return fresh, set()
    fresh = {name for name, text in new.items() if is_meta(name) or before.get(name) != text}
    return fresh, {name for name in new if not is_meta(name)}


def changes(old: Record | None, new: Record) -> tuple[str, ...]:
    """Return the names of the plain fields whose values differ."""
    names = {name for name, _ in (old or {}).items() ^ new.items()}
    return tuple(sorted(name for name in names if not is_meta(name)))


# -- what is shown ----------------------------------------------------------------------------


class Stored(NamedTuple):
    """An annotation as a row holds it."""

    basic: bytes
    """Its text without authors and times."""

    full: bytes
    """Its whole text."""


class Extractor:
    """Takes the texts of some fields out of an annotation, and does not look at the others."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take these fields, in this order."""
        self.names = tuple(names)
        self.full = any(is_meta(name) for name in names)
        """Whether authors or times are among them."""

        fields = [
            (f"field{place}", msgspec.Raw, msgspec.field(default=_ABSENT, name=name))
            for place, name in enumerate(names)
        ]
        kind = msgspec.defstruct("Fields", fields, frozen=True, gc=False)
        self._decode = msgspec.json.Decoder(kind).decode

    def texts(self, stored: Stored) -> list[bytes]:
        """Return the text of each field; nothing where it is absent."""
        found = self._decode(stored.full if self.full else stored.basic)
        return [bytes(text) for text in msgspec.structs.astuple(found)]


extractor = lru_cache(256)(Extractor)
"""`Extractor(names)`, names being a tuple, kept for the next time."""


class Shown:
    """Which fields of annotations a request wants."""

    def __init__(self, show: str = "", fields: str = "") -> None:
        """Take the options `show` (user, time or all) and `fields` (names with commas)."""
        self.user, self.time = show in ("user", "all"), show in ("time", "all")
        self.fields = frozenset(fields.split(",")) if fields else frozenset[str]()
        wanted = {"bodyid", *self.fields}
        for name in self.fields - {"bodyid"}:
            wanted |= {name + USER} if self.user else set()
            wanted |= {name + TIME} if self.time else set()
        self._names = [_named(name) for name in sorted(wanted)]
        self._texts = extractor(tuple(sorted(wanted))).texts

    @property
    def only_ids(self) -> bool:
        """Whether nothing but the body is wanted, by name."""
        return self.fields == {"bodyid"}

    def text(self, stored: Stored) -> bytes:
        """Return the text of an annotation with the fields that are wanted."""
        if not self.fields:
            if not (self.user or self.time):
                return stored.basic
            if self.user and self.time:
                return stored.full
            return without(stored.full, TIME if self.user else USER)
        texts = zip(self._names, self._texts(stored), strict=True)
        return b"{" + b",".join([key + text for key, text in texts if text]) + b"}"


def is_bare(body: int, text: bytes) -> bool:
    """Say whether a text that is shown has nothing but the body."""
    return len(text) < 32 and text == b'{"bodyid":%d}' % body
