"""How events of annotations change rows: elements in blocks, lists of labels and tags, links."""

from collections.abc import Sequence

import numpy as np

from dvid_es.datatypes.annotation import elements as texts
from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.changes import (
    Changes,
    flags_of,
    note_lists,
    read_known,
    wanted_lists,
)
from dvid_es.datatypes.annotation.events import (
    AllDeleted,
    BlocksIndexed,
    BlocksReplaced,
    ElementDeleted,
    ElementMoved,
    ElementsPut,
    LabelsListed,
    ListsCorrected,
    RowsSettled,
)
from dvid_es.datatypes.annotation.rows import Coords, Stored
from dvid_es.datatypes.annotation.source import listed_members
from dvid_es.events import Bulk, Event, Record
from dvid_es.geometry import Triple
from dvid_es.projections import blobs, versioned
from dvid_es.projections.fold import Fold
from dvid_es.projections.temporal import big_endian
from dvid_es.projections.txn import WriteTxn
from dvid_es.projections.versioned import TOMBSTONE
from dvid_es.versions import row_suffix

NULL_COUNT = 0xFFFFFFFF
"""In place of the number of elements of a block that was posted as null."""


def changes_of(txn: WriteTxn, record: Record) -> Changes:
    """Return the changes that an event makes to its own instance."""
    return Changes(txn, record, record.header.instance, record.header.version)


def block_of(point_zyx: Sequence[int], shape: Triple) -> Triple:
    """Return the block of a voxel."""
    z, y, x = point_zyx
    return z // shape[0], y // shape[1], x // shape[2]


def coords_of(txn: WriteTxn, bulk: Bulk) -> Coords:
    """Return coordinates int32[n, 3] of an event."""
    return np.frombuffer(txn.bulk(bulk), "<i4").astype(np.int32).reshape(-1, 3)


def _keep_posted(txn: WriteTxn, event: ElementsPut | BlocksReplaced) -> None:
    if event.posted:
        blobs.put(txn, event.posted)


def _put_links(changes: Changes, txn: WriteTxn, links: Bulk) -> None:
    pairs = coords_of(txn, links).reshape(-1, 2, 3)
    names = big_endian(pairs.reshape(-1, 3)).tobytes()
    for at in range(0, len(names), 24):
        changes.link(names[at : at + 12], names[at + 12 : at + 24])


# -- single elements ----------------------------------------------------------------------------


def fold_elements_put(txn: WriteTxn, record: Record) -> None:
    """Write elements and what follows from them."""
    event = record.event
    assert isinstance(event, ElementsPut)
    changes = changes_of(txn, record)
    packed = texts.unpack(txn.bulk(event.points), txn.bulk(event.elements))
    points = packed.points_zyx
    blocks = points // np.array(event.block, np.int32)
    supervoxels = np.frombuffer(txn.bulk(event.supervoxels), "<u8")
    svs = supervoxels.tolist()
    changes.alias(supervoxels, event.version)
    keys = rows.element_keys(changes.instance, blocks, points)
    there = read_known(txn, keys, changes.view)
    names = big_endian(points).tobytes()
    known: set[bytes] = set()
    for number, (key, text, cut, sv, value) in enumerate(
        zip(keys, packed.texts, packed.cuts, svs, there, strict=True)
    ):
        point = names[12 * number : 12 * number + 12]
        plain = text[:cut] + b"}"
        if value is None:
            prefix = key[: rows.BLOCK_BYTES]
            if prefix not in known:
                known.add(prefix)
                _have_block(changes, prefix)
            order, before = (record.offset, number), set[str]()
            text, cut = texts.without_nulls(text, cut)
        else:
            key, stored = _last_copy(changes, key, value)
            order, before = stored.order, set(texts.tags_of(stored.text))
        changes.rows[key] = rows.encode_element(order, cut, text)
        changes.label(sv, point, plain)
        tags = texts.tags_of(text)
        for tag in before.difference(tags):
            changes.tag(tag, point, TOMBSTONE)
        for tag in tags:
            # What is new in a list has empty values in place of nulls, as in DVID.
            changes.tag(tag, point, plain if tag in before else _filled(plain))
    _put_links(changes, txn, event.links)
    changes.write()
    _keep_posted(txn, event)


def _filled(plain: bytes) -> bytes:
    return texts.without_nulls(plain.replace(b',"Prop":null}', b',"Prop":{}}'), 0)[0]


def _have_block(changes: Changes, prefix: bytes) -> None:
    key = rows.block_key(prefix)
    if flags_of(changes.txn, key, changes.view) != rows.LISTED:
        changes.rows[key] = bytes((rows.LISTED,))


def _last_copy(changes: Changes, key: bytes, value: bytes) -> tuple[bytes, Stored]:
    """Return the last of the elements at one place: only posted blocks have several."""
    stored, copy = rows.decode_element(value), 1
    while True:
        following = key[:-2] + copy.to_bytes(2, "big")
        (more,) = read_known(changes.txn, [following], changes.view)
        if more is None:
            return key, stored
        key, stored, copy = following, rows.decode_element(more), copy + 1


def fold_element_deleted(txn: WriteTxn, record: Record) -> None:
    """Delete an element, its entries in lists, and relationships to it."""
    event = record.event
    assert isinstance(event, ElementDeleted)
    changes = changes_of(txn, record)
    point, block_zyx = rows.point_bytes(event.point), block_of(event.point, event.block)
    block = changes.block(block_zyx)
    key, stored = block.at(point)[0]
    block.drop(key)
    z, y, x = event.point
    near = {block_zyx, *changes.linked(point)}
    changes.redirect(sorted(near), (x, y, z), None)
    changes.untag(stored.text, point)
    changes.label(event.supervoxel, point, TOMBSTONE)
    changes.write()


def fold_element_moved(txn: WriteTxn, record: Record) -> None:
    """Move an element; its entries in lists and relationships to it follow."""
    event = record.event
    assert isinstance(event, ElementMoved)
    changes = changes_of(txn, record)
    shape = event.block
    source, target = rows.point_bytes(event.source), rows.point_bytes(event.target)
    from_zyx, to_zyx = block_of(event.source, shape), block_of(event.target, shape)
    old, new = changes.block(from_zyx), changes.block(to_zyx)
    key, stored = old.at(source)[0]
    occupied = new.at(target)
    changes.untag(stored.text, source)
    for _, other in occupied:
        changes.untag(other.text, target)
    order = stored.order
    if old is new:
        old.elements.pop(key)
        old.changed.add(key)
    else:
        old.drop(key)
        order = occupied[-1][1].order if occupied else (record.offset, 0)
    for other_key, _ in occupied:
        new.elements.pop(other_key)
        new.changed.add(other_key)
    element = texts.read_element(stored.text)
    z, y, x = event.target
    element.Pos = (x, y, z)
    text, cut = texts.text_of(element)
    if old is not new:
        text, cut = texts.without_nulls(text, cut)  # as DVID does, in a block that it comes to
    new_key = rows.element_key(new.prefix, target)
    new.put(new_key, Stored(order, cut, text))
    if changes.flags(to_zyx) != rows.LISTED:
        changes.exists(to_zyx)
    _move_relationships(changes, event, element)
    plain = new.elements[new_key].plain
    for tag in texts.tags_of(plain):
        changes.tag(tag, target, plain)
    if event.labeled:
        changes.label(event.source_supervoxel, source, TOMBSTONE)
        changes.label(event.target_supervoxel, target, _filled(plain))
        changes.alias(np.array([event.target_supervoxel], np.uint64), event.version)
    changes.write()


def _move_relationships(changes: Changes, event: ElementMoved, element: texts.Element) -> None:
    """Have relationships follow a moved element, and note which ones lead where now."""
    source, target = rows.point_bytes(event.source), rows.point_bytes(event.target)
    from_zyx, to_zyx = block_of(event.source, event.block), block_of(event.target, event.block)
    near = {from_zyx, to_zyx, *changes.linked(source)}
    (z, y, x), (z1, y1, x1) = event.source, event.target
    for block_zyx in changes.redirect(sorted(near), (x, y, z), (x1, y1, z1)):
        if block_zyx != to_zyx:
            changes.link(rows.point_bytes(block_zyx), target)
    for rel in element.Rels or ():
        other = rel.To[::-1]
        if block_of(other, event.block) != to_zyx:
            changes.link(rows.point_bytes(to_zyx), rows.point_bytes(other))


# -- blocks and lists ---------------------------------------------------------------------------


def fold_blocks_replaced(txn: WriteTxn, record: Record) -> None:
    """Give blocks other lists of elements, as they were sent."""
    event = record.event
    assert isinstance(event, BlocksReplaced)
    changes = changes_of(txn, record)
    packed = texts.unpack(txn.bulk(event.points), txn.bulk(event.elements))
    names = big_endian(packed.points_zyx).tobytes()
    counts = np.frombuffer(txn.bulk(event.counts), "<u4").tolist()
    coords = coords_of(txn, event.blocks)
    keys = rows.block_keys(changes.instance, coords)
    starts = [key[:-1] + b"\1" for key in keys]
    known = read_known(txn, keys, changes.view)
    number = 0
    for key, start, flags, row, count in zip(
        keys, starts, known, txn.seek_many(starts, b""), counts, strict=True
    ):
        is_null = count == NULL_COUNT
        wanted = bytes((rows.NULL if is_null else rows.LISTED,))
        if flags != wanted:
            changes.rows[key] = wanted
        if row is not None:
            _drop_under(changes, start)
        copies: dict[bytes, int] = {}
        for at in range(number, number + (0 if is_null else count)):
            point = names[12 * at : 12 * at + 12]
            copy = copies.get(point, 0)
            copies[point] = copy + 1
            element = start + point + copy.to_bytes(2, "big")
            order = (record.offset, at)
            changes.rows[element] = rows.encode_element(order, packed.cuts[at], packed.texts[at])
        number += 0 if is_null else count
    _put_links(changes, txn, event.links)
    changes.write()
    _keep_posted(txn, event)


def fold_labels_listed(txn: WriteTxn, record: Record) -> None:
    """Give labels other lists."""
    event = record.event
    assert isinstance(event, LabelsListed)
    changes = changes_of(txn, record)
    packed = texts.unpack(txn.bulk(event.points), txn.bulk(event.elements))
    names = big_endian(packed.points_zyx).tobytes()
    svs = np.frombuffer(txn.bulk(event.supervoxels), "<u8").tolist()
    counts = np.frombuffer(txn.bulk(event.counts), "<u4").tolist()
    labels = np.frombuffer(txn.bulk(event.labels), "<u8").tolist()
    instance = txn.repo.instances[changes.instance]
    number = 0
    for label, count in zip(labels, counts, strict=True):
        for sv in listed_members(txn, instance, event.version, label).tolist():
            _drop_under(changes, rows.label_prefix(changes.instance, sv))
        for at in range(number, number + count):
            text, cut = packed.texts[at], packed.cuts[at]
            changes.label(svs[at], names[12 * at : 12 * at + 12], text[:cut] + b"}")
        number += count
    changes.write()


def _drop_under(changes: Changes, prefix: bytes) -> None:
    """Drop all entries whose keys begin with a prefix, those in conflict too."""
    stop = prefix + b"\xff" * 32
    for key, _ in versioned.scan(changes.txn, prefix, stop, changes.view):
        changes.rows[key] = TOMBSTONE
    for conflict in versioned.conflicts(changes.txn, prefix, stop, changes.view):
        changes.rows[conflict.key] = TOMBSTONE


def fold_blocks_indexed(txn: WriteTxn, record: Record) -> None:
    """List the elements of some blocks by label and tag, where the lists say anything else."""
    event = record.event
    assert isinstance(event, BlocksIndexed)
    changes = changes_of(txn, record)
    supervoxels = np.frombuffer(txn.bulk(event.supervoxels), "<u8")
    svs = supervoxels.tolist()
    changes.alias(supervoxels, event.version)
    found = [
        (key, stored)
        for block_zyx in coords_of(txn, event.blocks).tolist()
        for key, stored in changes.block(block_zyx).elements.items()
    ]
    pairs = ((key, stored, sv) for (key, stored), sv in zip(found, svs, strict=True))
    changes.rows.update(wanted_lists(txn, changes.instance, changes.view, pairs))
    changes.write()


def fold_lists_corrected(txn: WriteTxn, record: Record) -> None:
    """Drop entries of lists."""
    event = record.event
    assert isinstance(event, ListsCorrected)
    changes = changes_of(txn, record)
    labeled = txn.bulk(event.labeled)
    for at in range(0, len(labeled), 20):
        sv = int.from_bytes(labeled[at : at + 8], "big")
        changes.label(sv, labeled[at + 8 : at + 20], TOMBSTONE)
    for tag, point in event.tagged:
        changes.tag(tag, rows.point_bytes(point), TOMBSTONE)
    changes.write()


def fold_all_deleted(txn: WriteTxn, record: Record) -> None:
    """Delete everything that a version sees."""
    changes = changes_of(txn, record)
    for kind in (rows.ELEMENTS, rows.LABELED, rows.TAGGED):
        _drop_under(changes, rows.instance_key(changes.instance, kind))
    changes.write()


def fold_rows_settled(txn: WriteTxn, record: Record) -> None:
    """Write what was chosen."""
    event = record.event
    assert isinstance(event, RowsSettled)
    header = record.header
    own = header.instance.to_bytes(4, "big")
    suffix = row_suffix(header.version, record.offset)
    txn.put_many(sorted((own + key, value) for key, value in event.rows), suffix)
    svs = {key[1:9] for key, _ in event.rows if key[0] == rows.LABELED}
    note_lists(txn, header.instance, header.version, record.offset, svs)


FOLDS: dict[type[Event], Fold] = {
    ElementsPut: fold_elements_put,
    ElementDeleted: fold_element_deleted,
    ElementMoved: fold_element_moved,
    BlocksReplaced: fold_blocks_replaced,
    LabelsListed: fold_labels_listed,
    BlocksIndexed: fold_blocks_indexed,
    ListsCorrected: fold_lists_corrected,
    AllDeleted: fold_all_deleted,
    RowsSettled: fold_rows_settled,
}
