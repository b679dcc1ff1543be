"""What may be asked of a keyvalue instance, and when the answer is no."""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.keyvalue.events import INLINE_VALUE_MAX, KeysDeleted, ValuesPut
from dvid_es.datatypes.keyvalue.reads import find
from dvid_es.datatypes.keyvalue.rows import bulk_length, check_key
from dvid_es.errors import InvalidRequest, PreconditionFailed
from dvid_es.events import Bulk

EVENT_BYTES_MAX = 48 << 20
"""Bytes of the keys and inline values of one request: an event has to fit into the log."""

_PER_KEY = 64


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be so for a write to be granted: If-Match and If-None-Match."""

    match: frozenset[str] | None = None
    """Tags of which the stored value must have one; "*" is any."""

    none_match: frozenset[str] | None = None
    """Tags of which the stored value must have none; "*" is any."""

    def check(self, context: Context, key: str) -> None:
        """Compare with what is stored.

        Raises:
            PreconditionFailed: it is not as expected.
        """
        if self.match is None and self.none_match is None:
            return
        instance = fixed_instance(context)
        found = find(context.txn, instance.id, key, context.view)
        tag = None if found is None else etag(found.sequence)
        if self.match is not None and (tag is None or not ("*" in self.match or tag in self.match)):
            raise PreconditionFailed(f'key "{key}" is not what If-Match expects: it has {tag}')
        if self.none_match is not None and (
            tag is not None and ("*" in self.none_match or tag in self.none_match)
        ):
            raise PreconditionFailed(f'key "{key}" is there already: it has {tag}')


ANYTHING = Expectation()


def etag(sequence: int) -> str:
    """Return the entity tag of a value: the sequence of the event that wrote it."""
    return f'"{sequence}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class PutValues:
    """Give keys their values, all or none."""

    keys: tuple[str, ...]
    values: tuple[Bulk, ...]
    """Long ones are in the packs already."""

    addressed: int = 0
    expected: Expectation = ANYTHING
    """Only for a single key."""

    def decide(self, context: Context) -> Decision:
        """Return the event.

        Raises:
            InvalidRequest: a key is too long, or all together are too much for one event.
            PreconditionFailed: the stored value is not the expected one.
        """
        fixed_instance(context)
        size = 0
        for key, value in zip(self.keys, self.values, strict=True):
            size += len(check_key(key)) + _PER_KEY
            if isinstance(value, bytes):
                assert bulk_length(value) <= INLINE_VALUE_MAX
                size += len(value)
        if size > EVENT_BYTES_MAX:
            raise InvalidRequest(
                f"{len(self.keys)} keys are too much for one request: send them in parts"
            )
        if not self.keys:
            return Decision(())
        self.expected.check(context, self.keys[0])
        put = ValuesPut(keys=self.keys, values=self.values, addressed=self.addressed)
        return Decision((Outcome(event=put),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteKey:
    """Take away the value of a key; a key without one is no error."""

    key: str
    addressed: int = 0
    expected: Expectation = ANYTHING

    def decide(self, context: Context) -> Decision:
        """Return the event.

        Raises:
            PreconditionFailed: the stored value is not the expected one.
        """
        fixed_instance(context)
        check_key(self.key)
        self.expected.check(context, self.key)
        deleted = KeysDeleted(keys=(self.key,), addressed=self.addressed)
        return Decision((Outcome(event=deleted),))
