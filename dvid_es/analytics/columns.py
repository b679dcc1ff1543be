"""Events as columns: many records of a log become two Arrow tables, `events` and `labels`.

Headers and facts are decoded with one call for thousands of them, and labels never become Python
numbers. docs/analytics.md describes every column.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dvid_es.analytics.touched import Describe, Fetch, Touched
from dvid_es.events import BY_NUMBER, Event, decode, decode_alike, decode_headers
from dvid_es.ids import PackRef
from dvid_es.logs.base import Stored

BATCH = 16_384
"""Records that are decoded together."""

_SECRET = frozenset({"passcode"})

_SHOWN = 32
"""Longer lists are shown by their length."""

EVENTS = pa.schema(
    [
        ("seq", pa.int64()),
        ("time", pa.timestamp("us")),
        ("action", pa.string()),
        ("version", pa.int32()),
        ("instance", pa.int32()),
        ("mutation_id", pa.int64()),
        ("user", pa.string()),
        ("app", pa.string()),
        ("target", pa.uint64()),
        ("labels", pa.int64()),
        ("voxels", pa.int64()),
        ("facts", pa.string()),
    ]
)

LABELS = pa.schema(
    [
        ("label", pa.uint64()),
        ("role", pa.string()),
        ("other", pa.uint64()),
        ("seq", pa.int64()),
        ("mutation_offset", pa.int64()),
        ("instance", pa.int32()),
    ]
)


DAILY = pa.schema(
    [
        ("day", pa.date32()),
        ("user", pa.string()),
        ("instance", pa.int32()),
        ("action", pa.string()),
        ("mutations", pa.int64()),
        ("labels", pa.int64()),
        ("voxels", pa.int64()),
    ]
)


class Columns(NamedTuple):
    """The same events in two tables."""

    events: pa.Table
    """One row for each event, in their order."""

    labels: pa.Table
    """One row for each label that they touched."""


EMPTY = Columns(EVENTS.empty_table(), LABELS.empty_table())


class _Facts:
    """What the events of a batch have touched, collected kind by kind."""

    def __init__(self, size: int) -> None:
        self.targets = np.zeros(size, np.uint64)
        self.counts = np.zeros(size, np.int64)
        self.voxels = np.full(size, -1, np.int64)
        self.texts: dict[int, str] = {}
        self.rows: list[tuple[str, NDArray[np.int64], NDArray[np.uint64], Any]] = []

    def add(self, places: NDArray[np.int64], touched: Touched) -> None:
        """Add what the events at `places` have touched."""
        if touched.targets is not None:
            self.targets[places] = touched.targets
        if touched.voxels is not None:
            self.voxels[places] = touched.voxels
        for role, events, labels, others in touched.rows:
            self.counts += np.bincount(places[events], minlength=len(self.counts))
            self.rows.append((role, places[events], labels, others))
        for place, facts in touched.facts.items():
            self.texts[int(places[place])] = msgspec.json.encode(facts).decode()


def batches(
    records: Iterable[Stored], described: Mapping[type[Event], Describe], fetch: Fetch
) -> Iterator[Columns]:
    """Iterate over tables of up to `BATCH` records each.

    Raises:
        CorruptLog: an event is not known, or cannot be read.
    """
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        yield _columns(batch, described, fetch)


def joined(parts: Sequence[Columns]) -> Columns:
    """Return tables one behind the other."""
    if not parts:
        return EMPTY
    return Columns(
        pa.concat_tables([part.events for part in parts]),
        pa.concat_tables([part.labels for part in parts]),
    )


def daily(events: pa.Table) -> pa.Table:
    """Return what each user did on each day: numbers and sums of the writes to data instances."""
    of_instance = pc.greater(events["instance"], 0)
    about_it = pc.starts_with(events["action"], "instance.")
    writes = events.filter(pc.and_(of_instance, pc.invert(about_it)))
    days = writes.set_column(1, "day", writes["time"].cast(pa.date32(), safe=False))
    keys = ["day", "user", "instance", "action"]
    sums = days.group_by(keys).aggregate([("seq", "count"), ("labels", "sum"), ("voxels", "sum")])
    found = sums.select([*keys, "seq_count", "labels_sum", "voxels_sum"])
    return (
        found.rename_columns(DAILY.names).cast(DAILY).sort_by([(key, "ascending") for key in keys])
    )


def _columns(
    batch: Sequence[Stored], described: Mapping[type[Event], Describe], fetch: Fetch
) -> Columns:
    offsets, kinds, schemas, times, headers, facts = zip(*batch, strict=True)
    offset = np.array(offsets, np.int64)
    kind = np.array(kinds, np.int64) << 16 | np.array(schemas, np.int64)
    known = decode_headers(headers)
    mutation_id = np.array([header.mutation_id for header in known], np.int64)
    instance = np.array([header.instance for header in known], np.int32)
    found = _Facts(len(batch))
    kinds_found, which = np.unique(kind, return_inverse=True)
    names = []
    for both in kinds_found.tolist():
        places = np.flatnonzero(kind == both)
        alike = decode_alike(both >> 16, both & 0xFFFF, [facts[place] for place in places.tolist()])
        if alike is None:
            alike = [decode(*batch[place]).event for place in places.tolist()]
        names.append(BY_NUMBER[both >> 16].name)
        describe = described.get(type(alike[0]))
        if describe is not None:
            found.add(places, describe(alike, fetch))
        else:
            found.texts.update(zip(places.tolist(), map(_text, alike), strict=True))
    events = pa.table(
        [
            pa.array(offset),
            pa.array(np.array(times, np.int64) // 1000).cast(pa.timestamp("us")),
            pa.array(names, pa.string()).take(pa.array(which)),
            pa.array([header.version for header in known], pa.int32()),
            pa.array(instance),
            pa.array(mutation_id, mask=mutation_id == 0),
            pa.array([header.user for header in known], pa.string()),
            pa.array([header.app for header in known], pa.string()),
            pa.array(found.targets, mask=found.targets == 0),
            pa.array(found.counts),
            pa.array(found.voxels, mask=found.voxels < 0),
            pa.array([found.texts.get(place) for place in range(len(batch))], pa.string())
            if found.texts
            else pa.nulls(len(batch), pa.string()),
        ],
        schema=EVENTS,
    )
    return Columns(events, _labels(found, offset, mutation_id, instance))


def _labels(
    found: _Facts,
    offset: NDArray[np.int64],
    mutation_id: NDArray[np.int64],
    instance: NDArray[np.int32],
) -> pa.Table:
    # Mutation ids rise with the sequence: their difference is nearly constant and costs no space.
    difference = mutation_id - offset
    parts = []
    for role, places, labels, others in found.rows:
        if not len(labels):
            continue
        parts.append(
            pa.table(
                [
                    pa.array(labels),
                    pa.repeat(pa.scalar(role, pa.string()), len(labels)),
                    pa.nulls(len(labels), pa.uint64()) if others is None else pa.array(others),
                    pa.array(offset[places]),
                    pa.array(difference[places], mask=mutation_id[places] == 0),
                    pa.array(instance[places]),
                ],
                schema=LABELS,
            )
        )
    return pa.concat_tables(parts) if parts else LABELS.empty_table()


def _text(event: Event) -> str:
    """Return the facts of an event that declares nothing, as JSON."""
    facts = {
        name: _plain(getattr(event, name))
        for name in event.__struct_fields__
        if name not in _SECRET
    }
    return msgspec.json.encode(facts).decode()


def _plain(value: Any) -> Any:
    """Return a value without bulk: bytes by their number, long lists by their length."""
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, PackRef):
        return {"bytes": value.length}
    if isinstance(value, tuple | list):
        if len(value) > _SHOWN:
            return {"items": len(value)}
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
