"""Blocks that were needed lately: inflated, or as LZ4 of the labels that a client sees.

They are found by digests of what they were made of, so an entry is never out of date, whatever is
written meanwhile.
"""

import threading
from collections import OrderedDict

BYTES_MAX = 128 << 20


class BlockCache:
    """Label blocks by digest; bounded, the least recently used go first. Any thread may use it."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        """Keep up to `bytes_max` bytes."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, digest: bytes) -> bool:
        """Say whether a block is here."""
        return digest in self._kept

    def get(self, digest: bytes) -> bytes | None:
        """Return a block, or None if it is not here."""
        with self._lock:
            block = self._kept.get(digest)
            if block is not None:
                self._kept.move_to_end(digest)
            return block

    def put(self, digest: bytes, block: bytes) -> None:
        """Keep a block."""
        with self._lock:
            self._bytes += len(block) - len(self._kept.pop(digest, b""))
            self._kept[digest] = block
            while self._bytes > self._bytes_max:
                self._bytes -= len(self._kept.popitem(last=False)[1])


CACHE = BlockCache()
"""Label blocks that points, bodies and small boxes needed, by the digest of what is stored."""

LZ4 = BlockCache(32 << 20)
"""Whole blocks as LZ4, by the digest of what is stored and that of the labels that it is read by."""
