"""What may be asked of a neuronjson instance, and when the answer is no."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dvid_es.codecs import gojson
from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.neuronjson.events import (
    RecordsDeleted,
    RecordsPut,
    SchemaDeleted,
    SchemaPut,
)
from dvid_es.datatypes.neuronjson.posted import Posted, prepare
from dvid_es.datatypes.neuronjson.reads import find, find_row, find_schema
from dvid_es.datatypes.neuronjson.rows import decode
from dvid_es.datatypes.neuronjson.values import Record, changes, dump, merged, parse
from dvid_es.errors import InvalidRequest, VersionConflict
from dvid_es.events import Bulk
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

EVENT_BYTES = 8 << 20
"""A batch with longer records than this is more than one event: each has to fit into the log."""

RECORD_BYTES_MAX = 32 << 20

NOW = b'"\0now"'
"""Stands for the time of the event, which only the writer knows; no JSON text has a zero in it."""

NOTHING, CONFLICT = -1, -2
"""In place of the event that wrote an annotation."""


def packed(bodies: Iterable[int]) -> bytes:
    """Return bodies as events hold them: uint64, little endian."""
    numbers = tuple(bodies)
    return struct.pack(f"<{len(numbers)}Q", *numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How what is posted changes what is there."""

    user: str
    conditional: frozenset[str] = frozenset()
    """Fields that keep a value that they have."""

    replace: bool = False
    """Whether fields that are not posted go."""


class Change(NamedTuple):
    """What comes of what is posted for a body."""

    body: int
    text: bytes
    """The annotation, with `NOW` for the time."""

    changed: tuple[str, ...]
    posted: int
    """Bytes."""


class Worked(NamedTuple):
    """All changes of a request, and what they were worked out from."""

    changes: tuple[Change, ...]
    """Without those that change nothing."""

    seen: tuple[tuple[int, int], ...]
    """Each body, and the event that wrote what was there; -1 for nothing."""


def work_out(txn: ReadTxn, instance: int, view: View, posted: Iterable[Posted], how: How) -> Worked:
    """Return what comes of what is posted, in the state of a transaction.

    Raises:
        VersionConflict: parents of a version merge disagree about an annotation that is not replaced.
    """
    user = gojson.string(how.user).encode()
    before: dict[int, Record | None] = {}
    after: dict[int, Record] = {}
    sizes: dict[int, int] = {}
    seen = []
    for body, raw, fields in posted:
        if body not in before:
            before[body], sequence = _found(txn, instance, body, view, how.replace)
            seen.append((body, sequence))
        old = after.get(body, before[body])
        after[body] = merged(old, fields, user, NOW, how.conditional, how.replace)
        sizes[body] = len(raw)
    found = tuple(
        Change(body, dump(new), changes(before[body], new), sizes[body])
        for body, new in after.items()
        if new != before[body]
    )
    return Worked(found, tuple(seen))


def _found(
    txn: ReadTxn, instance: int, body: int, view: View, replace: bool
) -> tuple[Record | None, int]:
    """Return an annotation, and the event that wrote it; one in conflict is nothing if it is replaced."""
    try:
        row = find_row(txn, instance, body, view)
    except VersionConflict:
        if not replace:
            raise
        return None, CONFLICT
    if row is None:
        return None, NOTHING
    return parse(decode(row.value).full) if row.value else None, row.sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRecords:
    """Change annotations, all or none: fields that are posted are set, the others stay."""

    posted: tuple[Posted, ...]
    schema: int
    """Sequence of the JSON schema that they were validated by; -1 for none."""

    how: How
    worked: Worked | None = None
    """Worked out ahead of the decision, which takes it if nothing has changed since."""

    batch: bool = False
    addressed: int = 0

    def decide(self, context: Context) -> Decision:
        """Return the events: none if everything is as posted already.

        Raises:
            InvalidRequest: nobody says who posts, or an annotation is too long.
            VersionConflict: parents of a version merge disagree about one that is not replaced.
        """
        if not self.how.user:
            raise InvalidRequest("cannot alter neuronjson data without a valid user")
        instance = fixed_instance(context)
        schema = find_schema(context.txn, instance.id, "json_schema", context.view)
        worked, posted = self.worked, self.posted
        if schema.sequence != self.schema:  # another one by now
            value = None if schema.value is None else context.txn.bulk(schema.value)
            worked = None
            posted = tuple(prepare(str(one.body), one.raw, value) for one in posted)
        if worked is None or not _still_so(context, instance.id, worked):
            worked = work_out(context.txn, instance.id, context.view, posted, self.how)
        return Decision(tuple(self._outcomes(worked.changes, context.time_ns)))

    def _outcomes(self, changes: Iterable[Change], time_ns: int) -> Iterator[Outcome]:
        time = gojson.string(gojson.rfc3339(time_ns)).encode()
        part: list[Change] = []
        size = 0
        for change in changes:
            text = change.text.replace(NOW, time)
            if len(text) > RECORD_BYTES_MAX:
                raise InvalidRequest(
                    f"the annotation of body {change.body} would have {len(text)} bytes, more than"
                    f" {RECORD_BYTES_MAX}"
                )
            if part and size + len(text) > EVENT_BYTES:
                yield self._outcome(part)
                part, size = [], 0
            part.append(change._replace(text=text))
            size += len(text)
        if part:
            yield self._outcome(part)

    def _outcome(self, part: Iterable[Change]) -> Outcome:
        bodies, texts, changed, posted = zip(*part, strict=True)
        put = RecordsPut(
            bodies=packed(bodies),
            records=texts,
            changed=changed,
            posted=posted,
            batch=self.batch,
            addressed=self.addressed,
        )
        return Outcome(event=put)


def _still_so(context: Context, instance: int, worked: Worked) -> bool:
    """Say whether the bodies are as they were when their changes were worked out."""
    for body, sequence in worked.seen:
        try:
            row = find_row(context.txn, instance, body, context.view)
        except VersionConflict:
            return False
        if sequence != (NOTHING if row is None else row.sequence):
            return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRecords:
    """Store annotations as they are, without authors and times of its own."""

    records: tuple[tuple[int, Record], ...]
    """Bodies, each once, and their annotations."""

    addressed: int = 0

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if all of them are there already."""
        instance = fixed_instance(context)
        new: list[tuple[int, Record, Record | None]] = []
        for body, record in self.records:
            try:
                stored = find(context.txn, instance.id, body, context.view)
            except VersionConflict:
                stored = None
            old = None if stored is None else parse(stored.full)
            if old != record:
                new.append((body, record, old))
        if not new:
            return Decision(())
        put = RecordsPut(
            bodies=packed(body for body, _, _ in new),
            records=tuple(dump(record) for _, record, _ in new),
            changed=tuple(changes(old, record) for _, record, old in new),
            addressed=self.addressed,
        )
        return Decision((Outcome(event=put),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecord:
    """Take away the annotation of a body; one without is no error."""

    body: int
    addressed: int = 0

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if there is no annotation."""
        instance = fixed_instance(context)
        try:
            if find(context.txn, instance.id, self.body, context.view) is None:
                return Decision(())
        except VersionConflict:
            pass  # a deletion settles it
        deleted = RecordsDeleted(bodies=packed((self.body,)), addressed=self.addressed)
        return Decision((Outcome(event=deleted),))


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSchema:
    """Store a schema: any bytes."""

    name: str
    value: Bulk
    """Long ones are in the packs already."""

    by_key: bool = False
    addressed: int = 0

    def decide(self, context: Context) -> Decision:
        """Return the event.

        Raises:
            InvalidRequest: it came by `key`, and nobody says who posts.
        """
        fixed_instance(context)
        if self.by_key and not context.user:
            raise InvalidRequest("cannot alter neuronjson data without a valid user")
        put = SchemaPut(
            name=self.name, value=self.value, by_key=self.by_key, addressed=self.addressed
        )
        return Decision((Outcome(event=put),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSchema:
    """Take away a schema; one that is not there is no error."""

    name: str

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if there is no schema."""
        instance = fixed_instance(context)
        try:
            if find_schema(context.txn, instance.id, self.name, context.view).value is None:
                return Decision(())
        except VersionConflict:
            pass  # a deletion settles it
        return Decision((Outcome(event=SchemaDeleted(name=self.name)),))
