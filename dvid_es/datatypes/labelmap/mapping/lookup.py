"""Which body a supervoxel belongs to: rows of changes, runs of large posted mappings, identity.

An entry may say anything: also identity, which ends an inherited entry, and 0 for an id that is no
supervoxel any more. The newest entry that a view sees counts; without one a supervoxel is itself. An
entry of `UNSET` says that there is none any more, as before the mutation that was undone.

Source: SVMap in datatype/labelmap/vmap.go (janelia-flyem/dvid), which follows first parents only; here
the nearest ancestor over all parents counts, as for everything else.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.mapping import kernels
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL, open_runs, overlay_of
from dvid_es.errors import VersionConflict
from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import checkpoint, instance_key
from dvid_es.projections.temporal import cut, keys_of, label_table
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, row_suffix, split_suffix

ENTRIES = 82
"""Kind of the rows that hold one entry each."""

_FEW = 16
"""For fewer labels, numpy takes longer to begin than Python to finish."""

_pack_pair = struct.Struct("<QQ").pack

UNSET = 2**64 - 1
"""In place of a body: no entry. No body may have this label."""

_MANY = 64
"""From so many supervoxels on, numpy looks them up sooner than Python."""

Labels = NDArray[np.uint64]
Found = NDArray[np.bool_]


class Mapping:
    """The mapping as one request sees it; its transaction holds committed events only."""

    def __init__(self, txn: ReadTxn, instance_id: int, view: View) -> None:
        """Use `at`."""
        self._txn = txn
        self._instance_id = instance_id
        self._view = view
        self._overlay = None
        self._runs: list[mapruns.Run] = []
        packs = getattr(txn, "packs", None)
        if packs is None:
            return
        self._overlay = overlay_of(packs, instance_id)
        last = checkpoint(txn) - 1
        self._overlay.catch_up(txn, last)
        self._bounds = self._overlay.bounds(view, last)
        self._runs = self._overlay.runs(txn, view, packs)

    @classmethod
    def at(cls, txn: ReadTxn, instance_id: int, view: View) -> "Mapping":
        """Return the mapping that `view` sees in the state of `txn`.

        Never with the transaction of the writer: use `lookup_rows` there.
        """
        return cls(txn, instance_id, view)

    @property
    def is_empty(self) -> bool:
        """Whether it is certain that each supervoxel is its own body."""
        if self._overlay is not None:
            return not self._runs and not self._overlay.nodes
        return not _any_rows(self._txn, self._instance_id)

    def map(self, labels: Labels) -> Labels:
        """Return the body of each supervoxel as a new uint64[n]; 0 stays 0.

        Raises:
            VersionConflict: parents of a version merge disagree on one of them.
        """
        if self._overlay is not None and not self._runs and not self._view.fork:
            labels = np.ascontiguousarray(labels, np.uint64)
            return self._overlay.map(labels, self._bounds, UNSET)
        return self.look_up(labels)[0]

    def look_up(self, labels: Labels) -> tuple[Labels, Found]:
        """Return the body of each supervoxel, and whether there is an entry for it.

        Raises:
            VersionConflict: parents of a version merge disagree on one of them.
        """
        labels = np.ascontiguousarray(labels, np.uint64)
        if self._overlay is None:
            distinct, places = np.unique(labels, return_inverse=True)
            bodies, found = lookup_rows(self._txn, self._instance_id, self._view, distinct)
            return bodies[places], found[places]
        out = labels.copy()
        fork = self._view.fork
        stamps, doubtful = self._overlay.look_up(labels, self._bounds, fork, out)
        for run in self._runs:
            if fork:
                self._mark_doubtful(run, labels, stamps, out, doubtful)
            kernels.look_up_run(run.data, labels, np.uint64(run.stamp), stamps, out)
        if doubtful.any():
            distinct, places = np.unique(labels[doubtful], return_inverse=True)
            settled, _ = lookup_rows(self._txn, self._instance_id, self._view, distinct)
            out[doubtful] = settled[places]
        unset = out == np.uint64(UNSET)
        if unset.any():
            out[unset], stamps[unset] = labels[unset], 0
        out[labels == 0] = 0
        return out, stamps > 0

    def _mark_doubtful(
        self, run: mapruns.Run, labels: Labels, stamps: Labels, out: Labels, doubtful: Found
    ) -> None:
        """Mark labels that a run and another entry map to different bodies below a version merge."""
        there, bodies = _hits(labels, [run])[0]
        below = (np.maximum(stamps, np.uint64(run.stamp)) >> np.uint64(kernels.SEQUENCE_BITS)) < (
            np.uint64(self._view.fork)
        )
        doubtful |= there & (stamps > 0) & (bodies != out) & below


def lookup_rows(
    txn: ReadTxn, instance_id: int, view: View, svs: Labels | Sequence[int]
) -> tuple[Labels, Found]:
    """Return like `Mapping.look_up` from the rows alone: for commands and folds.

    They must see what earlier commands of their batch have changed, which nobody else may see yet.
    """
    svs = np.ascontiguousarray(svs, np.uint64)
    out = svs.copy()
    runs = open_runs(txn, instance_id, view)
    if view.linear and len(svs) >= _MANY:
        return _look_up_many(txn, instance_id, view, svs, runs)
    found = np.zeros(len(svs), bool)
    rows: list[list[versioned.Row]] = [[]] * len(svs)
    if _any_entries(txn, instance_id):
        rows = [_rows_of(txn, key, view, bool(runs)) for key in entry_keys(instance_id, svs)]
    elif not runs:
        return out, found
    hits = _hits(svs, runs)
    for place, of_sv in enumerate(rows):
        candidates = [(row.version, row.sequence, _body(row.value)) for row in of_sv]
        candidates += [
            (run.version, run.sequence, int(bodies[place]))
            for run, (there, bodies) in zip(runs, hits, strict=True)
            if there[place]
        ]
        body = choose(candidates, view) if candidates else UNSET
        if body != UNSET:
            out[place] = body
            found[place] = True
    out[svs == 0] = 0
    return out, found


def _look_up_many(
    txn: ReadTxn, instance_id: int, view: View, svs: Labels, runs: list[mapruns.Run]
) -> tuple[Labels, Found]:
    """Return like `lookup_rows` for a view without version merges: the newest entry counts."""
    stamps = np.zeros(len(svs), np.uint64)
    out = svs.copy()
    if _any_entries(txn, instance_id):
        keys = entry_keys(instance_id, svs)
        places, found, bodies = [], [], []
        for place, pair in enumerate(txn.seek_many(keys, view.seek_suffix)):
            if pair is None:
                continue
            row, value = pair
            version, sequence = split_suffix(row)
            if sequence > view.bounds.get(version, -1):  # of a version that is not seen
                seen = versioned.read_row(txn, keys[place], view)
                if seen is None:
                    continue
                value, version, sequence = seen
            places.append(place)
            found.append(version << kernels.SEQUENCE_BITS | sequence)
            bodies.append(value)
        stamps[places] = np.array(found, np.uint64)
        out[places] = np.frombuffer(b"".join(bodies), "<u8")
    for run in runs:
        kernels.look_up_run(run.data, svs, np.uint64(run.stamp), stamps, out)
    there = (stamps > 0) & (out != np.uint64(UNSET))
    out[~there] = svs[~there]
    out[svs == 0] = 0
    return out, there


def _rows_of(txn: ReadTxn, key: bytes, view: View, all_of_them: bool) -> list[versioned.Row]:
    """Return the row that counts; below a version merge, with runs beside them, all that might."""
    if all_of_them and not view.linear:
        return list(versioned.visible_rows(txn, key, view))
    row = versioned.read_row(txn, key, view)
    return [] if row is None else [row]


def earlier_bodies(txn: ReadTxn, instance_id: int, view: View, sv: int) -> list[int]:
    """Return all bodies that a supervoxel has mapped to within a view, itself first."""
    key = instance_key(instance_id, ENTRIES) + sv.to_bytes(8, "big")
    found = {sv: None}
    for row, value in txn.scan(key, key + b"\xff" * (versioned.SUFFIX_BYTES + 1)):
        version, sequence = split_suffix(row)
        if sequence <= view.bounds.get(version, -1):
            found[_body(value)] = None
    one = np.array([sv], np.uint64)
    for there, bodies in _hits(one, open_runs(txn, instance_id, view)):
        if there[0]:
            found[int(bodies[0])] = None
    found.pop(0, None)
    found.pop(UNSET, None)
    return list(found)


def choose(candidates: list[tuple[int, int, int]], view: View) -> int:
    """Return the body of the entry (version, sequence, body) that no other one supersedes.

    Raises:
        VersionConflict: parents of a version merge disagree.
    """
    candidates = sorted(candidates, reverse=True)
    if view.linear or len(candidates) == 1:
        return candidates[0][2]
    newest: dict[int, tuple[int, int]] = {}
    for version, sequence, body in candidates:
        newest.setdefault(version, (sequence, body))
    places = view.nearest([(version, sequence) for version, (sequence, _) in newest.items()])
    bodies = [body for _, body in newest.values()]
    nearest = {bodies[place] for place in places}
    if len(nearest) > 1:
        raise VersionConflict(
            "the parents of a version merge map a supervoxel to different bodies: post a mapping"
        )
    return nearest.pop()


def entry_keys(instance_id: int, svs: Labels) -> list[bytes]:
    """Return the keys of the entries of supervoxels, without suffix."""
    if len(svs) < _FEW:
        prefix = instance_key(instance_id, ENTRIES)
        return [prefix + sv.to_bytes(8, "big") for sv in svs.tolist()]
    return keys_of(label_table(instance_id, ENTRIES, svs))


def put_entries(txn: WriteTxn, record: Record, svs: Labels, bodies: Labels) -> None:
    """Add entries (each supervoxel once) to the rows and the journal; once in an event."""
    if not len(svs):
        return
    if len(svs) < _FEW:
        put_few(txn, record, sorted(zip(svs.tolist(), bodies.tolist(), strict=True)))
        return
    header = record.header
    pairs_of = np.empty((len(svs), 2), "<u8")
    pairs_of[:, 0], pairs_of[:, 1] = svs, bodies
    if (svs[1:] < svs[:-1]).any():
        pairs_of = pairs_of[np.argsort(svs, kind="stable")]
    keys = label_table(header.instance, ENTRIES, pairs_of[:, 0])
    if (bodies == bodies[0]).all():
        values = [pairs_of[0, 1].tobytes()] * len(svs)
    else:
        values = cut(pairs_of[:, 1:].view(np.uint8))
    txn.put_table(keys, row_suffix(header.version, record.offset), values)
    _put_journal(txn, record, pairs_of.tobytes())


def put_few(txn: WriteTxn, record: Record, pairs: Sequence[tuple[int, int]]) -> None:
    """Add few entries, pairs of supervoxel and body, ascending, as `put_entries`."""
    header = record.header
    prefix = instance_key(header.instance, ENTRIES)
    suffix = row_suffix(header.version, record.offset)
    for sv, body in pairs:
        txn.put(prefix + sv.to_bytes(8, "big") + suffix, body.to_bytes(8, "little"))
    _put_journal(txn, record, b"".join([_pack_pair(*pair) for pair in pairs]))


def _put_journal(txn: WriteTxn, record: Record, data: bytes) -> None:
    header = record.header
    key = instance_key(header.instance, JOURNAL) + record.offset.to_bytes(8, "big")
    txn.put(key, header.version.to_bytes(4, "big") + data)


def _body(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _hits(svs: Labels, runs: list[mapruns.Run]) -> list[tuple[Found, Labels]]:
    hits = []
    for run in runs:
        stamps, bodies = np.zeros(len(svs), np.uint64), np.zeros(len(svs), np.uint64)
        kernels.look_up_run(run.data, svs, np.uint64(run.stamp), stamps, bodies)
        hits.append((stamps > 0, bodies))
    return hits


def _any_entries(txn: ReadTxn, instance_id: int) -> bool:
    prefix = instance_key(instance_id, ENTRIES)
    pair = txn.seek(prefix)
    return pair is not None and pair[0].startswith(prefix)


def _any_rows(txn: ReadTxn, instance_id: int) -> bool:
    return _any_entries(txn, instance_id) or mapruns.has_any(txn, instance_id)
