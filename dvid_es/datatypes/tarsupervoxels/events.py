"""What can happen to a tarsupervoxels instance."""

from dvid_es.events import Bulk, Event, event

INLINE_BLOB_MAX = 1800
"""Longer blobs go to the packs. Up to here a row fits into a page of LMDB without an overflow page, and a
write needs one sync instead of two."""


@event(240, "tarsupervoxels.put")
class BlobsPut(Event, frozen=True, kw_only=True):
    """Supervoxels were given blobs, all of them together; of one that is named twice the last counts.

    Blobs are of no version: the header names the one that the client wrote through.

    Source: PutData and ingestTarfile in datatype/tarsupervoxels/tarsupervoxels.go (janelia-flyem/dvid),
    where a tar file is stored entry by entry.
    """

    extension: str
    """Of the instance at that time; blobs of another one are not seen."""

    supervoxels: Bulk
    """uint64[n]."""

    blobs: tuple[Bulk, ...]
    """As many; those over `INLINE_BLOB_MAX` bytes lie in the packs."""


@event(241, "tarsupervoxels.deleted")
class BlobsDeleted(Event, frozen=True, kw_only=True):
    """Supervoxels have no blob any more."""

    extension: str
    supervoxels: Bulk
    """uint64[n]."""


@event(242, "tarsupervoxels.configured")
class Configured(Event, frozen=True, kw_only=True):
    """Settings were changed, for all versions; None leaves one as it is."""

    extension: str | None = None
    """Of all files, read and written, from now on."""

    compression: str | None = None
    """As shown in info."""

    checksum: str | None = None
    """As shown in info."""
