"""Counts of all labels as a table, for analytics."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from dvid_es.analytics.touched import Table
from dvid_es.datatypes.labelsz.reads import INDEX_TYPES, rank, sizes
from dvid_es.projections.catalog import Instance
from dvid_es.projections.elements import Moment
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

_SIZES = tuple(name for name, kinds in INDEX_TYPES.items() if kinds)


def _counts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[tuple[Any, ...]]:
    """Iterate over labels and their sizes: one page."""
    moment = Moment(view.version, view.sequence)
    ranking = rank(lambda: nullcontext(txn), instance, moment)
    columns = (sizes(ranking.counts, name).astype("u8") for name in _SIZES)
    yield (ranking.labels, *columns)


TABLES = {"counts": Table({"label": "u64"} | dict.fromkeys(_SIZES, "u64"), _counts)}
