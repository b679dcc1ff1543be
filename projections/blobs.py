"""Blobs that events leave behind: bytes under their own hash, of no version, shared by all instances.

Key: BLOB and the 16 bytes of the hash. Value: MessagePack of the bytes, or of where a pack has them.

Source: PutBlob in storage (janelia-flyem/dvid): URL-safe base64 of the 128-bit FNV-1 hash.
"""

import base64

import msgspec

from dvid_es.codecs.fnv import fnv1_128
from dvid_es.events import Bulk
from dvid_es.projections.catalog import BLOB
from dvid_es.projections.txn import ReadTxn, WriteTxn


def reference_of(digest: bytes) -> str:
    """Return a hash as clients see it."""
    return base64.urlsafe_b64encode(digest).decode()


def reference(txn: ReadTxn, value: Bulk) -> str:
    """Return the name that bytes have as a blob."""
    return reference_of(fnv1_128(txn.bulk(value)))


def put(txn: WriteTxn, value: Bulk) -> str:
    """Keep bytes as a blob; return its name."""
    digest = fnv1_128(txn.bulk(value))
    txn.put(BLOB + digest, msgspec.msgpack.encode(value))
    return reference_of(digest)
