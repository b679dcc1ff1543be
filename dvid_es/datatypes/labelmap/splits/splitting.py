"""What a split is made of, read from one state, and the blocks that it rewrites.

The same reads are made twice: before the blocks are rewritten, in threads, and when the command is
decided. If they differ by then, everything is made again.

Source: SplitSupervoxel and SplitLabels in datatype/labelmap/mutate.go (janelia-flyem/dvid).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, rle, storedblock
from dvid_es.datatypes.labelmap.bodies import bodysets, counters
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.bodies.labelsets import member
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.splits import kernels
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.ids import PackRef
from dvid_es.projections.txn import BulkReader, ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]


class Outdated(InvalidRequest):
    """Another write came between preparing and deciding; `labels` if it took the new labels."""

    def __init__(self, *, labels: bool = False) -> None:
        """Say what is outdated."""
        super().__init__("other writes kept changing what is to be split: send the request again")
        self.labels = labels


# -- requests --------------------------------------------------------------------------------


class Runs(NamedTuple):
    """The voxels of a request."""

    posted: bytes
    """The runs in the order of the request."""

    ordered: rle.Runs
    """Distinct voxels, in Z, Y, X order."""

    voxels: int


def read_runs(body: bytes) -> Runs:
    """Return the runs of a request.

    Raises:
        InvalidRequest: it is malformed, has no voxels, or has a voxel twice.
    """
    runs = rle.parse_legacy(body)
    if not len(runs):
        raise InvalidRequest("cannot split: the sparse volume has no voxels")
    return Runs(rle.encode_runs(runs), rle.sort_runs(runs), rle.count_voxels(runs))


class Cut(NamedTuple):
    """Runs, cut at the borders of blocks."""

    coords_zyx: Coords
    """int32[n, 3], in ZYX order."""

    starts: NDArray[np.int64]
    """int64[n + 1]: block i has runs[starts[i] : starts[i + 1]]."""

    runs: rle.Runs

    def of(self, block: int) -> rle.Runs:
        """Return the runs in one block; none for -1."""
        if block < 0:
            return rle.empty_runs()
        return self.runs[self.starts[block] : self.starts[block + 1]]


def cut(runs: Runs, shape_zyx: Triple) -> Cut:
    """Cut runs at the borders of blocks; their voxels have been found not to be too many."""
    return Cut(*rle.split_at_blocks(runs.ordered, shape_zyx))


def cut_as_posted(runs: Runs, shape_zyx: Triple) -> Cut:
    """Cut runs at the borders of blocks; in each block they keep the order of the request."""
    posted = np.frombuffer(runs.posted, "<i4").reshape(-1, 4)
    return Cut(*rle.split_at_blocks(posted, shape_zyx, as_given=True))


def places_in(coords_zyx: Coords, of_zyx: Coords) -> NDArray[np.int64]:
    """Return where each of `coords_zyx` is among the distinct blocks `of_zyx`, -1 for nowhere."""
    both = np.concatenate([of_zyx, coords_zyx])
    distinct, numbers = np.unique(both, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    places = np.full(len(distinct), -1, np.int64)
    places[numbers[: len(of_zyx)]] = np.arange(len(of_zyx))
    return places[numbers[len(of_zyx) :]]


# -- the state -------------------------------------------------------------------------------


class Found(NamedTuple):
    """The blocks that a split rewrites, in one state."""

    body: int
    coords_zyx: Coords
    """int32[n, 3], distinct, in ZYX order."""

    stored: list[Bulk | None]
    voxels: int
    """Voxels of the supervoxel, or of the body, that is split."""

    def same(self, other: "Found") -> bool:
        """Say whether nothing has changed between two states."""
        return (
            self.body == other.body
            and self.voxels == other.voxels
            and np.array_equal(self.coords_zyx, other.coords_zyx)
            and self.stored == other.stored
        )


def find_supervoxel(txn: ReadTxn, instance_id: int, view: View, sv: int) -> Found:
    """Return body, blocks and voxels of a supervoxel.

    Raises:
        InvalidRequest: it was split already, has no voxels, or is in no body.
    """
    one = np.array([sv], np.uint64)
    labels, _ = mapping.lookup_rows(txn, instance_id, view, one)
    label = int(labels[0])
    if label == 0:
        raise InvalidRequest(f"cannot split supervoxel {sv}: it was split before and is no more")
    body = bodysets.read(txn, instance_id, label, view)
    if body is None or not bodysets.contains(txn, instance_id, body, one)[0]:
        raise InvalidRequest(f"cannot split supervoxel {sv}: body {label} does not have it")
    coords, counts = svindex.read_blocks(txn, instance_id, sv, view)
    if not len(coords):
        raise InvalidRequest(f"cannot split supervoxel {sv}: it has no voxels")
    stored = blocks.find_list(txn, instance_id, 0, coords, view)
    return Found(label, coords, stored, int(counts.sum(dtype=np.uint64)))


def find_body(txn: ReadTxn, instance_id: int, view: View, label: int) -> Body:
    """Return a body that can be split.

    Raises:
        InvalidRequest: there is none.
    """
    body = bodysets.read(txn, instance_id, label, view)
    if body is None or not body.members:
        raise InvalidRequest(f"cannot split body {label}: there is no such body")
    return body


def find_members(txn: ReadTxn, instance_id: int, view: View, label: int, svs: Labels) -> Found:
    """Return all blocks of some supervoxels of a body.

    Raises:
        InvalidRequest: there is no such body, or one of them is not in it.
    """
    body = find_body(txn, instance_id, view, label)
    inside = bodysets.contains(txn, instance_id, body, svs)
    if not inside.all():
        raise InvalidRequest(
            f"cannot split body {label}: a voxel to be split off is of supervoxel"
            f" {svs[~inside][0]}, which is not in this body"
        )
    _, coords, _ = svindex.read_many_blocks(txn, instance_id, svs, view)
    coords = np.ascontiguousarray(np.unique(coords, axis=0), np.int32)
    stored = blocks.find_list(txn, instance_id, 0, coords, view)
    return Found(label, coords, stored, body.voxels)


def find_blocks(txn: ReadTxn, instance_id: int, view: View, whole: Cut) -> list[Bulk | None]:
    """Return the blocks that runs lie in."""
    return blocks.find_list(txn, instance_id, 0, whole.coords_zyx, view)


def check_size(runs: Runs, voxels: int, what: str) -> None:
    """Refuse to split off everything, or more.

    Raises:
        InvalidRequest: there are as many voxels to be split off as there are in all.
    """
    if runs.voxels >= voxels:
        raise InvalidRequest(
            f"cannot split {runs.voxels} voxels off {what}, which has {voxels}: some must remain"
        )


# -- labels ----------------------------------------------------------------------------------


class Parts(NamedTuple):
    """The labels of the two parts of a supervoxel."""

    split: int
    remain: int
    given: int = 0
    """The highest that the server gives, 0 for none."""

    chosen: int = 0
    """The highest that the client has chosen, 0 for none."""


def check_unused(txn: ReadTxn, instance_id: int, view: View, label: int) -> None:
    """Refuse a label that means something already.

    Raises:
        InvalidRequest: it is a body or supervoxel of some version, or in the mapping.
    """
    if label > counters.LAST_LABEL:
        raise InvalidRequest(f"label {label} cannot be used: the highest is {counters.LAST_LABEL}")
    one = np.array([label], np.uint64)
    mapped = mapping.lookup_rows(txn, instance_id, view, one)[1][0]
    if mapped or counters.is_used(txn, instance_id, label):
        raise InvalidRequest(f"label {label} is in use already: choose another one for the split")


def label_parts(txn: ReadTxn, instance_id: int, view: View, split: int, remain: int) -> Parts:
    """Return the labels of a split: those that the client has chosen, new ones for 0.

    Raises:
        InvalidRequest: a chosen label is in use, both are the same, or there are no more labels.
    """
    for label in (split, remain):
        if label:
            check_unused(txn, instance_id, view, label)
    if split and remain:
        if split == remain:
            raise InvalidRequest(f"split and remain cannot both be label {split}")
        return Parts(split, remain, chosen=max(split, remain))
    if not split and not remain:
        first, last = counters.allocate(txn, instance_id, 2)
        return Parts(first, last, given=last)
    chosen = split or remain
    counted = counters.read_common(txn, instance_id).next_label
    # The chosen split label counts before the other one is given, as in DVID.
    beyond = split if not counted else 0
    given, _ = counters.allocate(txn, instance_id, 1, beyond)
    if given == chosen:
        given, _ = counters.allocate(txn, instance_id, 1, chosen)
    return Parts(split or given, remain or given, given, chosen)


def numbered(first: int, count: int) -> tuple[Labels, Labels]:
    """Return the labels of the parts of so many supervoxels: split and remaining parts by turns.

    `first` itself is the new body, as DVID gives them.
    """
    labels = np.uint64(first + 1) + np.arange(2 * count, dtype=np.uint64)
    return labels[::2].copy(), labels[1::2].copy()


# -- blocks ----------------------------------------------------------------------------------


def _load(packs: BulkReader, stored: Bulk | None, block_zyx: Sequence[int]) -> bytes:
    if stored is None:
        z, y, x = block_zyx
        raise InvalidRequest(f"cannot split: block ({x}, {y}, {z}) is not stored")
    return storedblock.load(packs.get(stored) if isinstance(stored, PackRef) else stored)


def survey(
    packs: BulkReader, stored: Sequence[Bulk | None], whole: Cut, start: int, stop: int
) -> list[int]:
    """Return the labels, without 0, under the runs of blocks [start, stop), as they are met.

    Raises:
        InvalidRequest: a block is not stored.
    """
    met: dict[int, None] = {}
    for place in range(start, stop):
        at = whole.coords_zyx[place].tolist()
        volume = labelblock.decode(_load(packs, stored[place], at))
        runs = whole.of(place)
        out = np.empty(rle.count_voxels(runs), np.uint64)
        kernels.labels_under(volume.reshape(-1), runs, *_frame(at, volume.shape), out)
        labels, firsts = np.unique(out, return_index=True)
        met.update(dict.fromkeys(labels[np.argsort(firsts)].tolist()))
    met.pop(0, None)
    return list(met)


class Rewriter:
    """Rewrites blocks: voxels under runs get one label, other ones of the supervoxels another."""

    def __init__(
        self,
        packs: BulkReader,
        found: Found,
        whole: Cut,
        svs: Labels,
        splits: Labels,
        remains: Labels,
        *,
        exact: bool,
    ) -> None:
        """Prepare for all blocks of `found`.

        Args:
            packs: where blocks lie.
            found: the blocks.
            whole: the runs.
            svs: uint64[n], ascending.
            splits: uint64[n]: new labels under runs.
            remains: uint64[n]: new labels elsewhere.
            exact: whether each voxel under the runs must be of one of the supervoxels.
        """
        self._packs = packs
        self._found = found
        self._cut = whole
        self._runs_at = places_in(found.coords_zyx, whole.coords_zyx)
        self._svs, self._splits, self._remains = svs, splits, remains
        self._new = np.sort(np.concatenate([splits, remains]))
        self._exact = exact

    def make(self, start: int, stop: int) -> list[Prepared]:
        """Return blocks [start, stop).

        Raises:
            InvalidRequest: one is not stored, holds a new label already, or a voxel under the runs
                is not of the supervoxel.
        """
        return [self._make_one(place) for place in range(start, stop)]

    def _make_one(self, place: int) -> Prepared:
        at = self._found.coords_zyx[place].tolist()
        block = _load(self._packs, self._found.stored[place], at)
        labels = labelblock.table(block)
        taken = member(labels, self._new)
        if taken.any():
            raise InvalidRequest(
                f"label {labels[taken][0]} is in voxels already: move the counter of labels beyond"
                " it with set-nextlabel, or choose another one"
            )
        runs = self._cut.of(int(self._runs_at[place]))
        if len(runs):
            volume = labelblock.decode(block)
            frame = _frame(at, volume.shape)
            changed = kernels.relabel(volume.reshape(-1), runs, *frame, self._svs, self._splits)
            if self._exact and changed != rle.count_voxels(runs):
                raise InvalidRequest(
                    f"cannot split supervoxel {self._svs[0]}: {rle.count_voxels(runs) - changed}"
                    f" of the voxels in block {tuple(at[::-1])} are not its own"
                )
            block = labelblock.encode(volume)
            labels = labelblock.table(block)
        labels = labels.copy()
        old = member(labels, self._svs)
        labels[old] = self._remains[np.searchsorted(self._svs, labels[old])]
        block = labelblock.with_table(block, labels)
        counted, voxels = labelblock.counts(block)
        stored = storedblock.store(block)
        return Prepared(block, stored, int(labels.max()), counted, voxels.astype(np.uint32))


def _frame(block_zyx: Sequence[int], shape_zyx: Sequence[int]) -> tuple[int, int, int, int, int]:
    z, y, x = (at * side for at, side in zip(block_zyx, shape_zyx, strict=True))
    return z, y, x, shape_zyx[1], shape_zyx[2]
