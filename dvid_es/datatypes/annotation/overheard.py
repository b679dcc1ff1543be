"""What DVID sends to Kafka about elements that come to other bodies: by edits of labels, by written voxels.

Bodies are those before and after the event. A long list of elements comes in several messages, each with a
part of it: reading all elements of a large body within the fold of a merge, to keep them as a blob, would
make merges as slow as bodies are large.

Source: the messages of datatype/annotation/sync.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dvid_es.codecs import gojson
from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.elements import read_element
from dvid_es.datatypes.annotation.following import Relabeled, listeners, relabeled, version_of
from dvid_es.datatypes.annotation.reads import entries_of_supervoxels
from dvid_es.events import Record
from dvid_es.projections.catalog import Instance
from dvid_es.projections.labels import SOURCES, TELL, Coords, Told
from dvid_es.projections.mutations import stamp
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

ELEMENTS_PER_MESSAGE = 4000
"""They take about half of the longest message."""


class Moved(NamedTuple):
    """An element, and the bodies that it came from and went to; 0 for none."""

    before: int
    after: int
    kind: str
    position: Sequence[int]
    """XYZ."""


def messages(record: Record, txn: ReadTxn) -> Iterator[tuple[int, str]]:
    """Iterate over annotations and what is told of their elements."""
    tell = TELL.get(type(record.event))
    number = record.header.instance
    if tell is None or txn.repo.instances[number].typename not in SOURCES:
        return
    listening = list(listeners(txn, number))
    told = tell(record, txn) if listening else None
    if told is None:
        return
    for instance in listening:
        for text in _texts(record, txn, instance, told):
            yield instance.id, text


def _texts(record: Record, txn: ReadTxn, instance: Instance, told: Told) -> Iterator[str]:
    view = txn.view(version_of(instance, record.header.version)).at(record.offset)
    if told.coords is None:
        yield from _messages(record, txn, told.action, list(_remapped(txn, instance, view, told)))
        return
    coords = np.frombuffer(txn.bulk(told.coords), "<i4").astype(np.int32).reshape(-1, 3)
    if told.action:
        found = _rewritten(record, txn, instance, coords, view)
        moved = [one for one in found if one.before != one.after]
        yield from _messages(record, txn, told.action, moved)
        return
    labels = txn.repo.instances[record.header.instance]
    before = txn.view(record.header.version).at(record.offset - 1)
    known = SOURCES[labels.typename].find_blocks(txn, labels, before, coords)
    for at, block in enumerate(known):
        found = _rewritten(record, txn, instance, coords[at : at + 1], view)
        action = "ingest-block" if block is None else "mutate-block"
        yield from _messages(record, txn, action, found)


def _remapped(txn: ReadTxn, instance: Instance, view: View, told: Told) -> Iterator[Moved]:
    """Iterate over the elements on supervoxels that are of other bodies now."""
    for before, after, svs in told.moved:
        for point, text in entries_of_supervoxels(txn, instance.id, view, svs):
            yield Moved(before, after, read_element(text).Kind, rows.point_of(point)[::-1])


def _rewritten(
    record: Record, txn: ReadTxn, instance: Instance, coords_zyx: Coords, view: View
) -> list[Moved]:
    """Return the elements in written blocks."""
    found = relabeled(txn, record, instance, coords_zyx, view)
    if not found:
        return []
    labels = txn.repo.instances[record.header.instance]
    source, seen = SOURCES[labels.typename], txn.view(record.header.version)
    old, new = (
        source.bodies(txn, labels, seen.at(bound), np.array(svs, np.uint64)).tolist()
        for bound, svs in (
            (record.offset - 1, [one.before for one in found]),
            (record.offset, [one.after for one in found]),
        )
    )
    return [_moved(one, a, b) for one, a, b in zip(found, old, new, strict=True)]


def _moved(one: Relabeled, before: int, after: int) -> Moved:
    return Moved(before, after, read_element(one.stored.text).Kind, one.point[::-1])


def _messages(record: Record, txn: ReadTxn, action: str, found: Sequence[Moved]) -> Iterator[str]:
    """Iterate over the messages that tell of some elements; none of none."""
    header = record.header
    fields: dict[str, Any] = {
        "Action": action,
        "UUID": txn.repo.graph.by_id[header.version].uuid,
        "Timestamp": stamp(record.time_ns),
    }
    if action != "ingest-block":
        fields["MutationID"] = header.mutation_id
    for part in _parts(found):
        added = [_place(one.after, one) for one in part if one.after]
        gone = [_place(one.before, one) for one in part if one.before]
        if action == "ingest-block":
            gone = []
        delta = {"Add": added or None, "Del": gone or None}
        # DVID sorts the names of the message, not those of the structs in it.
        yield gojson.dumps(dict(sorted({**fields, "Delta": delta}.items())))


def _parts(found: Sequence[Moved]) -> Iterator[Sequence[Moved]]:
    for start in range(0, len(found), ELEMENTS_PER_MESSAGE):
        yield found[start : start + ELEMENTS_PER_MESSAGE]


def _place(label: int, one: Moved) -> dict[str, Any]:
    return {"Label": label, "Kind": one.kind, "Pos": list(one.position)}
