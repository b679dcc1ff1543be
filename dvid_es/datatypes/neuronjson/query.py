"""Queries: conditions on fields, which all or of which one list must hold. Pure.

Fields are canonical JSON texts, so a number or text is found by comparing bytes. A row that cannot match
is mostly told from its bytes alone: it lacks the name of a field, or every text that is asked for.

Source: datatype/neuronjson/query.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dvid_es.codecs import gojson, patterns
from dvid_es.datatypes.neuronjson.rows import decode
from dvid_es.datatypes.neuronjson.values import Stored, extractor
from dvid_es.errors import InvalidRequest
from dvid_es.http.wire import parse_json

NEEDLES_MAX = 4
"""Rows are not searched for more texts than this before they are read."""

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_QUOTE, _BRACKET = b'"'[0], b"["[0]


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of one field."""

    name: str
    exists: bool | None = None
    """Whether it must be there, or must not; None if its value counts."""

    texts: frozenset[bytes] = frozenset()
    """JSON texts of which it must have one, itself or as a member of its list."""

    floats: bool = False
    """`texts` are of fractions: members of lists do not count."""

    searches: tuple[patterns.Search, ...] = ()
    """One of which may find something in a text instead."""

    def needles(self) -> tuple[bytes, ...]:
        """Return texts of which a row that matches has at least one; none if that cannot be said."""
        if self.exists is False:
            return ()
        if self.exists is None and not self.searches and 0 < len(self.texts) <= NEEDLES_MAX:
            return tuple(self.texts)
        return (gojson.string(self.name).encode() + b":",)

    def accepts(self, text: bytes) -> bool:
        """Say whether a field of this text fulfils it; nothing is a field that is absent."""
        if self.exists is not None:
            return self.exists == bool(text)
        if not text:
            return False
        if text in self.texts:
            return True
        if text[0] == _QUOTE:
            return bool(self.searches) and self._found(text)
        return text[0] == _BRACKET and not self.floats and self._in_list(text)

    def _found(self, text: bytes) -> bool:
        plain = _TEXT.decode(text)
        return any(search(plain) for search in self.searches)

    def _in_list(self, text: bytes) -> bool:
        """Look into a list of whole numbers or of texts; others are never found."""
        members = [bytes(member) for member in _LIST.decode(text)]
        if members and all(member[0] == _QUOTE for member in members):
            return any(one in self.texts or (self.searches and self._found(one)) for one in members)
        if not all(_is_whole(member) for member in members):
            return False
        return any(member in self.texts for member in members)


def _is_whole(text: bytes) -> bool:
    return text.removeprefix(b"-").isdigit()


@dataclass(frozen=True, slots=True)
class Query:
    """Lists of conditions: one list must hold as a whole."""

    alternatives: tuple[tuple[Condition, ...], ...]

    bodies: tuple[int, ...] | None
    """What is asked for by body alone, in this order; None if there are other conditions."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that conditions are on, each once."""
        return tuple(dict.fromkeys(one.name for all_of in self.alternatives for one in all_of))

    def matching(self, rows: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, Stored]]:
        """Iterate over the bodies and annotations of rows that match."""
        needles = [
            [found for condition in all_of if (found := condition.needles())]
            for all_of in self.alternatives
        ]
        fields = extractor(self.names)
        places = {name: place for place, name in enumerate(fields.names)}
        alternatives = [[(places[one.name], one) for one in all_of] for all_of in self.alternatives]
        for body, row in rows:
            if not any(
                all(any(needle in row for needle in some) for some in wanted) for wanted in needles
            ):
                continue
            stored = decode(row)
            texts = fields.texts(stored)
            if any(all(one.accepts(texts[at]) for at, one in all_of) for all_of in alternatives):
                yield body, stored


def parse(body: bytes) -> Query:
    """Return the query of a request: an object, or a list of objects.

    Raises:
        InvalidRequest: anything else, or an empty list.
    """
    value = parse_json(body) if body.strip() else None
    queries = [value] if isinstance(value, dict) else value
    if queries is None or queries == []:
        raise InvalidRequest("no query provided")
    if not isinstance(queries, list) or not all(isinstance(one, dict) for one in queries):
        shown = body[:200].decode("utf-8", "replace")
        raise InvalidRequest(f"unable to parse JSON query: {shown}")
    alternatives = tuple(
        tuple(_condition(name, wanted) for name, wanted in query.items()) for query in queries
    )
    return Query(alternatives, _only_bodies(queries))


def _only_bodies(queries: Sequence[Mapping[str, Any]]) -> tuple[int, ...] | None:
    """Return the bodies if nothing else is asked for than these."""
    bodies: list[int] = []
    for query in queries:
        for name, wanted in query.items():
            some = [] if wanted is None else wanted if isinstance(wanted, list) else [wanted]
            if name != "bodyid" or not all(type(one) is int for one in some):
                return None
            bodies += some
    return tuple(body for body in bodies if 0 < body < 1 << 64)


def _condition(name: str, wanted: Any) -> Condition:
    if isinstance(wanted, str):
        return _of_texts(name, [wanted], alone=True)
    if type(wanted) is int:
        return Condition(name, texts=frozenset([b"%d" % wanted]))
    if not isinstance(wanted, list) or not wanted:
        return Condition(name)  # true, null, objects and fractions are never found
    if all(type(one) is int or one is None for one in wanted):
        return Condition(name, texts=frozenset(b"%d" % (one or 0) for one in wanted))
    if type(wanted[0]) in (int, float):
        fractions = [one for one in wanted if type(one) is float and not one.is_integer()]
        texts = frozenset(gojson.number(one).encode() for one in fractions)
        return Condition(name, texts=texts, floats=True)
    if wanted[0] is None or isinstance(wanted[0], str):
        return _of_texts(name, [one or "" for one in wanted if one is None or isinstance(one, str)])
    return Condition(name)


def _of_texts(name: str, wanted: Sequence[str], alone: bool = False) -> Condition:
    """Return a condition on texts: "re/..." searches, and alone, "exists/0" and "exists/1" test."""
    texts, searches = [], []
    for text in wanted:
        if alone and len(text) == len("exists/0") and text.startswith("exists/"):
            return Condition(name, exists=text[-1] != "0")
        search = patterns.search(text[3:]) if text.startswith("re/") else None
        if search is None:
            texts.append(gojson.string(text).encode())
        else:
            searches.append(search)
    return Condition(name, texts=frozenset(texts), searches=tuple(searches))
