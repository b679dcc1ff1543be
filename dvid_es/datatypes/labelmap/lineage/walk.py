"""The mutations that made a body or a supervoxel what it is, the newest first.

Rows are temporal, so the row of a body that a view sees names the event that wrote it. What the body
came from then (itself, bodies merged into it, the one that it was cleaved off) is looked up in the
view just before that event, and so on: each step is a few look-ups, whatever else has happened.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodysets, mutationlog
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.datatypes.labelmap.bodies.mutationlog import Entry, Facts
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.datatypes.labelmap.mapping import kernels
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping.overlay import open_runs
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import Row
from dvid_es.versions import View

_RUN = b"run"
"""Value of the made-up row of an entry that lies in a run of the mapping."""


class Step(NamedTuple):
    """One mutation of a lineage."""

    sequence: int
    version: int
    """Ordinal."""

    entry: Entry


class Node(NamedTuple):
    """What one event made of one thing."""

    kind: int
    """Of the row: 80 a body, 82 the body of a supervoxel, 68 the voxels of a supervoxel."""

    label: int
    version: int
    sequence: int


def of_body(txn: ReadTxn, instance_id: int, label: int, view: View) -> Iterator[Step]:
    """Iterate over the lineage of a body, or of one that is no more; nothing for one that never was."""
    return _Walk(txn, instance_id).steps([(bodysets.BODIES, label)], view)


def of_supervoxel(txn: ReadTxn, instance_id: int, label: int, view: View) -> Iterator[Step]:
    """Iterate over the lineage of a supervoxel: what changed its voxels, or the body that it is in."""
    kinds = [(mapping.ENTRIES, label), (svindex.TOTALS, label)]
    return _Walk(txn, instance_id).steps(kinds, view)


class _Walk:
    def __init__(self, txn: ReadTxn, instance_id: int) -> None:
        self._txn = txn
        self._instance_id = instance_id
        self._waiting: list[tuple[int, Node]] = []
        self._known: set[Node] = set()

    def steps(self, starts: Iterable[tuple[int, int]], view: View) -> Iterator[Step]:
        """Iterate over the events behind the rows of `starts` (kind, label)."""
        for kind, label in starts:
            self._add(kind, label, view, ended=True)
        while self._waiting:
            sequence = -self._waiting[0][0]
            nodes = []
            while self._waiting and -self._waiting[0][0] == sequence:
                nodes.append(heapq.heappop(self._waiting)[1])
            version = nodes[0].version
            entry = entry_at(self._txn, self._instance_id, version, sequence)
            yield Step(sequence, version, entry)
            before = self._txn.view(version).at(sequence - 1)
            for node in nodes:
                for kind, label in _origins(node, entry.facts):
                    self._add(kind, label, before)

    def _add(self, kind: int, label: int, view: View, *, ended: bool = False) -> None:
        """Add what a view sees of a thing; of one that has ended only if that is asked for."""
        for row in self._nearest(kind, label, view):
            node = Node(kind, label, row.version, row.sequence)
            if (row.value or ended) and node not in self._known:
                self._known.add(node)
                heapq.heappush(self._waiting, (-row.sequence, node))

    def _nearest(self, kind: int, label: int, view: View) -> list[Row]:
        """Return the row that counts; below a version merge, that of each parent that changed it."""
        key = instance_key(self._instance_id, kind) + label.to_bytes(8, "big")
        found = versioned.visible_rows(self._txn, key, view)
        rows = list(islice(found, 1 if view.linear else None))
        if kind == mapping.ENTRIES:
            rows = sorted([*rows, *self._in_runs(label, view)], key=lambda row: row[1:])[::-1]
            newest: dict[int, Row] = {}
            for row in rows:
                newest.setdefault(row.version, row)
            rows = list(newest.values())
        if not rows or view.linear:
            return rows[:1]
        return [rows[at] for at in view.nearest([(row.version, row.sequence) for row in rows])]

    def _in_runs(self, sv: int, view: View) -> list[Row]:
        found = []
        one: NDArray[np.uint64] = np.array([sv], np.uint64)
        for run in open_runs(self._txn, self._instance_id, view):
            stamps, out = np.zeros(1, np.uint64), np.zeros(1, np.uint64)
            kernels.look_up_run(run.data, one, np.uint64(run.stamp), stamps, out)
            if stamps[0]:
                found.append(Row(_RUN, run.version, run.sequence))
        return found


def _origins(node: Node, facts: Facts) -> Iterator[tuple[int, int]]:
    """Iterate over what a thing came from (kind, label), itself included."""
    yield node.kind, node.label
    if node.kind == bodysets.BODIES:
        for label in body_origins(node.label, facts):
            yield node.kind, label
        return
    for sv in supervoxel_origins(node.label, facts):
        yield mapping.ENTRIES, sv
        yield svindex.TOTALS, sv


def body_origins(label: int, facts: Facts) -> list[int]:
    """Return from which other bodies a mutation brought supervoxels into a body.

    Args:
        label: of a body that it changed.
        facts: of its record.
    """
    if "Moves" in facts:
        return [source for source, target in facts["Moves"] if target == label]
    if "Labels" in facts:
        return from_bytes(facts["Labels"]).tolist() if label == facts["Target"] else []
    if label == facts.get("CleavedLabel") or (
        "Target" not in facts and label == facts.get("NewLabel")
    ):
        return [facts["OrigLabel"]]
    return [facts["Target"]] if label == facts.get("NewLabel") else []


def supervoxel_origins(label: int, facts: Facts) -> list[int]:
    """Return from which other supervoxels a mutation made one."""
    if "Origins" in facts:
        return list(facts["Origins"].get(str(label), ()))
    if label in (facts.get("SplitSupervoxel"), facts.get("RemainSupervoxel")):
        return [facts["Supervoxel"]]
    splits = facts.get("SVSplits", {}).items()
    return [int(sv) for sv, parts in splits if label in parts.values()]


def entry_at(txn: ReadTxn, instance_id: int, version: int, sequence: int) -> Entry:
    """Return the record of an event, or one made of its note."""
    found = mutationlog.at(txn, instance_id, version, sequence)
    if found is not None:
        return found
    note = notes.read(txn, instance_id, version, sequence)
    if note is None:
        return Entry("unknown", 0, 0, "", "", {})
    return Entry(note.action, note.mutation_id, note.time_ns, note.user, note.app, {})
