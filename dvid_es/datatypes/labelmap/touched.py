"""Which labels the events of a labelmap touch, for analytics.

Voxel writes are not listed label by label: they touch most labels of the blocks that they write.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.analytics.touched import (
    Describe,
    Fetch,
    Table,
    Touched,
    column,
    many_each,
    one_each,
)
from dvid_es.codecs import labelindex
from dvid_es.datatypes.labelmap.bodies import bodyrow
from dvid_es.datatypes.labelmap.bodies.events import (
    Cleaved,
    IndicesPut,
    MappingsPosted,
    Merged,
    Renumbered,
)
from dvid_es.datatypes.labelmap.bodies.reads import BodyReads
from dvid_es.datatypes.labelmap.mapping import listing, runs
from dvid_es.datatypes.labelmap.splits.events import BodySplit, SupervoxelSplit
from dvid_es.datatypes.labelmap.undo.events import Redone, Reversal, Undone
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut
from dvid_es.events import Event
from dvid_es.feed.messages import Place
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

NO_ENTRY = np.uint64(2**64 - 1)
"""What a supervoxel without an entry in the mapping maps to, in events of undo."""

LISTED_RUN_BYTES = 16 << 20
"""Of a mapping with longer runs, about a million entries, the labels are not listed."""


def merges(events: Sequence[Merged], fetch: Fetch) -> Touched:
    """Return the targets, and the bodies that were merged into them."""
    targets = column([event.target for event in events])
    merged = many_each("merged", [fetch(event.bodies) for event in events])
    voxels = np.array([event.voxels for event in events], np.int64)
    return Touched(targets, voxels, (one_each("target", targets), merged))


def cleaves(events: Sequence[Cleaved], fetch: Fetch) -> Touched:
    """Return the bodies, the new ones, and the supervoxels that have left."""
    bodies = column([event.body for event in events])
    new = column([event.new_body for event in events])
    cleaved = many_each("cleaved", [fetch(event.supervoxels) for event in events])
    voxels = np.array([event.cleaved_voxels for event in events], np.int64)
    return Touched(bodies, voxels, (one_each("target", bodies), one_each("new", new), cleaved))


def renumberings(events: Sequence[Renumbered], fetch: Fetch) -> Touched:
    """Return the new labels, and the old ones that became them."""
    del fetch
    new = column([event.new for event in events])
    old = column([event.old for event in events])
    return Touched(new, None, (one_each("target", new), one_each("renumbered", old)))


def supervoxel_splits(events: Sequence[SupervoxelSplit], fetch: Fetch) -> Touched:
    """Return the bodies, the supervoxels that are no more, and both parts of each."""
    del fetch
    bodies = column([event.body for event in events])
    divided = column([event.supervoxel for event in events])
    parts = (
        one_each("target", bodies),
        one_each("divided", divided),
        one_each("split", column([event.split for event in events]), divided),
        one_each("remain", column([event.remain for event in events]), divided),
    )
    return Touched(bodies, np.array([event.split_voxels for event in events], np.int64), parts)


def body_splits(events: Sequence[BodySplit], fetch: Fetch) -> Touched:
    """Return the bodies, the new ones, the supervoxels that are no more, and both parts of each."""
    bodies = column([event.body for event in events])
    new = column([event.new_body for event in events])
    divided = many_each("divided", [fetch(event.supervoxels) for event in events])
    split = many_each("split", [fetch(event.splits) for event in events])
    remain = many_each("remain", [fetch(event.remains) for event in events])
    parts = (
        one_each("target", bodies),
        one_each("new", new),
        divided,
        split._replace(others=divided.labels),
        remain._replace(others=divided.labels),
    )
    return Touched(bodies, None, parts)


def mappings(events: Sequence[MappingsPosted], fetch: Fetch) -> Touched:
    """Return the supervoxels, and what each maps to; of a very large mapping only how large it is."""
    supervoxels, bodies, facts = [], [], {}
    for place, event in enumerate(events):
        svs, mapped = [fetch(event.supervoxels)], [fetch(event.bodies)]
        large = sum(ref.length for ref in event.runs) > LISTED_RUN_BYTES
        if large:
            facts[place] = {"runs": [ref.length for ref in event.runs]}
        for ref in () if large else event.runs:
            run = runs.open_run(0, 0, fetch(ref))
            svs.append(run.svs.astype("<u8").tobytes())
            mapped.append(run.bodies.astype("<u8").tobytes())
        supervoxels.append(b"".join(svs))
        bodies.append(b"".join(mapped))
    mapped_to = np.frombuffer(b"".join(bodies), "<u8").astype(np.uint64)
    rows = many_each("mapped", supervoxels)
    return Touched(None, None, (rows._replace(others=mapped_to),), facts)


def posted_indices(events: Sequence[IndicesPut], fetch: Fetch) -> Touched:
    """Return the bodies whose indices were set."""
    posted = []
    for event in events:
        labels = [index.label for index in labelindex.decode_all(fetch(event.indices))]
        posted.append(np.array(labels, "<u8").tobytes())
    return Touched(None, None, (many_each("posted", posted),))


def reversals(events: Sequence[Reversal], fetch: Fetch) -> Touched:
    """Return the bodies that an undo or redo changes, and the entries of the mapping."""
    bodies = [fetch(event.bodies) for event in events]
    first = [int.from_bytes(labels[:8], "little") for labels in bodies]
    mapped = [fetch(event.mapped) for event in events]
    entries = many_each("mapped", [fetch(event.supervoxels) for event in events])
    others = np.frombuffer(b"".join(mapped), "<u8").astype(np.uint64)
    rows = (
        many_each("target", [labels[:8] for labels in bodies]),
        many_each("changed", [labels[8:] for labels in bodies]),
        # An entry that is taken away leads nowhere.
        entries._replace(others=np.where(others == NO_ENTRY, np.uint64(0), others)),
    )
    facts = {
        place: {"sequence": event.sequence, "mutation": event.mutation, "action": event.action}
        for place, event in enumerate(events)
    }
    return Touched(column(first), None, rows, facts)


TOUCHED: Mapping[type[Event], Describe] = {
    Undone: reversals,
    Redone: reversals,
    Merged: merges,
    Cleaved: cleaves,
    Renumbered: renumberings,
    SupervoxelSplit: supervoxel_splits,
    BodySplit: body_splits,
    MappingsPosted: mappings,
    IndicesPut: posted_indices,
}


def _bodies(
    txn: ReadTxn, instance: Instance, view: View
) -> Iterator[tuple[NDArray[np.uint64], ...]]:
    """Iterate over all bodies with their voxels and numbers of supervoxels."""
    for labels, rows in BodyReads(txn, instance.id, view).pages():
        yield labels, *bodyrow.peek_many(rows)


def _mapping(
    txn: ReadTxn, instance: Instance, view: View
) -> Iterator[tuple[NDArray[np.uint64], ...]]:
    """Iterate over all entries of the mapping."""
    yield listing.all_entries(txn, instance.id, view)


TABLES = {
    "bodies": Table({"body": "u64", "voxels": "u64", "supervoxels": "u64"}, _bodies),
    "mapping": Table({"supervoxel": "u64", "body": "u64"}, _mapping),
}


PLACED: Mapping[type[Event], Place] = {
    BlocksPut: lambda event: (event.coords, event.scale),
    SupervoxelSplit: lambda event: (event.coords, 0),
    BodySplit: lambda event: (event.coords, 0),
    Undone: lambda event: (event.coords, 0),
    Redone: lambda event: (event.coords, 0),
}
