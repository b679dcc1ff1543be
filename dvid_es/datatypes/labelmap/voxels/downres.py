"""Lower scales: which blocks follow from changed ones, and how each is made.

A block of scale s + 1 is a function of the changed ones among its eight children and, for its other
octants, of the block that it replaces. So it may be made in a thread before the write is decided,
kept under the digests of what it was made from, and looked up when the event is folded; what is not
there is made again, as in a replay.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import storedblock
from dvid_es.codecs.downres import downres_block
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.events import Bulk, Record
from dvid_es.geometry import Triple
from dvid_es.ids import PackRef
from dvid_es.logs.base import Packs
from dvid_es.projections.txn import WriteTxn

Coords = NDArray[np.int32]

MEMO_BYTES_MAX = 256 << 20


class Parents(NamedTuple):
    """The blocks one scale up from some blocks."""

    coords_zyx: Coords
    """int32[n, 3], distinct, in ZYX order."""

    children: NDArray[np.int64]
    """int64[n, 8]: position of the child in each octant, -1 where none changed."""

    @property
    def partial(self) -> NDArray[np.bool_]:
        """Which keep octants of the blocks that they replace."""
        return np.any(self.children < 0, axis=1)


def parents_of(coords_zyx: Coords) -> Parents:
    """Return the parents of blocks int32[n, 3], whose coordinates are distinct."""
    above, place = np.unique(coords_zyx >> 1, axis=0, return_inverse=True)
    low = coords_zyx & 1
    children = np.full((len(above), 8), -1, np.int64)
    octants = low[:, 0] * 4 + low[:, 1] * 2 + low[:, 2]
    children[place.reshape(-1), octants] = np.arange(len(coords_zyx))
    return Parents(np.ascontiguousarray(above, np.int32), children)


def digest(block: Bulk) -> bytes:
    """Return the digest of a stored block, wherever it lies."""
    if isinstance(block, PackRef):
        return block.digest
    return hashlib.blake2b(block, digest_size=16).digest()


def memo_key(shape_zyx: Triple, octants: Sequence[bytes], previous: bytes) -> bytes:
    """Return what names a derived block.

    Args:
        shape_zyx: shape of the blocks.
        octants: digests of the children, b"" for those that did not change.
        previous: digest of the block that is replaced, b"" if it has no part in the result.
    """
    present = bytes(bool(octant) for octant in octants)
    return b"".join((repr(shape_zyx).encode(), present, *octants, b"/", previous))


class Memo:
    """Derived blocks in stored form that are waiting for their event. Bounded; any may be missing."""

    def __init__(self, bytes_max: int = MEMO_BYTES_MAX) -> None:
        """Keep up to `bytes_max` bytes, the newest ones."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: bytes, stored: bytes) -> None:
        """Keep one block."""
        with self._lock:
            self._bytes += len(stored) - len(self._kept.pop(key, b""))
            self._kept[key] = stored
            while self._bytes > self._bytes_max:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def take(self, key: bytes) -> bytes | None:
        """Return one block and forget it."""
        with self._lock:
            stored = self._kept.pop(key, None)
            self._bytes -= len(stored or b"")
            return stored


MEMO = Memo()


class Maker:
    """Makes the blocks of one scale ahead of their event, and keeps them in the memo."""

    def __init__(
        self,
        packs: Packs,
        shape_zyx: Triple,
        children: Sequence[bytes],
        digests: Sequence[bytes],
        parents: Parents,
        previous: Sequence[Bulk | None],
    ) -> None:
        """Make `parents` of `children`, label blocks whose stored forms have `digests`."""
        self._packs = packs
        self._shape = shape_zyx
        self._children = children
        self._digests = digests
        self._parents = parents
        self._previous = previous

    def make(self, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        """Return label block and digest of its stored form of parents [start, stop)."""
        return [self._make_one(place) for place in range(start, stop)]

    def _make_one(self, place: int) -> tuple[bytes, bytes]:
        children = self._parents.children[place].tolist()
        replaced = self._previous[place]
        before = replaced_digest = b""
        if replaced is not None:
            replaced_digest = digest(replaced)
            stored = self._packs.get(replaced) if isinstance(replaced, PackRef) else replaced
            before = storedblock.load(stored)
        octants = [self._children[child] if child >= 0 else None for child in children]
        names = [self._digests[child] if child >= 0 else b"" for child in children]
        block = downres_block(octants, before or None, self._shape)
        stored = storedblock.store(block)
        MEMO.put(memo_key(self._shape, names, replaced_digest), stored)
        return block, digest(stored)


def fold_levels(
    txn: WriteTxn,
    record: Record,
    scale: int,
    coords_zyx: Coords,
    changed: Sequence[Bulk],
    levels: int,
    shape_zyx: Triple,
) -> None:
    """Write the blocks of `levels` scales above `scale` that follow from changed blocks."""
    header = record.header
    view = txn.view(header.version)
    for above in range(scale + 1, scale + levels + 1):
        parents = parents_of(coords_zyx)
        previous: list[Bulk | None] = [None] * len(parents.coords_zyx)
        partial = np.flatnonzero(parents.partial)
        found = blocks.find_list(txn, header.instance, above, parents.coords_zyx[partial], view)
        for place, block in zip(partial, found, strict=True):
            previous[place] = block
        digests = [digest(block) for block in changed]
        derived: list[Bulk] = []
        for children, replaced in zip(parents.children.tolist(), previous, strict=True):
            octants = [digests[child] if child >= 0 else b"" for child in children]
            key = memo_key(shape_zyx, octants, b"" if replaced is None else digest(replaced))
            stored = MEMO.take(key)
            if stored is None:
                stored = derive(txn.bulk, changed, children, replaced, shape_zyx)
            derived.append(stored)
        blocks.put_blocks(txn, record, above, parents.coords_zyx, derived)
        coords_zyx, changed = parents.coords_zyx, derived


def derive(
    fetch: Callable[[Bulk], bytes],
    changed: Sequence[Bulk],
    children: Sequence[int],
    replaced: Bulk | None,
    shape_zyx: Triple,
) -> bytes:
    """Return the stored form of one block.

    Args:
        fetch: returns the bytes of a bulk value.
        changed: stored blocks of the scale above.
        children: which of them is in each of the 8 octants, -1 where nothing changed.
        replaced: the block that keeps these octants.
        shape_zyx: shape of all of them.
    """
    octants = [
        storedblock.load(fetch(changed[child])) if child >= 0 else None for child in children
    ]
    before = None if replaced is None else storedblock.load(fetch(replaced))
    return storedblock.store(downres_block(octants, before, shape_zyx))
