"""Which supervoxels the events of a tarsupervoxels instance touch, and its blobs as a table."""

from collections.abc import Iterator, Mapping, Sequence

from dvid_es.analytics.touched import Describe, Fetch, Labels, Table, Touched, column, many_each
from dvid_es.datatypes.tarsupervoxels.events import BlobsDeleted, BlobsPut
from dvid_es.datatypes.tarsupervoxels.reads import pages
from dvid_es.events import Event
from dvid_es.projections import bulkrow
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def puts(events: Sequence[BlobsPut], fetch: Fetch) -> Touched:
    """Return the supervoxels that were given blobs."""
    stored = many_each("stored", [fetch(event.supervoxels) for event in events])
    return Touched(rows=(stored,))


def deletions(events: Sequence[BlobsDeleted], fetch: Fetch) -> Touched:
    """Return the supervoxels whose blobs were deleted."""
    deleted = many_each("deleted", [fetch(event.supervoxels) for event in events])
    return Touched(rows=(deleted,))


TOUCHED: Mapping[type[Event], Describe] = {BlobsPut: puts, BlobsDeleted: deletions}


def _blobs(txn: ReadTxn, instance: Instance, view: View) -> Iterator[tuple[Labels, Labels]]:
    """Iterate over the supervoxels that have blobs, and their sizes in bytes."""
    del view  # blobs are of no version; the transaction knows `?at=`
    for page in pages(txn, instance):
        supervoxels, blobs = zip(*page, strict=True)
        yield column(supervoxels), column([bulkrow.length(blob) for blob in blobs])


TABLES = {"blobs": Table({"supervoxel": "u64", "bytes": "u64"}, _blobs)}
