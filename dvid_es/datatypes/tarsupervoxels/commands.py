"""What may be asked of a tarsupervoxels instance, and when the answer is no."""

from array import array
from dataclasses import dataclass
from sys import byteorder

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.tarsupervoxels.events import (
    INLINE_BLOB_MAX,
    BlobsDeleted,
    BlobsPut,
    Configured,
)
from dvid_es.datatypes.tarsupervoxels.reads import find
from dvid_es.datatypes.tarsupervoxels.rows import EXTENSION_BYTES_MAX
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.projections import bulkrow

EVENT_BYTES_MAX = 48 << 20
"""Bytes of the references and inline blobs of one request: an event has to fit into the log."""

_PER_BLOB = 64


def packed(supervoxels: tuple[int, ...]) -> bytes:
    """Return supervoxels as events hold them: uint64, little endian."""
    numbers = array("Q", supervoxels)
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def check_extension(extension: str) -> str:
    """Return an extension.

    Raises:
        InvalidRequest: no file name could have it.
    """
    try:
        size = len(extension.encode())
    except UnicodeEncodeError:
        size = -1
    if not 0 <= size <= EXTENSION_BYTES_MAX or "/" in extension or "\0" in extension:
        raise InvalidRequest(
            f"an extension has at most {EXTENSION_BYTES_MAX} bytes of UTF-8, without / and NUL"
        )
    return extension


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBlobs:
    """Give supervoxels blobs, all or none."""

    extension: str
    """What the instance had when the request was read."""

    supervoxels: tuple[int, ...]
    blobs: tuple[Bulk, ...]
    """Long ones are in the packs already."""

    def decide(self, context: Context) -> Decision:
        """Return the event.

        Raises:
            InvalidRequest: they are too many for one event, or the extension is another one by now.
        """
        instance = fixed_instance(context)
        extension = instance.settings["Extension"]
        if extension != self.extension:
            raise InvalidRequest(
                f'the extension of data "{instance.name}" was changed to "{extension}" meanwhile'
            )
        if not self.supervoxels:
            return Decision(())
        size = _PER_BLOB * len(self.supervoxels)
        for blob in self.blobs:
            if isinstance(blob, bytes):
                assert bulkrow.length(blob) <= INLINE_BLOB_MAX
                size += len(blob)
        if size > EVENT_BYTES_MAX:
            raise InvalidRequest(
                f"{len(self.supervoxels)} blobs are too many for one request: send them in parts"
            )
        supervoxels = packed(self.supervoxels)
        put = BlobsPut(extension=extension, supervoxels=supervoxels, blobs=self.blobs)
        return Decision((Outcome(event=put),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBlob:
    """Take away the blob of a supervoxel; one without a blob is no error."""

    supervoxel: int

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if there is no blob."""
        instance = fixed_instance(context)
        if find(context.txn, instance, self.supervoxel) is None:
            return Decision(())
        deleted = BlobsDeleted(
            extension=instance.settings["Extension"], supervoxels=packed((self.supervoxel,))
        )
        return Decision((Outcome(event=deleted),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Change settings; what was stored under another extension is not seen any more. None: as it is."""

    extension: str | None = None
    compression: str | None = None
    checksum: str | None = None

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if nothing would change.

        Raises:
            InvalidRequest: no file name could have the extension.
        """
        instance = fixed_instance(context)
        if self.extension is not None:
            check_extension(self.extension)
        event = Configured(
            extension=_changed(self.extension, instance.settings["Extension"]),
            compression=_changed(self.compression, instance.compression),
            checksum=_changed(self.checksum, instance.checksum),
        )
        return Decision(() if event == Configured() else (Outcome(event=event),))


def _changed(wanted: str | None, present: str) -> str | None:
    return None if wanted == present else wanted
