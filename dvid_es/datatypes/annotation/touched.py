"""What events of annotations touch, where they are, and the elements as a table; see analytics."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from dvid_es.analytics.touched import (
    Describe,
    Fetch,
    Rows,
    Table,
    Touched,
    column,
    many_each,
    one_each,
)
from dvid_es.datatypes.annotation.elements import read_element
from dvid_es.datatypes.annotation.events import (
    BlocksReplaced,
    ElementDeleted,
    ElementMoved,
    ElementsPut,
    LabelsListed,
)
from dvid_es.datatypes.annotation.reads import blocks_in
from dvid_es.events import Bulk, Event
from dvid_es.feed.messages import Place
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

PAGE_ELEMENTS = 4096

VOXELS = 0
"""Scale at which elements are placed: annotations have no blocks of their own, so a block is a voxel."""


def _put(events: Sequence[ElementsPut], fetch: Fetch) -> Touched:
    return Touched(
        rows=(many_each("annotated", [_distinct(fetch(e.supervoxels)) for e in events]),)
    )


def _listed(events: Sequence[LabelsListed], fetch: Fetch) -> Touched:
    return Touched(rows=(many_each("listed", [_distinct(fetch(e.labels)) for e in events]),))


def _distinct(labels: bytes) -> bytes:
    found = np.unique(np.frombuffer(labels, "<u8"))
    return found[found != 0].astype("<u8").tobytes()


def _deleted(events: Sequence[ElementDeleted], fetch: Fetch) -> Touched:
    return Touched(rows=(_present("deleted", [event.supervoxel for event in events]),))


def _moved(events: Sequence[ElementMoved], fetch: Fetch) -> Touched:
    return Touched(
        rows=(
            _present("moved-from", [event.source_supervoxel for event in events]),
            _present("moved-to", [event.target_supervoxel for event in events]),
        )
    )


def _present(role: str, svs: Sequence[int]) -> Rows:
    """Return rows of one supervoxel for each event, without those that have none."""
    rows = one_each(role, column(svs))
    there = rows.labels != 0
    return Rows(role, rows.events[there], rows.labels[there])


TOUCHED: Mapping[type[Event], Describe] = {
    ElementsPut: _put,
    LabelsListed: _listed,
    ElementDeleted: _deleted,
    ElementMoved: _moved,
}


# -- places ------------------------------------------------------------------------------------


def _points(event: ElementsPut | BlocksReplaced) -> tuple[Bulk, int]:
    return event.points, VOXELS


def _point(event: ElementDeleted) -> tuple[Bulk, int]:
    return np.array(event.point, "<i4").tobytes(), VOXELS


def _two_points(event: ElementMoved) -> tuple[Bulk, int]:
    return np.array([event.source, event.target], "<i4").tobytes(), VOXELS


PLACED: Mapping[type[Event], Place] = {
    ElementsPut: _points,
    BlocksReplaced: _points,
    ElementDeleted: _point,
    ElementMoved: _two_points,
}


# -- tables ------------------------------------------------------------------------------------


def _elements(txn: ReadTxn, instance: Instance, view: View) -> Iterator[tuple[Any, ...]]:
    """Iterate over places "x,y,z", kinds, and tags, properties and relationships as JSON."""
    found = (
        read_element(stored.text)
        for listing in blocks_in(txn, instance.id, view, None)
        for _, stored in listing.elements
    )
    while page := list(islice(found, PAGE_ELEMENTS)):
        yield (
            [",".join(map(str, element.Pos)) for element in page],
            [element.Kind for element in page],
            [_json(element.Tags or []) for element in page],
            [_json(element.Prop or {}) for element in page],
            [_json(element.Rels or []) for element in page],
        )


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


TABLES = {
    "elements": Table(
        {"pos": "text", "kind": "text", "tags": "text", "prop": "text", "rels": "text"}, _elements
    )
}
