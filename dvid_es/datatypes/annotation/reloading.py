"""Lists of labels and tags made again from the elements, a few blocks with each event.

What lists say already stays, so that a reload of lists that are right writes nothing. Others read and
write meanwhile.

Source: RecreateDenormalizations in datatype/annotation/denormalizations.go (janelia-flyem/dvid), which
deletes all lists, answers at once, and refuses to write until it is through.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.annotation import reads, rows
from dvid_es.datatypes.annotation.changes import Block, read_known, wanted_lists
from dvid_es.datatypes.annotation.commands import UnderPoints
from dvid_es.datatypes.annotation.elements import tags_of
from dvid_es.datatypes.annotation.events import BlocksIndexed, ListsCorrected
from dvid_es.datatypes.annotation.source import block_shape, followed, listed
from dvid_es.geometry import Triple
from dvid_es.http.node import NodeRequest
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

ELEMENTS_AT_ONCE = 1000
"""Elements that one event lists, more or less: blocks are not divided."""

ENTRIES_AT_ONCE = 1000


# -- elements that are not listed --------------------------------------------------------------


def _own_elements(
    txn: ReadTxn, instance: int, view: View, coords_zyx: list[Triple]
) -> list[tuple[bytes, rows.Stored]]:
    """Return keys and elements of blocks, in the order of keys, as folds meet them."""
    return [
        pair
        for block_zyx in coords_zyx
        for pair in Block(txn, instance, view, block_zyx).elements.items()
    ]


def _points(found: list[tuple[bytes, rows.Stored]]) -> np.ndarray:
    return np.array([rows.point_of(key[-14:-2]) for key, _ in found], np.int64).reshape(-1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexBlocks:
    """List the elements of some blocks."""

    coords_zyx: list[Triple]
    under: UnderPoints

    def decide(self, context: Context) -> Decision:
        """Return the event; none if the lists have all of them."""
        instance = fixed_instance(context)
        found = _own_elements(context.txn, instance.id, context.view, self.coords_zyx)
        under, points = self.under, _points(found)
        if not np.array_equal(points, under.points_zyx):
            under = UnderPoints(points, under.version)
        svs = under.settled(context.txn, instance)
        on_supervoxels = (
            (key, stored, sv) for (key, stored), sv in zip(found, svs.tolist(), strict=True)
        )
        lists = listed(context.txn, instance, under.version)
        mapped = lists.mapped(svs) if lists is not None else []
        if not mapped and not wanted_lists(context.txn, instance.id, context.view, on_supervoxels):
            return Decision(())
        event = BlocksIndexed(
            blocks=np.array(self.coords_zyx, "<i4").tobytes(),
            supervoxels=svs.astype("<u8").tobytes(),
            version=under.version,
        )
        return Decision((Outcome(event=event),))


# -- entries without an element ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectLists:
    """Drop entries of lists that no element stands behind."""

    labeled: list[bytes]
    """Supervoxel and place of each, as keys hold them."""

    tagged: list[tuple[str, bytes]]
    """Tag and place of each."""

    version: int
    """Ordinal of the version addressed."""

    def decide(self, context: Context) -> Decision:
        """Return the event for those entries of which it is still so; none if there are none."""
        instance = fixed_instance(context)
        txn, view = context.txn, context.view
        labeled = wrong_labels(txn, instance, view, self.version, self.labeled)
        tagged = wrong_tags(txn, instance, view, self.tagged)
        if not labeled and not tagged:
            return Decision(())
        places = tuple((tag, rows.point_of(point)) for tag, point in tagged)
        event = ListsCorrected(labeled=b"".join(labeled), tagged=places)
        return Decision((Outcome(event=event),))


def wrong_labels(
    txn: ReadTxn, instance: Instance, view: View, version: int, entries: list[bytes]
) -> list[bytes]:
    """Return those entries that are there, but no element of whose place, or on another supervoxel."""
    prefix = instance_key(instance.id, rows.LABELED)
    there = read_known(txn, [prefix + entry for entry in entries], view)
    entries = [entry for entry, value in zip(entries, there, strict=True) if value is not None]
    points = [rows.point_of(entry, 8) for entry in entries]
    shape = block_shape(txn.repo, instance)
    found = reads.Expander(txn, instance.id, view, shape).find(points)
    under = UnderPoints(np.array(points, np.int64).reshape(-1, 3), version)
    svs = under.settled(txn, instance).tolist()
    return [
        entry
        for entry, stored, sv in zip(entries, found, svs, strict=True)
        if stored is None or int.from_bytes(entry[:8], "big") != sv
    ]


def wrong_tags(
    txn: ReadTxn, instance: Instance, view: View, entries: list[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """Return those entries that are there, but no element of whose place has the tag."""
    keys = [rows.tag_prefix(instance.id, tag) + point for tag, point in entries]
    there = read_known(txn, keys, view)
    entries = [entry for entry, value in zip(entries, there, strict=True) if value is not None]
    shape = block_shape(txn.repo, instance)
    points = [rows.point_of(point) for _, point in entries]
    found = reads.Expander(txn, instance.id, view, shape).find(points)
    return [
        (tag, point)
        for (tag, point), stored in zip(entries, found, strict=True)
        if stored is None or tag not in tags_of(stored.text)
    ]


# -- walking -----------------------------------------------------------------------------------


def _next_entries(
    txn: ReadTxn, instance: int, view: View, kind: int, after: bytes
) -> list[tuple[bytes, bytes]]:
    """Return keys and texts of the entries of one kind of list behind a key."""
    head = instance_key(instance, kind)
    start = after + b"\xff" * 12 if after else head
    found = []
    for key, text in versioned.scan(txn, start, instance_key(instance, kind + 1), view):
        found.append((key, text))
        if len(found) == ENTRIES_AT_ONCE:
            break
    return found


def _tags_listed(instance: int, key: bytes, text: bytes) -> Iterator[tuple[str, bytes]]:
    """Iterate over the tag of an entry: a key may hold only a part of it, the copied element has it."""
    point = key[-12:]
    for tag in tags_of(text):
        if rows.tag_prefix(instance, tag) + point == key:
            yield tag, point
            return


def _next_blocks(
    txn: ReadTxn, instance: int, view: View, after: Triple | None
) -> tuple[list[Triple], list[tuple[bytes, rows.Stored]]]:
    """Return the next blocks and their elements."""
    coords: list[Triple] = []
    count = 0
    for listing in reads.blocks_in(txn, instance, view, None, after):
        coords.append(listing.block_zyx)
        count += len(listing.elements)
        if count >= ELEMENTS_AT_ONCE or len(coords) >= ELEMENTS_AT_ONCE:
            break
    return coords, _own_elements(txn, instance, view, coords)


async def reload(request: NodeRequest, *, check: bool) -> None:
    """Make the lists of a version right, part by part.

    Args:
        request: to an instance at a version.
        check: without labels to follow, leave the lists of labels as they are, as DVID does.
    """
    instance, version = request.instance, request.version.id
    labels = followed(request.txn.repo, instance)
    kinds = (rows.TAGGED,) if check and labels is None else (rows.LABELED, rows.TAGGED)
    for kind in kinds:
        await _correct(request, kind, version)
    last: Triple | None = None
    while True:

        def prepare(after: Triple | None = last) -> tuple[list[Triple], UnderPoints]:
            txn, view = request.txn, request.view
            coords, found = _next_blocks(txn, instance.id, view, after)
            return coords, UnderPoints.look(txn, instance, version, _points(found))

        coords, under = await request.in_thread(prepare)
        request.finish()
        if not coords:
            return
        last = coords[-1]
        await _write(request, IndexBlocks(coords_zyx=coords, under=under))


async def _write(request: NodeRequest, command: IndexBlocks | CorrectLists) -> None:
    # A repeated reload does again what is left to do, so a key of it means nothing.
    await request.write(command, keyed=False)


async def _correct(request: NodeRequest, kind: int, version: int) -> None:
    """Drop entries of one kind of list that no element stands behind."""
    instance, after = request.instance, b""
    while True:

        def prepare(after: bytes = after) -> tuple[bytes, list[bytes], list[tuple[str, bytes]]]:
            txn, view = request.txn, request.view
            found = _next_entries(txn, instance.id, view, kind, after)
            if not found:
                return b"", [], []
            last = found[-1][0]
            if kind == rows.LABELED:
                entries = [key[5:] for key, _ in found]
                return last, wrong_labels(txn, instance, view, version, entries), []
            tagged = [one for pair in found for one in _tags_listed(instance.id, *pair)]
            return last, [], wrong_tags(txn, instance, view, tagged)

        after, labeled, tagged = await request.in_thread(prepare)
        request.finish()
        if not after:
            return
        if labeled or tagged:
            command = CorrectLists(labeled=labeled, tagged=tagged, version=version)
            await _write(request, command)
