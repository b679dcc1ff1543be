"""What may be read of a tarsupervoxels instance."""

from collections.abc import Iterator, Sequence

from dvid_es.datatypes.tarsupervoxels.rows import ROOT, blob_keys, prefix_of
from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.projections import bulkrow, versioned
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import BulkReader, ReadTxn

FETCH_BYTES = 4 << 20
PAGE_ROWS = 1000
_END = b"\xff" * 9

Blob = tuple[int, Bulk | None]
"""A supervoxel and its blob, not yet fetched; None if there is none."""


def find(txn: ReadTxn, instance: Instance, supervoxel: int) -> Bulk | None:
    """Return the blob of a supervoxel, not yet fetched, or None."""
    return find_all(txn, instance, [supervoxel])[0]


def find_all(txn: ReadTxn, instance: Instance, supervoxels: Sequence[int]) -> list[Bulk | None]:
    """Return the blobs of supervoxels, not yet fetched; None where there is none."""
    view = txn.view(ROOT)
    keys = blob_keys(instance.id, instance.settings["Extension"], supervoxels)
    # The root has no ancestors: the first row at or after its bound is the newest that counts.
    found = txn.seek_many(keys, view.seek_suffix)
    return [bulkrow.decode(pair[1]) if pair is not None and pair[1] else None for pair in found]


def pages(txn: ReadTxn, instance: Instance) -> Iterator[list[tuple[int, Bulk]]]:
    """Iterate over all blobs of the present extension, by their supervoxels."""
    prefix = prefix_of(instance.id, instance.settings["Extension"])
    page = []
    for key, value in versioned.scan(txn, prefix, prefix + _END, txn.view(ROOT)):
        page.append((int.from_bytes(key[-8:], "big"), bulkrow.decode(value)))
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    if page:
        yield page


def fetched(packs: BulkReader, blobs: Sequence[Blob]) -> Iterator[tuple[int, bytes | None]]:
    """Iterate over blobs with their bytes, read about 4 MiB at once."""
    batch: list[Blob] = []
    size = 0
    for blob in blobs:
        batch.append(blob)
        size += blob[1].length if isinstance(blob[1], PackRef) else 0
        if size >= FETCH_BYTES:
            yield from _fetch(packs, batch)
            batch, size = [], 0
    yield from _fetch(packs, batch)


def _fetch(packs: BulkReader, batch: Sequence[Blob]) -> Iterator[tuple[int, bytes | None]]:
    refs = [bulk for _, bulk in batch if isinstance(bulk, PackRef)]
    values = iter(packs.get_many(refs) if refs else ())
    for supervoxel, bulk in batch:
        yield supervoxel, next(values) if isinstance(bulk, PackRef) else bulk
