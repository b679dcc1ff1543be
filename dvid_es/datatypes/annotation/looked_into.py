"""How others look into the lists of labels of annotations; see projections/elements.py."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.source import UNVERSIONED, listed
from dvid_es.projections import journal, versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.elements import (
    KINDS,
    Changed,
    ElementSource,
    Labels,
    Lists,
    Moment,
    Page,
)
from dvid_es.projections.temporal import SIGN
from dvid_es.projections.txn import Pair, ReadTxn
from dvid_es.projections.versioned import Row
from dvid_es.versions import UNBOUNDED, View

PAGE_ENTRIES = 1 << 16

NEIGHBOURS = 64
"""Supervoxels that are looked up together."""

CHANGED_MAX = 1 << 18
"""For more supervoxels than this, everything is better read anew."""

_KINDS = {kind.encode(): number for number, kind in enumerate(KINDS)}
_BEFORE_KIND = b'],"Kind":"'
_HEAD = 5
_NAME = np.dtype([("sv", ">u8"), ("point", ">u4", 3)])
_KEY = np.dtype([*_NAME.descr, ("version", ">u4"), ("sequence", ">u8")])
_ENTRY_BYTES = _HEAD + _NAME.itemsize
_BY_LETTERS = np.zeros(1 << 16, np.uint8)
for _kind, _number in _KINDS.items():
    _BY_LETTERS[int.from_bytes(_kind[:2], "little")] = _number


def _page(found: list[tuple[bytes, Row]], following: bytes = b"") -> Page:
    """Return rows of `rows.LABELED` as arrays."""
    names = np.frombuffer(b"".join(key[_HEAD:] for key, _ in found), _NAME)
    kinds = np.fromiter((_kind_of(row.value) for _, row in found), np.uint8, len(found))
    written = np.fromiter((row.sequence for _, row in found), np.int64, len(found))
    points = names["point"].astype(np.int64) - SIGN
    return Page(names["sv"].astype(np.uint64), points, kinds, written, following)


def _kind_of(text: bytes) -> int:
    # The place is in front of the kind, and is made of numbers.
    start = text.index(_BEFORE_KIND) + len(_BEFORE_KIND)
    return _KINDS[text[start : text.index(b'"', start)]]


def _listed(txn: ReadTxn, start: bytes, stop: bytes, view: View) -> Iterator[tuple[bytes, Row]]:
    return (item for item in versioned.scan_rows(txn, start, stop, view) if item[1].value)


def page(txn: ReadTxn, instance: Instance, view: View, start: bytes, limit: int) -> Page:
    """Return at most so many entries of all lists."""
    first = start or instance_key(instance.id, rows.LABELED)
    stop = instance_key(instance.id, rows.LABELED + 1)
    if view.linear:
        quick = _quick_page(list(islice(txn.scan(first, stop), limit)), limit, view)
        if quick.following != first[:_ENTRY_BYTES] or not quick.following:
            return quick
    found = list(islice(_listed(txn, first, stop, view), limit))
    # All keys have one length, so this is right behind the last one.
    return _page(found, found[-1][0] + b"\xff" * 13 if len(found) == limit else b"")


def _quick_page(found: list[Pair], limit: int, view: View) -> Page:
    """Return what a view without version merges sees of rows of entries, in the order of their keys.

    The newest visible row of each entry counts: it is the first one, as keys are sorted. If there are
    `limit` rows, the last entry may have more of them and is left to the next page; `following` is where
    the rows begin if they are all of that one.
    """
    keys = np.frombuffer(b"".join([key[_HEAD:] for key, _ in found]), _KEY)
    svs, points = keys["sv"].astype(np.uint64), keys["point"].astype(np.int64)
    new = np.ones(len(keys), bool)
    new[1:] = (svs[1:] != svs[:-1]) | (points[1:] != points[:-1]).any(axis=1)
    stop, following = len(keys), b""
    if found and len(found) == limit:  # the last entry may have more rows
        stop = int(np.flatnonzero(new)[-1])
        following = found[stop][0][:_ENTRY_BYTES]
    versions = 0xFFFFFFFF - keys["version"][:stop].astype(np.int64)
    sequences = UNBOUNDED - keys["sequence"][:stop].astype(np.uint64)
    bounds = np.zeros(max(int(versions.max(initial=0)), *view.bounds) + 1, np.uint64)
    known = np.zeros(len(bounds), bool)
    for version, bound in view.bounds.items():
        bounds[version], known[version] = bound, True
    visible = np.flatnonzero(known[versions] & (sequences <= bounds[versions]))
    _, first = np.unique(np.cumsum(new[:stop])[visible], return_index=True)
    chosen = [place for place in visible[first].tolist() if found[place][1]]
    texts = [found[place][1] for place in chosen]
    # Two letters tell kinds apart.
    letters = b"".join([text.partition(_BEFORE_KIND)[2][:2] for text in texts])
    kinds = _BY_LETTERS[np.frombuffer(letters, "<u2")]
    written = sequences[chosen].astype(np.int64)
    return Page(svs[chosen], points[chosen] - SIGN, kinds, written, following)


def on_supervoxels(txn: ReadTxn, instance: Instance, view: View, svs: Labels) -> Iterator[Page]:
    """Iterate over the entries on some supervoxels; those without any are leapt over."""
    head, at, n = instance_key(instance.id, rows.LABELED), 0, len(svs)
    found: list[Any] = []
    make = partial(_quick_page, limit=0, view=view) if view.linear else _page
    while at < n:
        prefix = head + int(svs[at]).to_bytes(8, "big")
        row = txn.seek(prefix)
        if row is None or not row[0].startswith(head):
            break
        if row[0].startswith(prefix):
            # Where one has entries, its neighbours often do.
            near = [head + sv.to_bytes(8, "big") for sv in svs[at : at + NEIGHBOURS].tolist()]
            at += len(near)
            if view.linear:
                found += txn.under(near)[0]
            else:
                for start in near:
                    found += _listed(txn, start, start + b"\xff" * 25, view)
            if len(found) >= PAGE_ENTRIES:
                yield make(found)
                found = []
        else:
            following = np.uint64(int.from_bytes(row[0][_HEAD : _HEAD + 8], "big"))
            at = int(np.searchsorted(svs, following))
    yield make(found)


class _Names(NamedTuple):
    """Lists of an annotation that never followed labels: a label is its own supervoxel."""

    def members(self, label: int) -> Labels:
        return np.array([label], np.uint64)

    def bodies(self, svs: Labels) -> Labels:
        return svs


def lists(txn: ReadTxn, instance: Instance, version: int, bound: int) -> Lists:
    """Return what the supervoxels of lists belong to, at a version and as of a sequence."""
    found = listed(txn, instance, version)
    if found is None:
        return _Names()
    return found if bound == UNBOUNDED else found._replace(view=found.view.at(bound))


def changed(txn: ReadTxn, instance: Instance, old: Moment, new: Moment) -> Changed | None:
    """Return the supervoxels of which entries, or bodies, may differ between two moments."""
    root, key = txn.view(UNVERSIONED), rows.source_key(instance.id)
    sources = [versioned.read(txn, key, root.at(moment.sequence)) for moment in (old, new)]
    if sources[0] != sources[1]:
        return None
    views = _view(txn, instance, old), _view(txn, instance, new)
    found = journal.between(txn, rows.journal_prefix(instance.id), *views)
    parts = [np.frombuffer(data, ">u8").astype(np.uint64) for data in found]
    entries = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))
    remapped: Labels | None = entries[:0]
    labels = listed(txn, instance, new.version)
    if labels is not None:
        bound = labels.view.sequence
        seen = [_view(txn, labels.labels, moment).at(bound) for moment in (old, new)]
        remapped = labels.source.remapped(txn, labels.labels, *seen)
    if remapped is None or len(entries) + len(remapped) > CHANGED_MAX:
        return None
    return Changed(entries, np.unique(remapped))


def _view(txn: ReadTxn, instance: Instance, moment: Moment) -> View:
    version = moment.version if instance.versioned else UNVERSIONED
    return txn.view(version).at(moment.sequence)


LISTED = ElementSource(page, on_supervoxels, lists, changed)
