"""How others look into the lists of labels of annotations; see projections/elements.py."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.source import listed
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.elements import KINDS, ElementSource, Labels, Lists, Page
from dvid_es.projections.temporal import SIGN
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import Row
from dvid_es.versions import UNBOUNDED, View

PAGE_ENTRIES = 1 << 16

_KINDS = {kind.encode(): number for number, kind in enumerate(KINDS)}
_BEFORE_KIND = b'],"Kind":"'
_HEAD = 5
_NAME = np.dtype([("sv", ">u8"), ("point", ">u4", 3)])


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
    found = list(islice(_listed(txn, first, stop, view), limit))
    # All keys have one length, so this is right behind the last one.
    return _page(found, found[-1][0] + b"\xff" * 13 if len(found) == limit else b"")


def on_supervoxels(txn: ReadTxn, instance: Instance, view: View, svs: Labels) -> Iterator[Page]:
    """Iterate over the entries on some supervoxels; those without any are leapt over."""
    head, at, n = instance_key(instance.id, rows.LABELED), 0, len(svs)
    found: list[tuple[bytes, Row]] = []
    while at < n:
        prefix = head + int(svs[at]).to_bytes(8, "big")
        row = txn.seek(prefix)
        if row is None or not row[0].startswith(head):
            break
        if row[0].startswith(prefix):
            found += _listed(txn, prefix, prefix + b"\xff" * 25, view)
            at += 1
            if len(found) >= PAGE_ENTRIES:
                yield _page(found)
                found = []
        else:
            following = np.uint64(int.from_bytes(row[0][_HEAD : _HEAD + 8], "big"))
            at = int(np.searchsorted(svs, following))
    yield _page(found)


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


LISTED = ElementSource(page, on_supervoxels, lists)
