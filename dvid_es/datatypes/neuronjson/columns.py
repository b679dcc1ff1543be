"""Fields of all annotations as columns in memory, so that queries read no annotation that does not match.

A table holds one view of an instance: its bodies, and of each field that was asked for which of its distinct
texts each body has. A condition is tried once on each distinct text. Other views of the same instance (later,
earlier, other versions) are answered by the same table: the bodies that were written in between are read from
their rows. Only a cache: it hangs on the packs object of the open repository.

Version merges, where parents may disagree, are not answered from here.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.neuronjson.journal import Bodies, Journal
from dvid_es.datatypes.neuronjson.query import Condition, Query
from dvid_es.datatypes.neuronjson.reads import scan
from dvid_es.datatypes.neuronjson.rows import decode, record_key
from dvid_es.datatypes.neuronjson.values import extractor
from dvid_es.http.streaming import Snapshot
from dvid_es.projections import versioned
from dvid_es.projections.txn import BulkReader, ReadTxn
from dvid_es.versions import View

TABLES_MAX = 3
"""Tables of one instance: so many branches can be far apart without making each other's anew."""

COLUMNS_MAX = 24
COLUMN_BYTES_MAX = 32 << 20
"""A column with longer distinct texts, in all, is not kept: queries on it read rows."""

DIRECT_MAX = 2000
"""So many bodies are read from their rows, or a quarter of all, before another table is made."""

ADVANCE_MIN = 100
"""From so many changed bodies on, a table is brought up to its reader's view."""

Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]
_TEXT_OVERHEAD = 100
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Column:
    """The distinct texts of a field, shared by tables that follow each other: they are only added to."""

    def __init__(self) -> None:
        """Start with the text of a field that is absent."""
        self.texts = [b""]
        self.codes_of = {b"": 0}
        self.bytes = 0

    def code(self, text: bytes) -> int:
        """Return the number of a text; it gets one if it is new."""
        code = self.codes_of.get(text)
        if code is None:
            code = self.codes_of[text] = len(self.texts)
            self.texts.append(text)
            self.bytes += len(text) + _TEXT_OVERHEAD
        return code

    def accepted(self, condition: Condition) -> Mask:
        """Return which texts fulfil a condition, by their numbers."""
        texts = self.texts[:]
        return np.fromiter((condition.accepts(text) for text in texts), bool, len(texts))


Held = tuple[Column, Codes] | None
"""Distinct texts, and the code int32[n] of each body; None is too large to be kept."""


@dataclass(slots=True)
class Table:
    """One view of an instance; never changed but for columns and counts, which come and go."""

    view: View
    bodies: Bodies
    """uint64[n], ascending."""

    columns: dict[str, Held]
    """By field."""

    counts: Counter[str] | None = None
    """In how many annotations each field is; None before it is asked for."""


def matching_mask(bodies: Bodies, columns: Mapping[str, Held], query: Query) -> Mask | None:
    """Return which bodies match; None if a column is not kept."""
    found = np.zeros(len(bodies), bool)
    for all_of in query.alternatives:
        some = np.ones(len(bodies), bool)
        for condition in all_of:
            held = columns[condition.name]
            if held is None:
                return None
            column, codes = held
            some &= column.accepted(condition)[codes]
        found |= some
    return found


def names_of(rows: Iterable[bytes]) -> Counter[str]:
    """Return in how many annotations each field is."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update(_RAW.decode(decode(row).full).keys())
    return found


class Columns:
    """The tables of one instance."""

    def __init__(self, instance_id: int) -> None:
        """Start without any."""
        self._instance_id = instance_id
        self._lock = threading.Lock()
        self._journal = Journal(instance_id)
        self._tables: list[Table] = []

    def matching(self, snapshot: Snapshot, query: Query) -> Bodies | None:
        """Return the bodies that match in a snapshot, ascending; None if rows must be read instead."""
        view = snapshot.view
        # The transaction begins under the lock: it sees all that any table was made of.
        with self._lock, snapshot.open() as txn:
            found = self._table(txn, view)
            if found is None:
                return None
            table, changed = found
            self._load(txn, table, query.names)
            columns = {name: table.columns[name] for name in query.names}
            direct = self._among(txn, view, query, changed)
        mask = matching_mask(table.bodies, columns, query)
        if mask is None:
            return None
        if len(changed):
            mask &= ~np.isin(table.bodies, changed)
        return np.union1d(table.bodies[mask], direct)

    def field_counts(self, snapshot: Snapshot) -> Counter[str] | None:
        """Return in how many annotations of a snapshot each field is; None if rows must be read instead."""
        with self._lock, snapshot.open() as txn:
            found = self._table(txn, snapshot.view)
            if found is None:
                return None
            table, changed = found
            if table.counts is None:
                table.counts = names_of(row for _, row in scan(txn, self._instance_id, table.view))
            return self._recounted(txn, table, snapshot.view, changed)

    def _recounted(
        self, txn: ReadTxn, table: Table, view: View, changed: Bodies
    ) -> Counter[str] | None:
        """Return the counts of a table with the changed bodies as another view sees them."""
        if table.counts is None:
            return None
        counts = table.counts.copy()
        counts.update(names_of(row for _, row in self._rows(txn, view, changed)))
        counts.subtract(names_of(row for _, row in self._rows(txn, table.view, changed)))
        return +counts  # without those that are no more

    def _table(self, txn: ReadTxn, view: View) -> tuple[Table, Bodies] | None:
        """Return a table and the bodies that differ in a view; None if rows must be read instead."""
        if not view.linear:
            return None
        self._journal.catch_up(txn)
        found = self._nearest(view)
        if found is None or len(found[1]) > max(DIRECT_MAX, len(found[0].bodies) // 4):
            if found is not None and view.sequence < found[0].view.sequence:
                return None  # a look at the past makes no table
            return self._made(txn, view), np.zeros(0, np.uint64)
        table, changed = found
        if len(changed) >= ADVANCE_MIN and self._follows(table.view, view):
            return self._advanced(txn, table, view, changed), changed[:0]
        return table, changed

    def _nearest(self, view: View) -> tuple[Table, Bodies] | None:
        """Return the table with the fewest bodies that differ in a view, and these."""
        found = [(table, self._journal.differing(table.view, view)) for table in self._tables]
        return min(found, key=lambda pair: len(pair[1])) if found else None

    @staticmethod
    def _follows(before: View, view: View) -> bool:
        return before.version in view.bounds and view.sequence > before.sequence

    def _made(self, txn: ReadTxn, view: View) -> Table:
        bodies = [body for body, _ in scan(txn, self._instance_id, view)]
        table = Table(view, np.array(bodies, np.uint64), {})
        self._tables = [*self._tables[-TABLES_MAX + 1 :], table]
        return table

    def _load(self, txn: ReadTxn, table: Table, names: Sequence[str]) -> None:
        """Add the columns of fields that a table lacks, in one pass over its annotations."""
        missing = tuple(name for name in names if name not in table.columns)
        if not missing:
            return
        if len(table.columns) + len(missing) > COLUMNS_MAX:
            for name in [name for name in table.columns if name not in names]:
                del table.columns[name]
        fields = extractor(missing)
        columns = [Column() for _ in missing]
        codes = np.zeros((len(missing), len(table.bodies)), np.int32)
        for place, (_, row) in enumerate(scan(txn, self._instance_id, table.view)):
            for number, text in enumerate(fields.texts(decode(row))):
                if text and columns[number].bytes <= COLUMN_BYTES_MAX:
                    codes[number, place] = columns[number].code(text)
        for name, column, numbers in zip(missing, columns, codes, strict=True):
            small = column.bytes <= COLUMN_BYTES_MAX
            table.columns[name] = (column, numbers.copy()) if small else None

    def _advanced(self, txn: ReadTxn, table: Table, view: View, changed: Bodies) -> Table:
        """Put a table in the place of one, in which the changed bodies are as a view sees them."""
        names = tuple(name for name, held in table.columns.items() if held is not None)
        fields = extractor(names)
        rows = self._rows(txn, view, changed)
        there = np.array([body for body, _ in rows], np.uint64)
        texts = [fields.texts(decode(row)) for _, row in rows]
        kept = ~np.isin(table.bodies, changed)
        bodies = np.concatenate([table.bodies[kept], there])
        order = np.argsort(bodies, kind="stable")
        columns: dict[str, Held] = dict.fromkeys(table.columns)
        for number, name in enumerate(names):
            held = table.columns[name]
            assert held is not None
            column, codes = held
            new = np.fromiter((column.code(one[number]) for one in texts), np.int32, len(texts))
            # Texts that nobody has any more stay in a column until it is made anew.
            if (
                column.bytes <= COLUMN_BYTES_MAX
                and len(column.texts) <= 2 * len(bodies) + DIRECT_MAX
            ):
                columns[name] = (column, np.concatenate([codes[kept], new])[order])
            else:
                del columns[name]
        counts = self._recounted(txn, table, view, changed)
        after = Table(view, bodies[order], columns, counts)
        self._tables = [after if one is table else one for one in self._tables]
        return after

    def _rows(self, txn: ReadTxn, view: View, bodies: Bodies) -> list[tuple[int, bytes]]:
        found = []
        for body in bodies.tolist():
            row = versioned.read(txn, record_key(self._instance_id, body), view)
            if row is not None:
                found.append((body, row))
        return found

    def _among(self, txn: ReadTxn, view: View, query: Query, bodies: Bodies) -> Bodies:
        """Return which of some bodies match, by their rows."""
        rows = self._rows(txn, view, bodies)
        return np.array([body for body, _ in query.matching(rows)], np.uint64)


_OPEN: WeakKeyDictionary[BulkReader, dict[int, Columns]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def columns_of(packs: BulkReader, instance_id: int) -> Columns:
    """Return the columns of an instance of an open repository."""
    with _LOCK:
        held = _OPEN.setdefault(packs, {})
        return held.setdefault(instance_id, Columns(instance_id))
