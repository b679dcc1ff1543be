"""The mapping's changes in memory, all versions together, and the runs opened so far.

Only a cache of rows: filled when an instance is first read, then brought up to each reader's
sequence. A reader that sees an older state is served by the same nodes: each carries version and
sequence, and the reader's bounds decide. It hangs on the packs object of the open repository.
"""

import threading
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.mapping import kernels
from dvid_es.datatypes.labelmap.mapping.runs import Run, has_any, open_run, visible
from dvid_es.ids import PackRef
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import BulkReader, ReadTxn
from dvid_es.versions import View

JOURNAL = 83
"""Kind of the rows that hold each event's changes of the mapping, by sequence."""

Labels = NDArray[np.uint64]
Places = NDArray[np.int64]
Arrays = tuple[Labels, Places, Labels, Labels, Places]

_BATCH = 1 << 16
_HIDDEN = -1


class Overlay:
    """All changes of the mapping of one instance, up to a sequence."""

    def __init__(self, instance_id: int) -> None:
        """Start empty."""
        self._instance_id = instance_id
        self._lock = threading.Lock()
        self._sequence = -1
        self._filled = 0
        self.nodes = 0
        """How many changes there are."""

        # Slots and chains, replaced together: a reader that has old slots must never find a node in
        # them that its chains are too short for.
        self._arrays: Arrays = (*_empty_slots(1 << 10), *_empty_chains(1 << 10))
        self._runs: dict[PackRef, Run] = {}
        self._has_runs = False
        self._bounds: tuple[View, int, Places] | None = None

    def catch_up(self, txn: ReadTxn, last: int) -> None:
        """Add what the events up to `last`, which ends the state of `txn`, have changed.

        All of them are committed.
        """
        if last <= self._sequence:
            return
        with self._lock:
            if last <= self._sequence:
                return
            prefix = instance_key(self._instance_id, JOURNAL)
            start = prefix + (self._sequence + 1).to_bytes(8, "big")
            waiting: list[tuple[int, int, bytes]] = []
            size = 0
            for key, value in txn.scan(start, prefix + b"\xff" * 9):
                version = int.from_bytes(value[:4], "big")
                waiting.append((version, int.from_bytes(key[5:13], "big"), value[4:]))
                size += len(value)
                if size > 16 * _BATCH:
                    self._insert(waiting)
                    waiting, size = [], 0
            if waiting:
                self._insert(waiting)
            self._has_runs = self._has_runs or has_any(txn, self._instance_id)
            self._sequence = last

    def _insert(self, rows: list[tuple[int, int, bytes]]) -> None:
        pairs = np.frombuffer(b"".join(row[2] for row in rows), "<u8").reshape(-1, 2)
        counts = [len(row[2]) // 16 for row in rows]
        stamps = np.repeat(
            np.array([row[0] << kernels.SEQUENCE_BITS | row[1] for row in rows], np.uint64), counts
        )
        svs, bodies = (np.ascontiguousarray(column, np.uint64) for column in pairs.T)
        self._make_room(len(svs))
        self._filled += kernels.insert(svs, bodies, stamps, self.nodes, *self._arrays)
        self.nodes += len(svs)

    def _make_room(self, more: int) -> None:
        """Grow before it is needed; readers keep the arrays that they have."""
        slot_sv, slot_head, *chains = self._arrays
        capacity = len(chains[0])
        slots = len(slot_sv)
        grows = self.nodes + more > capacity
        if grows:
            grown = _empty_chains(max(2 * capacity, self.nodes + more))
            for old, new in zip(chains, grown, strict=True):
                new[: self.nodes] = old[: self.nodes]
            chains = list(grown)
        while 2 * (self._filled + more) > slots:
            slots *= 2
        if grows or slots > len(slot_sv):
            larger = _empty_slots(slots)
            kernels.rehash(slot_sv, slot_head, *larger)
            self._arrays = (*larger, *chains)  # type: ignore[assignment]

    def look_up(
        self, labels: Labels, bounds: Places, fork: int, out: Labels
    ) -> tuple[Labels, NDArray[np.bool_]]:
        """Write the body of each label that has one.

        Args:
            labels: uint64[n].
            bounds: of `bounds_of`.
            fork: the newest version merge that is seen, 0 for none.
            out: uint64[n]; labels without an entry keep what is in it.

        Returns:
            The stamps uint64[n] of the entries, 0 without; and for which labels parents of a version
            merge may disagree, so that the rows must decide.
        """
        stamps = np.zeros(len(labels), np.uint64)
        doubtful = np.zeros(len(labels), bool)
        if self.nodes:
            kernels.look_up_overlay(labels, *self._arrays, bounds, fork, stamps, out, doubtful)
        return stamps, doubtful

    def map(self, labels: Labels, bounds: Places, unset: int) -> Labels:
        """Return the body of each label, as `look_up` finds it where no version merge is seen.

        Labels without a body, with `unset` for one, and 0 stay what they are.
        """
        out = labels.copy()
        if self.nodes:
            kernels.map_overlay(out, *self._arrays, bounds, unset)
        return out

    def runs(self, txn: ReadTxn, view: View, packs: BulkReader) -> list[Run]:
        """Return the runs that a view sees in a state that was caught up with, the newest first."""
        if not self._has_runs:
            return []
        return [self.run(*place, packs) for place in visible(txn, self._instance_id, view)]

    def bounds(self, view: View, last: int) -> Places:
        """Return `bounds_of`, which is mostly what the last reader wanted, too."""
        kept = self._bounds
        if kept is None or kept[0] is not view or kept[1] != last:
            kept = self._bounds = view, last, bounds_of(view, last)
        return kept[2]

    def run(self, version: int, sequence: int, ref: PackRef, packs: BulkReader) -> Run:
        """Return an opened run."""
        found = self._runs.get(ref)
        if found is None or (found.version, found.sequence) != (version, sequence):
            # Mapped as it lies in the pack, where the packs are files.
            read = getattr(packs, "view", packs.get)
            found = self._runs[ref] = open_run(version, sequence, read(ref))
        return found


_overlays: "WeakKeyDictionary[BulkReader, dict[int, Overlay]]" = WeakKeyDictionary()
_overlays_lock = threading.Lock()


def overlay_of(packs: BulkReader, instance_id: int) -> Overlay:
    """Return the overlay of an instance of the repository that has these packs."""
    instances = _overlays.get(packs)
    found = None if instances is None else instances.get(instance_id)
    if found is None:
        with _overlays_lock:
            found = _overlays.setdefault(packs, {}).setdefault(instance_id, Overlay(instance_id))
    return found


def forget(packs: BulkReader) -> None:
    """Forget the overlays of a repository: its rows were put right without an event."""
    with _overlays_lock:
        _overlays.pop(packs, None)


def open_runs(txn: ReadTxn, instance_id: int, view: View) -> list[Run]:
    """Return the runs that a view sees, the newest first; any transaction will do."""
    places = visible(txn, instance_id, view)
    if not places:
        return []
    packs = getattr(txn, "packs", None)
    if packs is None:
        return [open_run(version, sequence, txn.bulk(ref)) for version, sequence, ref in places]
    overlay = overlay_of(packs, instance_id)
    return [overlay.run(*place, packs) for place in places]


def bounds_of(view: View, last: int) -> Places:
    """Return for each ordinal the last sequence that a view sees in a state that ends at `last`."""
    bounds = np.full(max(view.bounds) + 1, _HIDDEN, np.int64)
    for ordinal, bound in view.bounds.items():
        bounds[ordinal] = min(bound, last)
    return bounds


def _empty_slots(count: int) -> tuple[Labels, Places]:
    return np.zeros(count, np.uint64), np.full(count, -1, np.int64)


def _empty_chains(count: int) -> tuple[Labels, Labels, Places]:
    return (
        np.empty(count, np.uint64),
        np.empty(count, np.uint64),
        np.empty(count, np.int64),
    )
