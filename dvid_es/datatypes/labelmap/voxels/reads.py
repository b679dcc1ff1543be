"""Voxels as they are read: found in one transaction, then fetched, mapped and decoded in threads.

Labels are mapped in the label tables of blocks, never voxel by voxel.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import crc32c, labelblock, labellz4, neuroglancer, storedblock
from dvid_es.codecs.compression import gzip_compress, lz4_block_compress
from dvid_es.codecs.labelbatch import LabelBatch
from dvid_es.datatypes.labelmap.mapping.lookup import Mapping
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.blockcache import CACHE, LZ4
from dvid_es.events import Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.http.answers import Buffer, Buffers
from dvid_es.ids import PackRef
from dvid_es.logs import checksums
from dvid_es.logs.base import Packs, Take, fresh_memory
from dvid_es.projections.blockrows import Columns, read_columns, unpack_value
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]
Labels = NDArray[np.uint64]

_FRAME = struct.Struct("<3iI")
"""In front of each block of a stream: its coordinate, X first, and its length."""

_MEMORY = Buffers(3 << 20, kept_max=4)
"""Memory of parts of streams."""

_FEW = 8
"""For so many blocks or fewer, numpy takes longer to begin than Python to finish."""


class FixedMapping:
    """Bodies of some supervoxels, looked up beforehand."""

    def __init__(self, svs: Labels, bodies: Labels) -> None:
        """Keep uint64[n] supervoxels, ascending, and their bodies uint64[n]."""
        self._svs = svs
        self._bodies = bodies

    def map(self, labels: Labels) -> Labels:
        """Return the bodies of supervoxels, all of which are known."""
        return self._bodies[np.searchsorted(self._svs, labels)]


class BlockSet:
    """Blocks of one scale that a read found: what it takes to fetch them once its transaction is over."""

    def __init__(
        self,
        packs: Packs,
        mapping: Mapping | FixedMapping | None,
        shape_zyx: Triple,
        coords_zyx: Coords,
        rows: Sequence[bytes],
    ) -> None:
        """Keep blocks int32[n, 3] and the values of their rows; `mapping` None leaves supervoxels."""
        self._packs = packs
        self._mapping = mapping
        self.shape_zyx = shape_zyx
        self.coords_zyx = coords_zyx
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._rows)

    @cached_property
    def _found(self) -> list[Bulk]:
        """The blocks, or where they lie."""
        return [unpack_value(row) for row in self._rows]

    @cached_property
    def _columns(self) -> Columns:
        return read_columns(self._rows)

    def measure(self) -> None:
        """Read the rows now, in the thread that found them; few are read at once when it matters."""
        if len(self) > _FEW:
            self._columns  # noqa: B018 # it is kept

    def settle(self) -> None:
        """Look up all bodies now: a mapping below a version merge needs the transaction."""
        if self._mapping is not None:
            supervoxels = np.empty(0, np.uint64)
            for start in range(0, len(self), 256):
                tables = self.part(start, start + 256)._batch(fresh_memory).tables
                supervoxels = np.union1d(supervoxels, tables)
            self._mapping = FixedMapping(supervoxels, self._mapping.map(supervoxels))

    def part(self, start: int, stop: int) -> "BlockSet":
        """Return some of the blocks."""
        rows, coords = self._rows[start:stop], self.coords_zyx[start:stop]
        part = BlockSet(self._packs, self._mapping, self.shape_zyx, coords, rows)
        if "_columns" in self.__dict__:
            part._columns = self._columns.part(start, stop)
        return part

    def parts(self, part_bytes: int) -> Iterator["BlockSet"]:
        """Cut the blocks into parts of about so many stored bytes."""
        ends = np.cumsum(self._columns.lengths)
        start = before = 0
        while start < len(self):
            stop = min(len(self), int(np.searchsorted(ends, before + part_bytes)) + 1)
            yield self.part(start, stop)
            start, before = stop, int(ends[stop - 1])

    @property
    def stored_bytes(self) -> int:
        """Bytes of the blocks as they are stored."""
        if len(self) <= _FEW:
            return sum(one.length if isinstance(one, PackRef) else len(one) for one in self._found)
        return int(self._columns.lengths.sum())

    @property
    def gzip_length(self) -> int | None:
        """Bytes of `gzip_stream`; None if they are not known before the blocks are fetched."""
        columns = self._columns
        if columns.lengths.max(initial=0) > storedblock.PLAIN_BYTES:
            return None
        inline = columns.starts[~columns.packed] + 1
        solid = storedblock.count_solid(columns.data, inline)
        return storedblock.gzip_stream_length(self.stored_bytes, len(self), solid)

    def gzip_stream(self) -> Buffer:
        """Return DVID's stream of gzipped label blocks."""
        coords_xyz = self.coords_zyx[:, ::-1]
        if len(self) <= _FEW:
            batch = storedblock.StoredBatch.of(fetch(self._packs, self._found))
            return batch.gzip_stream(self._mapped(batch.tables), coords_xyz)
        # The stream is written over the blocks, so they lie behind as much room as it may be longer.
        columns = self._columns
        room = storedblock.more_than_stored(columns.lengths, columns.packed)
        memory = memoryview(b"")

        def take(size: int) -> memoryview:
            nonlocal memory
            memory = _MEMORY.lease(room + size)
            return memory[room:]

        if self._mapping is not None or not storedblock.FAST:
            batch = self._batch(take)
            return batch.gzip_stream(self._mapped(batch.tables), coords_xyz, memory)
        stream = memoryview(b"")

        def find_damage(data: bytes | memoryview, starts: Sequence[int], *_: Sequence[int]) -> int:
            nonlocal stream
            places = columns.places_joined(len(data), starts)
            front, checksums = memory[room:], columns.places[2]
            found, stream = storedblock.pass_stream(
                memory, front, columns.data, places, columns.lengths, checksums, coords_xyz
            )
            return found if found < 0 else int(columns.packed[:found].sum())

        self._packs.get_joined(columns.places_packed(), find_damage, take)
        return stream

    def gzip_parts(self, part_bytes: int) -> Iterator[Callable[[], Buffer]]:
        """Iterate over what makes `gzip_stream` in parts of about so many bytes."""
        return (part.gzip_stream for part in self.parts(part_bytes))

    def _batch(self, take: Take) -> storedblock.StoredBatch:
        """Return the blocks as they are stored; packs verify what they give."""
        columns = self._columns
        find_damage = crc32c.first_damaged if crc32c.FAST else checksums.first_damaged
        data, packed = self._packs.get_joined(columns.places_packed(), find_damage, take)
        starts = columns.places_joined(len(data), packed)
        return storedblock.StoredBatch(data, starts, columns.lengths, columns.data, verified=True)

    def _mapped(self, tables: Labels) -> Labels:
        """Return the labels of tables, mapped."""
        if self._mapping is None:
            return tables
        return np.ascontiguousarray(self._mapping.map(tables), np.uint64)

    def stream(self, compression: str) -> Buffer:
        """Return DVID's stream of blocks in a compression of GET blocks."""
        if compression == "blocks":
            return self.gzip_stream()
        pieces: list[bytes] = []
        loaded = self.load()
        out = np.empty(self.shape_zyx, np.uint64)
        for place, (z, y, x) in enumerate(self.coords_zyx.tolist()):
            payload = _payload(loaded.one(place), compression, out)
            pieces += (_FRAME.pack(x, y, z, len(payload)), payload)
        return b"".join(pieces)

    def pieces(self, compression: str) -> tuple[Buffer]:
        """Return `stream` as a part of an answer."""
        return (self.stream(compression),)

    @cached_property
    def _recent(self) -> list[bytes | None]:
        """The label blocks that were read lately, None for each other one."""
        return CACHE.get_many([_name(block) for block in self._found])

    @property
    def uncached(self) -> int:
        """How many of the blocks were not read lately and have to be inflated, and fetched if they are long."""
        return self._recent.count(None)

    def load(self, *, keep: bool = False) -> "Loaded":
        """Return the label blocks, with the tables to read them by.

        Args:
            keep: read lately or to be read again soon: take and leave them in the cache.
        """
        if keep:
            label_blocks = _inflated(self._packs, self._found, self._recent)
        else:
            label_blocks = [storedblock.load(one) for one in fetch(self._packs, self._found)]
        batch = LabelBatch(label_blocks)
        return Loaded(batch, self._mapped(batch.tables), self.shape_zyx, self.coords_zyx)

    def lz4_of_one(self, box: Box) -> bytes:
        """Return the voxels of the only block, which the box is, as LZ4.

        Views and users ask for the same blocks again and again, and making this takes five times as long as
        everything else of such a read. So it is kept for a while.
        """
        (block,) = self._found
        (label_block,) = _inflated(self._packs, self._found, self._recent)
        labels = self._mapped(labelblock.table(label_block))
        name = _name(block) + labels.tobytes()
        made = LZ4.get(name)
        if made is None:
            batch = LabelBatch([label_block])
            made = Loaded(batch, labels, self.shape_zyx, self.coords_zyx).lz4(box)
            LZ4.put(name, made)
        return made

    def label_blocks(self) -> list[bytes]:
        """Return the label blocks, with mapped tables."""
        loaded = self.load()
        if self._mapping is None:
            return loaded.blocks
        return [
            labelblock.with_table(block, loaded.tables[a:b])
            for block, (a, b) in zip(
                loaded.blocks, pairwise(loaded.batch.table_starts), strict=True
            )
        ]


class Loaded(NamedTuple):
    """Label blocks of one scale in memory."""

    batch: LabelBatch
    tables: Labels
    """What the blocks are read by in place of their own tables, behind each other."""

    shape_zyx: Triple
    coords_zyx: Coords

    @property
    def blocks(self) -> list[bytes]:
        """The blocks, with their own tables."""
        return self.batch.blocks  # type: ignore[return-value]

    def one(self, place: int) -> "Loaded":
        """Return one of the blocks alone."""
        a, b = self.batch.table_starts[place : place + 2]
        batch = LabelBatch(self.blocks[place : place + 1])
        return Loaded(batch, self.tables[a:b], self.shape_zyx, self.coords_zyx[place : place + 1])

    @property
    def starts_zyx(self) -> NDArray[np.int64]:
        """Where the first voxel of each block is: int64[n, 3]."""
        return np.multiply(self.coords_zyx, self.shape_zyx, dtype=np.int64)

    def decode(self, box: Box, out: Labels, *, clear: bool = False) -> None:
        """Write the voxels that blocks share with a box into it; others become 0 or stay as they are."""
        self.batch.decode(self.tables, self.starts_zyx, out, box.start_zyx, clear=clear)

    def read(self, box: Box, out: Labels | None = None) -> Labels:
        """Return a box of voxels as uint64[Z, Y, X], in `out` if given; what is not stored is 0."""
        if out is None:
            out = np.empty(box.shape_zyx, np.uint64)
        self.decode(box, out, clear=True)
        return out

    def lz4(self, box: Box) -> bytes:
        """Return a box of voxels as an LZ4 block."""
        found = self.lz4_found(box)
        if found is None:
            return compressed(self.read(box), "lz4")
        return bytes(found.block)

    def lz4_found(self, box: Box) -> labellz4.Compressed | None:
        """Return a box of voxels as an LZ4 block; None if it has too many labels for names."""
        start, shape = box.start_zyx, box.shape_zyx
        return labellz4.compress(self.batch, self.tables, self.starts_zyx, start, shape)


def fetch(packs: Packs, found: Sequence[Bulk]) -> list[bytes]:
    """Return stored blocks from rows and packs."""
    refs = [block for block in found if isinstance(block, PackRef)]
    fetched = iter(packs.get_many(refs))
    return [next(fetched) if isinstance(block, PackRef) else block for block in found]


def _payload(block: Loaded, compression: str, out: Labels) -> bytes:
    """Return a block as GET blocks sends it; `out` is a place to decode it to."""
    z, y, x = block.starts_zyx[0].tolist()
    box = Box((z, y, x), (z + out.shape[0], y + out.shape[1], x + out.shape[2]))
    if compression == "lz4":
        return block.lz4(box)
    return compressed(block.read(box, out), compression)


def compressed(volume: Labels, compression: str) -> bytes:
    """Return voxels uint64[Z, Y, X] in one of DVID's compressions.

    Raises:
        InvalidRequest: the box does not suit the compression.
    """
    if compression in ("google", "googlegzip"):
        return segmented(neuroglancer.encode(volume), compression)
    data = memoryview(volume.reshape(-1).view(np.uint8))
    if compression == "lz4":
        return lz4_block_compress(data)
    return gzip_compress(data) if compression == "gzip" else bytes(data)


def segmented(segmentation: bytes, compression: str) -> bytes:
    """Return a compressed_segmentation as "google" or "googlegzip" sends it."""
    return segmentation if compression == "google" else gzip_compress(segmentation)


def mapping_for(txn: ReadTxn, instance_id: int, view: View, supervoxels: bool) -> Mapping | None:
    """Return the mapping of a view to bodies; None if supervoxels are wanted or nothing is mapped."""
    if supervoxels:
        return None
    mapping = Mapping.at(txn, instance_id, view)
    return None if mapping.is_empty else mapping


class PointRead:
    """Labels at points: which blocks are needed, then what they say."""

    def __init__(self, points_zyx: NDArray[np.int64], shape_zyx: Triple) -> None:
        """Sort int64[n, 3] points by their blocks."""
        shape = np.array(shape_zyx)
        at = points_zyx // shape
        inside = (points_zyx - at * shape).astype(np.int32)
        limit = blocks.COORD_MAX
        near = (np.abs(at) <= limit).all(axis=1)
        self._n = len(points_zyx)
        self._near = np.flatnonzero(near)
        self.coords_zyx, place = np.unique(at[near].astype(np.int32), axis=0, return_inverse=True)
        order = np.argsort(place.reshape(-1), kind="stable")
        self._order = self._near[order]
        self._inside = np.ascontiguousarray(inside[self._order])
        counts = np.bincount(place.reshape(-1), minlength=len(self.coords_zyx))
        self._bounds = np.concatenate(([0], np.cumsum(counts))).tolist()
        self._labels = np.zeros(len(self._order), np.uint64)

    def look_up(self, packs: Packs, found: Sequence[Bulk | None], start: int, stop: int) -> None:
        """Read the points of blocks [start, stop) of `coords_zyx`; `found` are all of them."""
        chosen = [i for i in range(start, stop) if found[i] is not None]
        wanted: list[Any] = [found[i] for i in chosen]
        recent = CACHE.get_many([_name(block) for block in wanted])
        for i, block in zip(chosen, _inflated(packs, wanted, recent), strict=True):
            a, b = self._bounds[i], self._bounds[i + 1]
            self._labels[a:b] = labelblock.labels_at(block, self._inside[a:b])

    def labels(self, mapping: Mapping | None) -> Labels:
        """Return the labels uint64[n] in the order of the points."""
        out = np.zeros(self._n, np.uint64)
        mapped = self._labels if mapping is None else mapping.map(self._labels)
        out[self._order] = mapped
        return out


def _inflated(
    packs: Packs, found: Sequence[Bulk], recent: Sequence[bytes | None]
) -> Sequence[bytes]:
    """Return label blocks, kept for the next look-up; those that were read lately are in `recent`."""
    if None not in recent:
        return recent  # type: ignore[return-value] # all are there
    label_blocks = list(recent)
    missing = [place for place, there in enumerate(recent) if there is None]
    stored = fetch(packs, [found[place] for place in missing])
    for place, one in zip(missing, stored, strict=True):
        block = label_blocks[place] = storedblock.load(one)
        CACHE.put(_name(found[place]), block)
    return label_blocks  # type: ignore[return-value] # all are there now


def _name(block: Bulk) -> bytes:
    """Return what a stored block is kept under: its digest, or itself if it is short."""
    return block.digest if isinstance(block, PackRef) else block
