"""What annotations are asked: elements in boxes and blocks, of labels and of tags. Sync; one transaction.

Source: the reads of datatype/annotation/annotation.go (janelia-flyem/dvid).
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.changes import read_known
from dvid_es.datatypes.annotation.elements import RELS, joined
from dvid_es.datatypes.annotation.rows import ELEMENTS, LABELED, Stored
from dvid_es.datatypes.annotation.source import listed_members
from dvid_es.geometry import Box, Triple
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.labels import Labels
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import SUFFIX_BYTES
from dvid_es.versions import View, split_suffix

LABEL_BYTES = 13
"""Instance, kind and supervoxel: what the keys of a supervoxel's elements begin with."""

_TO = re.compile(rb'"To":\[((-?[0-9]+),(-?[0-9]+),(-?[0-9]+))\]')

Entry = tuple[bytes, bytes]
"""Place, as keys hold it, and text without relationships."""


class Listing(NamedTuple):
    """One block and its elements, in their order."""

    block_zyx: Triple
    elements: list[tuple[bytes, Stored]]
    """Places, as keys hold them, and elements."""

    is_null: bool

    def text(self) -> bytes:
        """Return its JSON array."""
        if self.is_null and not self.elements:
            return b"null"
        return joined(stored.text for _, stored in self.elements)


# -- blocks ----------------------------------------------------------------------------------


def blocks_in(
    txn: ReadTxn, instance: int, view: View, box: Box | None, after: Triple | None = None
) -> Iterator[Listing]:
    """Iterate over the blocks in a box of blocks, in ZYX order; the cost follows those that are there.

    Args:
        txn: the state to read.
        instance: the annotation.
        view: what is seen of it.
        box: of blocks; None for all.
        after: begin behind this block.
    """
    head = instance_key(instance, ELEMENTS)
    stop = instance_key(instance, ELEMENTS + 1)
    wanted = None if box is None else box.first_from(box.start_zyx)
    if box is not None and wanted is None:
        return
    start = head if wanted is None else head + rows.point_bytes(wanted)
    if after is not None:
        start = max(start, head + rows.point_bytes(after) + b"\2")
    block, found = b"", list[tuple[bytes, Stored]]()
    known = 0
    while start:
        again = b""
        for key, value in versioned.scan(txn, start, stop, view):
            if key[5:17] != block:
                if block:
                    yield _listing(block, found, known)
                block, found, known = b"", [], 0
                leap = None if box is None else _leap(box, key)
                if leap is not None:
                    again = head + leap if leap else b""
                    break
                block = key[5:17]
            if rows.is_block(key):
                known = value[0]
            else:
                found.append((key[18:30], rows.decode_element(value)))
        else:
            if block:
                yield _listing(block, found, known)
        start = again


def _leap(box: Box, key: bytes) -> bytes | None:
    """Return None if the block of a key is in a box; else the next one that may be; empty for none."""
    z, y, x = rows.point_of(key, 5)
    (z0, y0, x0), (z1, y1, x1) = box
    if z0 <= z < z1 and y0 <= y < y1 and x0 <= x < x1:
        return None
    inside = box.first_from((z, y, x))
    return b"" if inside is None else rows.point_bytes(inside)


def _listing(block: bytes, found: list[tuple[bytes, Stored]], known: int) -> Listing:
    found.sort(key=lambda item: item[1].order)
    return Listing(rows.point_of(block), found, known == rows.NULL)


def texts_in(txn: ReadTxn, instance: int, view: View, box: Box, shape: Triple) -> Iterator[bytes]:
    """Iterate over the elements in a box of voxels."""
    (z0, y0, x0), (z1, y1, x1) = box
    for listing in blocks_in(txn, instance, view, box.blocks(shape)):
        for point, stored in listing.elements:
            z, y, x = rows.point_of(point)
            if z0 <= z < z1 and y0 <= y < y1 and x0 <= x < x1:
                yield stored.text


def texts_of_spans(
    txn: ReadTxn, instance: int, view: View, spans: Iterable[Sequence[int]]
) -> Iterator[bytes]:
    """Iterate over the elements in the blocks of spans (z, y, first x, last x)."""
    for z, y, first, last in spans:
        box = Box((z, y, first), (z + 1, y + 1, last + 1))
        for listing in blocks_in(txn, instance, view, box):
            yield from (stored.text for _, stored in listing.elements)


def count_blocks(txn: ReadTxn, instance: int, view: View) -> int:
    """Return how many blocks there are, empty ones too."""
    return sum(1 for _ in blocks_in(txn, instance, view, None))


# -- lists -----------------------------------------------------------------------------------


def entries_of_tag(txn: ReadTxn, instance: int, view: View, tag: str) -> list[Entry]:
    """Return the elements with a tag, in ZYX order."""
    prefix = rows.tag_prefix(instance, tag)
    found = versioned.scan(txn, prefix, prefix + b"\xff" * 13, view)
    return [(key[-12:], text) for key, text in found]


def entries_of_label(
    txn: ReadTxn, instance: Instance, view: View, version: int, label: int
) -> list[Entry]:
    """Return the elements of a body, in ZYX order.

    Args:
        txn: the state to read.
        instance: the annotation.
        view: what is seen of it.
        version: ordinal of the version of the labels.
        label: the body.
    """
    svs = listed_members(txn, instance, version, label)
    found = list(entries_of_supervoxels(txn, instance.id, view, svs))
    if len(svs) > 1:
        found.sort()
    return found


def entries_of_supervoxels(txn: ReadTxn, instance: int, view: View, svs: Labels) -> Iterator[Entry]:
    """Iterate over the elements on some supervoxels, uint64[n] ascending.

    The cost follows the supervoxels that have elements, or that are asked for, whichever are fewer.
    Nothing else may seek in `txn` before the iteration ends.
    """
    head = instance_key(instance, LABELED)
    names = svs.astype(">u8").tobytes()
    wanted = [head + names[at : at + 8] for at in range(0, len(names), 8)]
    if not view.linear:
        yield from _entries_of_merge(txn, view, head, wanted)
        return
    seen: dict[bytes, bool] = {}
    done, place, n = b"", 0, len(wanted)
    row = txn.seek(wanted[0]) if n else None
    while row is not None and (key := row[0]).startswith(head):
        prefix = key[:LABEL_BYTES]
        if prefix != wanted[place]:
            # Between two of them: on to the first one that is not before this row.
            place = bisect_left(wanted, prefix, place)
            if place == n:
                return
            if prefix != wanted[place]:
                row = txn.seek(wanted[place])
                continue
        name, suffix = key[:-SUFFIX_BYTES], key[-SUFFIX_BYTES:]
        if name != done:
            visible = seen.get(suffix)
            if visible is None:
                version, sequence = split_suffix(suffix)
                visible = seen[suffix] = sequence <= view.bounds.get(version, -1)
            if visible:
                done = name
                if row[1]:
                    yield name[-12:], row[1]
        row = txn.next()


def _entries_of_merge(
    txn: ReadTxn, view: View, head: bytes, wanted: Sequence[bytes]
) -> Iterator[Entry]:
    """Iterate likewise below a version merge, where parents may disagree about an entry."""
    place = 0
    while place < len(wanted):
        row = txn.seek(wanted[place])
        if row is None or not row[0].startswith(head):
            return
        prefix = row[0][:LABEL_BYTES]
        if prefix == wanted[place]:
            for key, text in versioned.scan(txn, prefix, prefix + b"\xff" * 25, view):
                yield key[-12:], text
            place += 1
        else:
            place = bisect_left(wanted, prefix, place)


class Expander:
    """Finds the elements that lists and relationships name, in their blocks."""

    def __init__(self, txn: ReadTxn, instance: int, view: View, shape: Triple) -> None:
        """Look into the blocks of an annotation."""
        self._txn, self._instance, self._view = txn, instance, view
        self._shape = np.array(shape, np.int64)

    def find(self, points_zyx: Sequence[Triple]) -> list[Stored | None]:
        """Return the elements at places of their own blocks, None where there is none."""
        if not points_zyx:
            return []
        points = np.array(points_zyx, np.int64)
        blocks = (points // self._shape).astype(np.int32)
        keys = rows.element_keys(self._instance, blocks, points.astype(np.int32))
        found = read_known(self._txn, keys, self._view)
        return [None if value is None else rows.decode_element(value) for value in found]

    def full(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the elements of a list with their relationships, without those that are in no block."""
        found = self.find([rows.point_of(point) for point, _ in entries])
        return [stored.text for stored in found if stored is not None]

    def verbose(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Iterate over the elements of a list with what is known of their partners."""
        found = self.find([rows.point_of(point) for point, _ in entries])
        rels = [b"" if one is None else one.text[one.cut + len(RELS) : -1] for one in found]
        wanted: dict[bytes, Triple] = {}
        for text in rels:
            for match in _TO.finditer(text):
                name, x, y, z = match.groups()
                wanted[name] = (int(z), int(y), int(x))
        partners = zip(wanted, self.find(list(wanted.values())), strict=True)
        known = {
            name: b'"To":[' + name + b"]" + (b"" if one is None else _partner(one))
            for name, one in partners
        }
        for (_, plain), text in zip(entries, rels, strict=True):
            told = _TO.sub(lambda match: known[match[1]], text)
            yield plain[:-1] + RELS + (b"[]" if told in (b"", b"null") else told) + b"}"


def _partner(stored: Stored) -> bytes:
    """Return the fields of a partner, without those that are empty."""
    fields = stored.text[stored.text.index(b"]") + 1 : stored.cut]
    for nothing in (b',"Kind":"Unknown"', b',"Prop":{}', b',"Prop":null'):
        fields = fields.removeprefix(nothing).removesuffix(nothing)
    for nothing in (b',"Tags":[]', b',"Tags":null'):
        # Only between the kind and the properties: what looks like it in a text has a backslash.
        fields = fields.replace(nothing, b"", 1)
    return fields
