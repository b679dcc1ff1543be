"""Blobs: bytes under their own hash, of no version and shared by the instances of a repository.

Source: PutBlob in storage (janelia-flyem/dvid): URL-safe base64 of the 128-bit FNV-1 hash.
"""

import base64
import binascii
from dataclasses import dataclass

from dvid_es.codecs.fnv import fnv1_128
from dvid_es.commands import Context, Decision, Outcome
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.events import Bulk
from dvid_es.projections.blobs import reference_of
from dvid_es.projections.txn import ReadTxn
from dvid_es.repos.commands import check_there
from dvid_es.repos.events import BlobStored
from dvid_es.repos.fold import blob_key, decode_bulk


def digest_of(data: bytes) -> bytes:
    """Return the 16 bytes that name a blob."""
    return fnv1_128(data)


def parse_reference(text: str) -> bytes:
    """Return the hash of a reference.

    Raises:
        InvalidRequest: it is not base64.
        NotFound: it is, but of another length: no blob has such a name.
    """
    try:
        digest = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as problem:
        raise InvalidRequest(f'bad blob reference "{text}": {problem}') from None
    if len(digest) != 16:
        raise NotFound(f'Reference "{text}" not found')
    return digest


def read_blob(txn: ReadTxn, digest: bytes) -> bytes | None:
    """Return a blob, or None if there is none of this name."""
    stored = txn.get(blob_key(digest))
    return None if stored is None else txn.bulk(decode_bulk(stored))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBlob:
    """Store bytes under their hash; they are in a pack already, or small."""

    digest: bytes
    value: Bulk

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if the same bytes are stored already."""
        check_there(context)
        reference = reference_of(self.digest)
        answer = f'{{"reference": "{reference}"}}'.encode()
        there = context.txn.get(blob_key(self.digest))
        if there is None:
            return Decision(
                (Outcome(event=BlobStored(hash=self.digest, value=self.value)),), answer
            )
        if decode_bulk(there) != self.value and (
            context.txn.bulk(decode_bulk(there)) != context.txn.bulk(self.value)
        ):
            # FNV is no cryptographic hash: such bytes can be made on purpose.
            raise InvalidRequest(f"other bytes are stored as {reference} already")
        return Decision((), answer)
