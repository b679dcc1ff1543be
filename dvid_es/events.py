"""What happened: named, numbered events, and their bytes.

An event is a frozen struct under `@event(number, "datatype.action")`. Name and number are for ever;
the bytes hold the number and the schema, never a class path. A field may be added at the end with a
default; anything else is schema + 1 with an upcaster. Bulk bytes stay in packs: a field holds them
as `Bulk`, inline when small. Only this module turns events into bytes and back.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from dvid_es.errors import CorruptLog
from dvid_es.ids import PackRef

Bulk = bytes | PackRef
"""Bytes of an event: themselves, or where they lie in the packs of the repository."""

INLINE_BYTES_MAX = 512
"""Longer bulk values go to the packs."""


class Event(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Base of all events: facts that a fold needs and that replay must not decide again.

    Events, headers and records are trees, so the collector of cycles need not visit them.
    """


class Header(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What every event says besides its facts."""

    version: int = 0
    """Ordinal of the version written to; 0 for events about the repository itself."""

    instance: int = 0
    """Number of the data instance written to; 0 for none."""

    mutation_id: int = 0
    """DVID's mutation id; 0 for events that have none."""

    user: str = ""
    """The `u=` of the request."""

    app: str = ""
    """The `app=` of the request."""

    idempotency_key: str = ""
    """The client's Idempotency-Key; set on the last event of a command."""

    answer: bytes = b""
    """With an idempotency key: the answer that a repeated request gets again."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry of a stream: header and event at their offset."""

    offset: int
    """Position in the stream, dense from 0."""

    time_ns: int
    """When it was decided: nanoseconds since 1970, UTC."""

    header: Header
    event: Event


class EventType(msgspec.Struct, frozen=True):
    """A registered event: its permanent name and number, and the schema written today."""

    number: int
    name: str
    schema: int
    kind: type[Event]
    decode_facts: Callable[[bytes], Event]
    """Of today's schema."""


BY_NUMBER: dict[int, EventType] = {}
BY_CLASS: dict[type[Event], EventType] = {}
UPCASTERS: dict[tuple[int, int], Callable[[list[Any]], list[Any]]] = {}

_E = TypeVar("_E", bound=type[Event])
_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_many_headers = msgspec.msgpack.Decoder(list[Header]).decode


def event(number: int, name: str, *, schema: int = 1) -> Callable[[_E], _E]:
    """Register an event class under its permanent number (1 ... 65535) and name."""

    def register(kind: _E) -> _E:
        assert 0 < number < 65536
        assert number not in BY_NUMBER, f"{name} takes the number of {BY_NUMBER[number].name}"
        assert all(known.name != name for known in BY_NUMBER.values()), (
            f"{name} is registered twice"
        )
        decode_facts = msgspec.msgpack.Decoder(kind).decode
        known = EventType(
            number=number, name=name, schema=schema, kind=kind, decode_facts=decode_facts
        )
        BY_NUMBER[number] = known
        BY_CLASS[kind] = known
        return kind

    return register


def upcaster(number: int, schema: int) -> Callable[[Callable[[list[Any]], list[Any]]], Any]:
    """Register the step of an event's fields from `schema` to `schema + 1`."""

    def register(step: Callable[[list[Any]], list[Any]]) -> Callable[[list[Any]], list[Any]]:
        assert (number, schema) not in UPCASTERS
        UPCASTERS[(number, schema)] = step
        return step

    return register


def encode_event(value: Event) -> tuple[int, int, bytes]:
    """Return number, schema and bytes of an event."""
    known = BY_CLASS[type(value)]
    return known.number, known.schema, _encode(value)


def encode_header(value: Header) -> bytes:
    """Return the bytes of a header."""
    return _encode(value)


def decode(
    offset: int, number: int, schema: int, time_ns: int, header: bytes, facts: bytes
) -> Record:
    """Return the record of stored bytes, its event brought to today's schema.

    Raises:
        CorruptLog: the event is unknown or newer than this program, or its bytes do not fit. An
            event is never skipped: what follows may build on it.
    """
    known = BY_NUMBER.get(number)
    if known is None or schema > known.schema:
        what = f"event number {number}" if known is None else f"{known.name} of schema {schema}"
        raise CorruptLog(
            f"offset {offset}: {what} is not known to this version of dvid_es;"
            " it was written by a newer one: upgrade before opening this data"
        )
    try:
        if schema == known.schema:
            value = known.decode_facts(facts)
        else:
            fields = msgspec.msgpack.decode(facts)
            for step in range(schema, known.schema):
                fields = UPCASTERS[(number, step)](fields)
            value = msgspec.convert(fields, known.kind, strict=False)
        return Record(offset, time_ns, _decode_header(header), value)
    except msgspec.MsgspecError as problem:
        raise CorruptLog(f"offset {offset}: {known.name} cannot be read: {problem}") from problem


def decode_headers(headers: Sequence[bytes]) -> list[Header]:
    """Return many headers with one call of the decoder.

    Raises:
        CorruptLog: one of them cannot be read.
    """
    try:
        return _decode_many_headers(_array_of(headers))
    except msgspec.MsgspecError as problem:
        raise CorruptLog(
            f"a header of {len(headers)} events cannot be read: {problem}"
        ) from problem


def decode_alike(number: int, schema: int, facts: Sequence[bytes]) -> list[Event] | None:
    """Return many events of one kind with one call of the decoder.

    None: the kind is not known, or not of today's schema, or one of them cannot be read; `decode` each
    of them, which brings it up to date or says what is wrong.
    """
    known = BY_NUMBER.get(number)
    if known is None or schema != known.schema:
        return None
    decoder: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[known.kind])  # type: ignore[name-defined]
    try:
        return decoder.decode(_array_of(facts))
    except msgspec.MsgspecError:
        return None


def _array_of(items: Sequence[bytes]) -> bytes:
    """Return MessagePack of an array whose items are encoded already."""
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def to_builtins(record: Record) -> dict[str, Any]:
    """Return a record as JSON-able data, for people: bytes are shown by their length and head."""
    known = BY_CLASS[type(record.event)]
    facts = {
        name: _readable(getattr(record.event, name)) for name in record.event.__struct_fields__
    }
    header = {
        name: _readable(value)
        for name in record.header.__struct_fields__
        if (value := getattr(record.header, name))
    }
    return {
        "offset": record.offset,
        "time_ns": record.time_ns,
        "event": known.name,
        "schema": known.schema,
        **header,
        "facts": facts,
    }


def _readable(value: Any) -> Any:
    if isinstance(value, PackRef):
        return {
            "pack": value.pack,
            "offset": value.offset,
            "bytes": value.length,
            "digest": value.digest.hex(),
        }
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"{value[:32].hex()}... ({len(value)} bytes)"
    if isinstance(value, tuple | list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _readable(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return {name: _readable(getattr(value, name)) for name in value.__struct_fields__}
    return value
