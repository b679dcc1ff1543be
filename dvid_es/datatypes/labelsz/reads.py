"""Counts of elements by label and kind, read off the lists of an annotation: exact at any version.

Counts of one label cost what its elements cost; a ranking reads all lists once, page by page.

Source: datatype/labelsz/labelsz.go (janelia-flyem/dvid), which adds up differences in counters instead.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelsz.rows import UNVERSIONED, read_reload, read_synced
from dvid_es.errors import InvalidRequest, VersionConflict
from dvid_es.projections import regions
from dvid_es.projections.catalog import Instance, Repo
from dvid_es.projections.elements import KINDS, SOURCES, ElementSource, Lists, Moment, Page
from dvid_es.projections.regions import Region
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import UNBOUNDED, View

Labels = NDArray[np.uint64]
Counts = NDArray[np.int64]
"""int64[..., kinds]: numbers of elements of each of `KINDS`."""

INDEX_TYPES: dict[str, tuple[str, ...]] = {
    "PostSyn": ("PostSyn",),
    "PreSyn": ("PreSyn",),
    "Gap": ("Gap",),
    "Note": ("Note",),
    "AllSyn": ("PostSyn", "PreSyn", "Gap"),
    "Voxels": (),
}
"""What can be asked for, and the kinds of elements that count for it."""

PAGE_ENTRIES = 1 << 17
LABELS_AT_ONCE = 1 << 20

Open = Callable[[], AbstractContextManager[ReadTxn]]


class Counting(NamedTuple):
    """Which elements an instance counts, in one transaction."""

    annotation: Instance
    source: ElementSource
    view: View
    """What is seen of the annotation."""

    lists: Lists
    after: int
    """Entries count that were written later than this sequence."""

    until: int
    """Sequence of the last event that counts."""

    region: Region | None
    """Elements outside do not count."""

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes that counts of different moments are counts of the same."""
        written = None if self.region is None else self.region.written
        return self.annotation.id, self.after, self.until, written

    def at(self, txn: ReadTxn, moment: Moment) -> "Counting":
        """Return the same as of another moment."""
        sequence = min(moment.sequence, self.until)
        version = moment.version if self.annotation.versioned else UNVERSIONED
        lists = self.source.lists(txn, self.annotation, moment.version, sequence)
        return self._replace(view=txn.view(version).at(sequence), lists=lists)

    def counted(self, page: Page) -> NDArray[np.bool_]:
        """Say of the entries of a page whether they count."""
        found: NDArray[np.bool_] = page.written > self.after
        if self.region is not None:
            found &= self.region.holds_points(page.points_zyx)
        return found


def counting(txn: ReadTxn, instance: Instance, version: int) -> Counting | None:
    """Return what an instance counts at a version (ordinal); None for nothing."""
    version = version if instance.versioned else UNVERSIONED
    synced = read_synced(txn, instance.id)
    annotation = None if synced is None else txn.repo.instances.get(synced.annotation)
    if synced is None or annotation is None or annotation.purged:
        return None
    reload = read_reload(txn, instance.id, txn.view(version))
    since, after = synced.since, synced.since
    if reload > since:
        since, after = reload, -1
    region = None
    if instance.settings["StaticROI"]:
        region = _static_region(txn, instance.settings["StaticROI"], since)
        if region is None:
            return None
    source = SOURCES[annotation.typename]
    view = txn.view(version if annotation.versioned else UNVERSIONED)
    view = view if synced.until == UNBOUNDED else view.at(synced.until)
    lists = source.lists(txn, annotation, version, synced.until)
    return Counting(annotation, source, view, lists, after, synced.until, region)


def _static_region(txn: ReadTxn, spec: str, at: int) -> Region | None:
    """Return the region "name,uuid" as it was at a sequence; None if there is no such thing."""
    name, _, uuid = spec.partition(",")
    version = version_named(txn.repo, uuid)
    if version is None:
        return None
    try:
        return regions.find(txn, name, version, at)
    except InvalidRequest:
        return None


def version_named(repo: Repo, text: str) -> int | None:
    """Return the version that a UUID, the beginning of one, or such and `:branch` means; None for none."""
    uuid, colon, branch = text.strip().partition(":")
    found = [version for version in repo.graph.by_id.values() if version.uuid.startswith(uuid)]
    exact = repo.graph.by_uuid.get(uuid)
    if exact is None and len(found) != 1:
        return None
    version = exact or found[0]
    leaf = repo.graph.leaf("" if branch == "master" else branch) if colon else version
    return None if leaf is None else leaf.id


def count(txn: ReadTxn, what: Counting | None, label: int) -> Counts:
    """Return how many elements of each kind a label has: int64[kinds].

    Raises:
        VersionConflict: parents of a version merge disagree about the label.
    """
    found = np.zeros(len(KINDS), np.int64)
    if what is None or not label:
        return found
    svs = what.lists.members(label)
    for page in what.source.on_supervoxels(txn, what.annotation, what.view, svs):
        found += np.bincount(page.kinds[what.counted(page)], minlength=len(KINDS))
    return found


def sizes(counts: Counts, index_type: str) -> NDArray[np.int64]:
    """Return the sizes that counts come to."""
    kinds = [KINDS.index(kind) for kind in INDEX_TYPES[index_type]]
    total: NDArray[np.int64] = counts[..., kinds].sum(axis=-1)
    return total


class Ranking:
    """The counts of all labels that have any."""

    def __init__(
        self, labels: Labels, counts: Counts, moment: Moment, identity: tuple[object, ...]
    ) -> None:
        """Keep distinct labels uint64[n], ascending, and int64[n, kinds]; and of what these are."""
        self.labels = labels
        self.counts = counts
        self.moment = moment
        self.identity = identity
        self._ranked: dict[str, tuple[Labels, NDArray[np.int64]]] = {}

    def ranked(self, index_type: str) -> tuple[Labels, NDArray[np.int64]]:
        """Return labels and sizes, the largest first, equal ones by label; without zeros."""
        found = self._ranked.get(index_type)
        if found is None:
            size = sizes(self.counts, index_type)
            there = np.flatnonzero(size)
            order = there[np.argsort(-size[there], kind="stable")]
            found = self._ranked[index_type] = self.labels[order], size[order]
        return found

    def top(self, many: int, index_type: str) -> list[tuple[int, int]]:
        """Return the labels of the largest sizes, and these."""
        labels, size = self.ranked(index_type)
        return list(zip(labels[:many].tolist(), size[:many].tolist(), strict=True))

    def at_least(
        self, threshold: int, index_type: str, offset: int, many: int
    ) -> list[tuple[int, int]]:
        """Return some of those of at least a size: `many` from the rank `offset` on."""
        labels, size = self.ranked(index_type)
        stop = min(offset + many, int(np.searchsorted(-size, -threshold, side="right")))
        part = slice(max(0, offset), max(0, stop))
        return list(zip(labels[part].tolist(), size[part].tolist(), strict=True))

    def of(self, labels: Sequence[int]) -> Counts:
        """Return the counts of some labels: int64[n, kinds]."""
        wanted = np.array(labels, np.uint64)
        found = np.zeros((len(wanted), len(KINDS)), np.int64)
        if len(self.labels):
            place = np.searchsorted(self.labels, wanted).clip(max=len(self.labels) - 1)
            known = self.labels[place] == wanted
            found[known] = self.counts[place[known]]
        return found

    def moved(self, moment: Moment) -> "Ranking":
        """Return the same at another moment, to which nothing has changed."""
        same = Ranking(self.labels, self.counts, moment, self.identity)
        same._ranked = self._ranked
        return same

    def plus(self, labels: Labels, counts: Counts, moment: Moment) -> "Ranking":
        """Return what differences (labels ascending and distinct) come to at another moment."""
        known = np.isin(labels, self.labels)
        total = self.counts.copy()
        total[np.searchsorted(self.labels, labels[known])] += counts[known]
        every = np.concatenate([self.labels, labels[~known]])
        total = np.concatenate([total, counts[~known]])
        order = np.argsort(every, kind="stable")
        order = order[total[order].any(axis=1)]
        return Ranking(every[order], total[order], moment, self.identity)

    @cached_property
    def memory_bytes(self) -> int:
        """About how much memory it takes, with all orders."""
        return len(self.labels) * (8 + 8 * len(KINDS) + 16 * len(INDEX_TYPES))


def rank(open_txn: Open, instance: Instance, moment: Moment) -> Ranking:
    """Return the counts of all labels at a version.

    Args:
        open_txn: opens short transactions of one and the same state.
        instance: the labelsz.
        moment: version, and the sequence of that state.
    """
    version, identity = moment.version, tuple[object, ...]()
    keys, counts = [np.zeros(0, np.uint64)], [np.zeros((0, len(KINDS)), np.int64)]
    start = b""
    while True:
        with open_txn() as txn:
            what = counting(txn, instance, version)
            if what is None:
                break
            identity = what.identity
            page = what.source.page(txn, what.annotation, what.view, start, PAGE_ENTRIES)
            there = what.counted(page)
        svs, found = _summed(
            page.supervoxels[there], np.eye(len(KINDS), dtype=np.int64)[page.kinds[there]]
        )
        keys.append(svs)
        counts.append(found)
        start = page.following
        if not start:
            break
    svs, summed = _summed(np.concatenate(keys), np.concatenate(counts))
    labels = np.zeros(len(svs), np.uint64)
    for first in range(0, len(svs), LABELS_AT_ONCE):
        part = slice(first, first + LABELS_AT_ONCE)
        with open_txn() as txn:
            what = counting(txn, instance, version)
            assert what is not None
            labels[part] = _bodies(what.lists, svs[part])
    there = labels != 0
    return Ranking(*_summed(labels[there], summed[there]), moment, identity)


def follow(open_txn: Open, instance: Instance, moment: Moment, base: Ranking) -> Ranking | None:
    """Return the counts of all labels at a moment from those of an earlier one; None if it cannot be done.

    Only the supervoxels are read on which, or on whose labels, anything has changed.

    Args:
        open_txn: opens short transactions of the state at `moment`.
        instance: the labelsz.
        moment: version and sequence.
        base: counts at a moment of the same version or of one of its ancestors.
    """
    with open_txn() as txn:
        what = counting(txn, instance, moment.version)
        if what is None or what.identity != base.identity or not _grows(txn, base.moment, moment):
            return None
        changed = what.source.changed(txn, what.annotation, base.moment, moment)
        if changed is None:
            return None
        svs = np.union1d(changed.entries, changed.remapped)
        if not len(svs):
            return base.moved(moment)
        old, new = what.at(txn, base.moment), what.at(txn, moment)
        after = _of_supervoxels(txn, new, svs)
        before = after.copy()
        others = np.searchsorted(svs, changed.entries)
        before[others] = _of_supervoxels(txn, old, changed.entries)
        labels = np.concatenate([_bodies(old.lists, svs), _bodies(new.lists, svs)])
    counts = np.concatenate([-before, after])
    there = labels != 0
    return base.plus(*_summed(labels[there], counts[there]), moment)


def _grows(txn: ReadTxn, old: Moment, new: Moment) -> bool:
    """Say whether a moment sees all that another one saw."""
    later = txn.view(new.version).at(new.sequence).bounds
    earlier = txn.view(old.version).at(old.sequence).bounds
    return all(later.get(ordinal, -1) >= bound for ordinal, bound in earlier.items())


def _of_supervoxels(txn: ReadTxn, what: Counting, svs: Labels) -> Counts:
    """Return the counts of some supervoxels: int64[n, kinds]."""
    kinds = len(KINDS)
    found = np.zeros(len(svs) * kinds, np.int64)
    for page in what.source.on_supervoxels(txn, what.annotation, what.view, svs):
        there = what.counted(page)
        places = np.searchsorted(svs, page.supervoxels[there]) * kinds + page.kinds[there]
        found += np.bincount(places, minlength=len(found))
    return found.reshape(-1, kinds)


def _bodies(lists: Lists, svs: Labels) -> Labels:
    """Return the labels of supervoxels; 0 where parents of a version merge disagree."""
    try:
        return lists.bodies(svs)
    except VersionConflict:
        if len(svs) == 1:
            return np.zeros(1, np.uint64)
        half = len(svs) // 2
        return np.concatenate([_bodies(lists, svs[:half]), _bodies(lists, svs[half:])])


def _summed(keys: Labels, counts: Counts) -> tuple[Labels, Counts]:
    """Return distinct keys, ascending, and the sums of their counts."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))[: len(keys)]
    if not len(keys):
        return keys, counts
    return keys[starts], np.add.reduceat(counts, starts, axis=0)
