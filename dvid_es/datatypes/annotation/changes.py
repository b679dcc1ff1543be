"""What one event changes: elements in their blocks, lists, links; written at the end in order of keys."""

from collections.abc import Iterable, Iterator, Sequence

from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.elements import (
    points_to,
    read_element,
    tags_of,
    text_of,
)
from dvid_es.datatypes.annotation.rows import Stored
from dvid_es.datatypes.annotation.source import listed
from dvid_es.errors import VersionConflict
from dvid_es.events import Record
from dvid_es.geometry import Triple
from dvid_es.projections import journal, versioned
from dvid_es.projections.labels import Labels
from dvid_es.projections.temporal import read_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.projections.versioned import TOMBSTONE
from dvid_es.versions import View, row_suffix


class Block:
    """The elements of one block, as they are and as they will be."""

    def __init__(self, txn: ReadTxn, instance: int, view: View, block_zyx: Sequence[int]) -> None:
        """Read what a view sees of a block; what is in conflict there is left out."""
        self.prefix = rows.block_prefix(instance, block_zyx)
        found = versioned.scan(txn, self.prefix + b"\1", self.prefix + b"\2", view)
        self.elements = {key: rows.decode_element(value) for key, value in found}
        """By the keys of their rows."""

        self.changed: set[bytes] = set()
        """Keys of rows to be written."""

    def ordered(self) -> list[tuple[bytes, Stored]]:
        """Return keys and elements in the order of the block."""
        return sorted(self.elements.items(), key=lambda item: item[1].order)

    def at(self, point: bytes) -> list[tuple[bytes, Stored]]:
        """Return the elements at one place, in the order of the block."""
        start = rows.element_key(self.prefix, point)[:-2]
        found = [(key, one) for key, one in self.elements.items() if key[:-2] == start]
        return sorted(found, key=lambda item: item[1].order)

    def put(self, key: bytes, stored: Stored) -> None:
        """Write an element."""
        self.elements[key] = stored
        self.changed.add(key)

    def drop(self, key: bytes) -> None:
        """Delete an element; the last one of the block takes its place in the order, as in DVID."""
        gone = self.elements.pop(key)
        self.changed.add(key)
        if self.elements:
            last = max(self.elements, key=lambda other: self.elements[other].order)
            if self.elements[last].order > gone.order:
                self.put(last, self.elements[last]._replace(order=gone.order))

    def written(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the rows that change."""
        for key in self.changed:
            stored = self.elements.get(key)
            yield key, TOMBSTONE if stored is None else rows.encode_element(*stored)


class Changes:
    """The rows that one event writes to one instance."""

    def __init__(self, txn: WriteTxn, record: Record, instance: int, version: int) -> None:
        """Change `instance` at `version`, which may be others than those of the event."""
        self.txn = txn
        self.instance = instance
        self.version = version
        self.sequence = record.offset
        self.view = txn.view(version)
        self.rows: dict[bytes, bytes] = {}
        """Keys without their suffix, and values."""

        self._blocks: dict[bytes, Block] = {}
        self._hints: set[bytes] = set()

    def block(self, block_zyx: Sequence[int]) -> Block:
        """Return a block, the same one each time."""
        name = rows.point_bytes(block_zyx)
        found = self._blocks.get(name)
        if found is None:
            found = self._blocks[name] = Block(self.txn, self.instance, self.view, block_zyx)
        return found

    def exists(self, block_zyx: Sequence[int], flags: int = rows.LISTED) -> None:
        """Have a block be there, if only as an empty list."""
        key = rows.block_key(rows.block_prefix(self.instance, block_zyx))
        self.rows[key] = bytes((flags,))

    def flags(self, block_zyx: Sequence[int]) -> int:
        """Return what is known of a block; 0 if it is not there."""
        key = rows.block_key(rows.block_prefix(self.instance, block_zyx))
        return flags_of(self.txn, key, self.view)

    def label(self, supervoxel: int, point: bytes, text: bytes) -> None:
        """List an element on a supervoxel; an empty text takes it off."""
        if supervoxel:
            self.rows[rows.label_prefix(self.instance, supervoxel) + point] = text

    def tag(self, tag: str, point: bytes, text: bytes) -> None:
        """List an element under a tag; an empty text takes it off."""
        self.rows[rows.tag_prefix(self.instance, tag) + point] = text

    def untag(self, text: bytes, point: bytes) -> None:
        """Take an element off the lists of all its tags."""
        for tag in tags_of(text):
            self.tag(tag, point, TOMBSTONE)

    def link(self, block: bytes, point: bytes) -> None:
        """Note that a block has relationships to a place in another one."""
        self._hints.add(rows.link_prefix(self.instance, point) + block)

    def alias(self, svs: Labels, version: int) -> None:
        """Note which supervoxels are mapped to bodies that do not have them.

        Args:
            svs: uint64[n]: those that elements are listed on.
            version: ordinal of the version of the labels.
        """
        found = listed(self.txn, self.txn.repo.instances[self.instance], version)
        for body, sv in found.mapped(svs) if found is not None else ():
            self._hints.add(rows.alias_prefix(self.instance, body) + sv.to_bytes(8, "big"))

    def linked(self, point: bytes) -> list[Triple]:
        """Return the blocks that have, or had, relationships to a place, besides that of the place."""
        prefix = rows.link_prefix(self.instance, point)
        found = self.txn.scan(prefix, prefix + b"\xff" * 13)
        return [rows.point_of(key, len(prefix)) for key, _ in found]

    def redirect(
        self, blocks: Iterable[Triple], source: Triple, target: Triple | None
    ) -> list[Triple]:
        """Have relationships to a place lead to another one, or drop them; return blocks that had some.

        Args:
            blocks: where to look, ZYX.
            source: XYZ.
            target: XYZ; None to drop them.
        """
        found: list[Triple] = []
        for block_zyx in blocks:
            block = self.block(block_zyx)
            for key, stored in list(block.elements.items()):
                if not points_to(stored.text, source):
                    continue
                element = read_element(stored.text)
                rels = element.Rels or []
                if target is None:
                    element.Rels = [rel for rel in rels if rel.To != source]
                else:
                    for rel in rels:
                        rel.To = target if rel.To == source else rel.To
                text, cut = text_of(element)
                block.put(key, Stored(stored.order, cut, text))
                if found[-1:] != [block_zyx]:
                    found.append(block_zyx)
        return found

    def leave_out_known(self) -> None:
        """Leave out rows that say what is there already."""
        keys = list(self.rows)
        for key, value in zip(keys, read_known(self.txn, keys, self.view), strict=True):
            if self.rows[key] == (value or TOMBSTONE):
                del self.rows[key]

    def write(self) -> None:
        """Write all rows."""
        for block in self._blocks.values():
            self.rows.update(block.written())
        suffix = row_suffix(self.version, self.sequence)
        self.txn.put_many(sorted(self.rows.items()), suffix)
        svs = {key[5:13] for key in self.rows if key[4] == rows.LABELED}
        note_lists(self.txn, self.instance, self.version, self.sequence, svs)
        for key in sorted(self._hints):
            self.txn.put(key, b"\1")


def note_lists(txn: WriteTxn, instance: int, version: int, sequence: int, svs: set[bytes]) -> None:
    """Note which supervoxels' lists an event has changed: supervoxels as keys hold them."""
    if svs:
        data = b"".join(sorted(svs))
        journal.add(txn, rows.journal_prefix(instance), version, sequence, data)


def read_known(txn: ReadTxn, keys: Sequence[bytes], view: View) -> list[bytes | None]:
    """Return the values of rows, None for those that are not there or in conflict."""
    try:
        return read_many(txn, keys, view)
    except VersionConflict:
        found: list[bytes | None] = []
        for key in keys:
            try:
                found.append(versioned.read(txn, key, view))
            except VersionConflict:
                found.append(None)
        return found


def wanted_lists(
    txn: ReadTxn, instance: int, view: View, found: Iterable[tuple[bytes, Stored, int]]
) -> dict[bytes, bytes]:
    """Return the rows of lists that elements need and that are not there, or say something else.

    Args:
        txn: the state to read.
        instance: the annotation.
        view: what it sees.
        found: of each element the key, itself, and the supervoxel under it; 0 for none.
    """
    wanted: dict[bytes, bytes] = {}
    for key, stored, sv in found:
        point, plain = key[-14:-2], stored.plain
        if sv:
            wanted[rows.label_prefix(instance, sv) + point] = plain
        for tag in tags_of(plain):
            wanted[rows.tag_prefix(instance, tag) + point] = plain
    keys = list(wanted)
    for key, value in zip(keys, read_known(txn, keys, view), strict=True):
        if value == wanted[key]:
            del wanted[key]
    return wanted


def flags_of(txn: ReadTxn, key: bytes, view: View) -> int:
    """Return what the row of a block says; 0 if there is none."""
    try:
        value = versioned.read(txn, key, view)
    except VersionConflict:
        return rows.LISTED
    return value[0] if value else 0
