"""What may be asked of a neuronjson instance, and when the answer is no."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from dvid_es.codecs import gojson
from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.neuronjson.events import (
    RecordsDeleted,
    RecordsPut,
    SchemaDeleted,
    SchemaPut,
)
from dvid_es.datatypes.neuronjson.posted import Posted, prepare
from dvid_es.datatypes.neuronjson.reads import find, find_schema
from dvid_es.datatypes.neuronjson.values import Record, changes, dump, merged, parse
from dvid_es.errors import InvalidRequest, VersionConflict
from dvid_es.events import Bulk

EVENT_BYTES = 8 << 20
"""A batch with longer records than this is more than one event: each has to fit into the log."""

RECORD_BYTES_MAX = 32 << 20


def packed(bodies: Iterable[int]) -> bytes:
    """Return bodies as events hold them: uint64, little endian."""
    numbers = tuple(bodies)
    return struct.pack(f"<{len(numbers)}Q", *numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRecords:
    """Change annotations, all or none: fields that are posted are set, the others stay."""

    posted: tuple[Posted, ...]
    schema: int
    """Sequence of the JSON schema that they were validated by; -1 for none."""

    conditional: frozenset[str] = frozenset()
    """Fields that keep a value that they have."""

    replace: bool = False
    """Whether fields that are not posted go."""

    batch: bool = False
    addressed: int = 0

    def decide(self, context: Context) -> Decision:
        """Return the events: none if everything is as posted already.

        Raises:
            InvalidRequest: nobody says who posts, or an annotation is too long.
            VersionConflict: parents of a version merge disagree about one that is not replaced.
        """
        if not context.user:
            raise InvalidRequest("cannot alter neuronjson data without a valid user")
        user = gojson.string(context.user).encode()
        time = gojson.string(gojson.rfc3339(context.time_ns)).encode()
        before: dict[int, Record | None] = {}
        after: dict[int, Record] = {}
        sizes: dict[int, int] = {}
        for posted in self._still_valid(context):
            body = posted.body
            if body not in before:
                before[body] = self._found(context, body)
            old = after.get(body, before[body])
            new = merged(old, posted.fields, user, time, self.conditional, self.replace)
            after[body], sizes[body] = new, len(posted.raw)
        changed = [body for body in after if after[body] != before[body]]
        return Decision(tuple(self._outcomes(changed, before, after, sizes)))

    def _still_valid(self, context: Context) -> Iterable[Posted]:
        """Return what is posted, validated again if the schema is another one by now."""
        instance = fixed_instance(context)
        schema = find_schema(context.txn, instance.id, "json_schema", context.view)
        if schema.sequence == self.schema:
            return self.posted
        value = None if schema.value is None else context.txn.bulk(schema.value)
        return [prepare(str(posted.body), posted.raw, value) for posted in self.posted]

    def _found(self, context: Context, body: int) -> Record | None:
        instance = fixed_instance(context)
        try:
            stored = find(context.txn, instance.id, body, context.view)
        except VersionConflict:
            if not self.replace:
                raise
            return None
        return None if stored is None else parse(stored.full)

    def _outcomes(
        self,
        bodies: list[int],
        before: dict[int, Record | None],
        after: dict[int, Record],
        sizes: dict[int, int],
    ) -> Iterable[Outcome]:
        part: list[int] = []
        records: list[bytes] = []
        size = 0
        for body in bodies:
            text = dump(after[body])
            if len(text) > RECORD_BYTES_MAX:
                raise InvalidRequest(
                    f"the annotation of body {body} would have {len(text)} bytes, more than"
                    f" {RECORD_BYTES_MAX}"
                )
            if part and size + len(text) > EVENT_BYTES:
                yield self._outcome(part, records, before, after, sizes)
                part, records, size = [], [], 0
            size += len(text)
            part.append(body)
            records.append(text)
        if part:
            yield self._outcome(part, records, before, after, sizes)

    def _outcome(
        self,
        bodies: list[int],
        records: list[bytes],
        before: dict[int, Record | None],
        after: dict[int, Record],
        sizes: dict[int, int],
    ) -> Outcome:
        put = RecordsPut(
            bodies=packed(bodies),
            records=tuple(records),
            changed=tuple(changes(before[body], after[body]) for body in bodies),
            posted=tuple(sizes[body] for body in bodies),
            batch=self.batch,
            addressed=self.addressed,
        )
        return Outcome(event=put)


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
