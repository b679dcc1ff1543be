"""Which labels the events of the older label types touch, and which labels there are, for analytics."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

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
from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.datatypes.labelarray.reads import LabelReads
from dvid_es.events import Event
from dvid_es.feed.messages import Place
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

PAGE_LABELS = 100_000


def merges(events: Sequence[LabelsMerged], fetch: Fetch) -> Touched:
    """Return the targets, and the labels that were merged into them."""
    targets = column([event.target for event in events])
    merged = many_each("merged", [fetch(event.labels) for event in events])
    return Touched(targets, None, (one_each("target", targets), merged))


def splits(events: Sequence[LabelSplit], fetch: Fetch) -> Touched:
    """Return the labels that were split, and those that their voxels have now."""
    del fetch
    labels = column([event.label for event in events])
    new = column([event.new_label for event in events])
    return Touched(labels, None, (one_each("target", labels), one_each("new", new)))


TOUCHED: Mapping[type[Event], Describe] = {LabelsMerged: merges, LabelSplit: splits}

PLACED: Mapping[type[Event], Place] = {
    LabelsMerged: lambda event: (event.coords, 0),
    LabelSplit: lambda event: (event.coords, 0),
}


def _labels(
    txn: ReadTxn, instance: Instance, view: View
) -> Iterator[tuple[NDArray[np.uint64], ...]]:
    """Iterate over all labels with their voxels."""
    rows = LabelReads(txn, instance.id, view).listed(0, 1 << 62)
    while page := list(islice(rows, PAGE_LABELS)):
        labels = np.frombuffer(b"".join(label for label, _ in page), ">u8")
        voxels = np.frombuffer(b"".join(voxels for _, voxels in page), "<u8")
        yield labels.astype(np.uint64), voxels.astype(np.uint64)


TABLES = {"labels": Table({"label": "u64", "voxels": "u64"}, _labels)}
