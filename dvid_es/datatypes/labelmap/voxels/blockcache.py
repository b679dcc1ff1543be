"""Blocks that were needed lately: inflated, or as LZ4 of the labels that a client sees.

They are found by digests of what they were made of, or by that itself if it is short. So an entry is
never out of date, whatever is written meanwhile.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

BYTES_MAX = 128 << 20

_ENTRY_BYTES = 256
"""Of Python's objects for one entry."""


class BlockCache:
    """Label blocks by name; bounded, the least recently used go first. Any thread may use it."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        """Keep up to `bytes_max` bytes."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, name: bytes) -> bool:
        """Say whether a block is here."""
        return name in self._kept

    def get(self, name: bytes) -> bytes | None:
        """Return a block, or None if it is not here."""
        return self.get_many((name,))[0]

    def get_many(self, names: Sequence[bytes]) -> list[bytes | None]:
        """Return blocks, None for each that is not here."""
        kept = self._kept
        with self._lock:
            blocks = [kept.get(name) for name in names]
            for name, block in zip(names, blocks, strict=True):
                if block is not None:
                    kept.move_to_end(name)
        return blocks

    def put(self, name: bytes, block: bytes) -> None:
        """Keep a block."""
        with self._lock:
            before = self._kept.pop(name, None)
            if before is not None:
                self._bytes -= _size(name, before)
            self._kept[name] = block
            self._bytes += _size(name, block)
            while self._bytes > self._bytes_max:
                self._bytes -= _size(*self._kept.popitem(last=False))


def _size(name: bytes, block: bytes) -> int:
    return len(name) + len(block) + _ENTRY_BYTES


CACHE = BlockCache()
"""Label blocks that points, bodies and small boxes needed, by the digest of what is stored."""

LZ4 = BlockCache(32 << 20)
"""Whole blocks as LZ4, by the digest of what is stored and the labels that it is read by."""
