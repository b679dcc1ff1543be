"""The spans of a region as a table, for analytics."""

from collections.abc import Iterator
from typing import Any

from dvid_es.analytics.touched import Table
from dvid_es.projections import regions
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def _spans(txn: ReadTxn, instance: Instance, view: View) -> Iterator[tuple[Any, ...]]:
    """Iterate over all spans: one page."""
    yield tuple(regions.read(txn, instance.id, view).T)


TABLES = {"spans": Table({"z": "i32", "y": "i32", "x0": "i32", "x1": "i32"}, _spans)}
