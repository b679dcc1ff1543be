"""What an export reads: one version as of one event, in many short transactions."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.precomputed.volume import Scale, scales_of
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.reads import BlockSet, mapping_for
from dvid_es.engine import Engine
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box, Triple
from dvid_es.http.node import NodeRequest
from dvid_es.projections.catalog import Instance, Repo
from dvid_es.projections.store import LmdbTxn
from dvid_es.projections.temporal import SIGN
from dvid_es.streams import Stream
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]

_PREFIX_BYTES = 6
"""Of a block's key in front of its coordinates: instance, kind, scale."""

_COORD = struct.Struct(">3I")

PIECE_VOXELS = 128 << 18
"""Voxels of the blocks that are held at a time: 128 blocks of 64 a side."""


class Piece(NamedTuple):
    """Some blocks that are there."""

    coords_zyx: Coords
    """int32[n, 3]."""

    blocks: list[bytes]
    """Label blocks, with supervoxels in their tables."""

    own: list[Labels]
    """These tables."""

    tables: list[Labels]
    """Bodies in place of these, or the same when supervoxels are wanted."""


class Source:
    """One version of an instance as of one event, for as long as a job runs."""

    def __init__(
        self,
        engine: Engine,
        stream: Stream,
        repo: Repo,
        instance: Instance,
        version_id: int,
        sequence: int,
    ) -> None:
        """Read what the version held just after the event at `sequence`."""
        self._engine = engine
        self.stream = stream
        self._repo = repo
        self.instance = instance
        self._version_id = version_id
        self.sequence = sequence

    @classmethod
    def of(cls, request: NodeRequest, sequence: int | None = None) -> Self:
        """Return what a request sees now, or as of an earlier event."""
        assert request.view is not None
        assert request.sequence is not None
        if sequence is None:
            sequence = min(request.sequence, request.view.sequence)
        return cls(
            request.engine,
            request.stream,
            request.repo,
            request.instance,
            request.version_id,
            sequence,
        )

    @property
    def shape_zyx(self) -> Triple:
        """Of a block, in voxels."""
        return block_shape(self.instance)

    @contextmanager
    def reading(self) -> Iterator[tuple[LmdbTxn, View]]:
        """Open a transaction; keep it for some milliseconds only.

        Raises:
            InvalidRequest: the instance was deleted meanwhile.
        """
        now = self.stream.repo
        instance = None if now is None else now.instances.get(self.instance.id)
        if now is None or now.document.deleted or instance is None or instance.deleted:
            raise InvalidRequest(f'data "{self.instance.name}" was deleted while it was exported')
        store = self._engine.store
        txn = store.begin_read(self._repo, self.stream.packs, self.sequence)
        try:
            yield txn, txn.view(self._version_id)
        finally:
            store.finish_read(txn)

    def scales(self) -> list[Scale]:
        """Return the scales of the volume.

        Raises:
            NotFound: there are no extents.
        """
        with self.reading() as (txn, view):
            return scales_of(txn, self.instance, view)

    def is_empty(self, scale: int, box: Box) -> bool:
        """Say whether no version has any block in a box of blocks: it leaps from row to row."""
        (z, y, x), (z1, y1, x1) = box
        if not box.volume:
            return True
        with self.reading() as (txn, _):
            while True:
                key = blocks.keys(self.instance.id, scale, np.array([[z, y, x]], np.int32))[0]
                found = txn.seek(key)
                if found is None or found[0][:_PREFIX_BYTES] != key[:_PREFIX_BYTES]:
                    return True
                z, y, x = (at - SIGN for at in _COORD.unpack_from(found[0], _PREFIX_BYTES))
                if z >= z1:
                    return True
                if z < box.start_zyx[0] or y < box.start_zyx[1]:
                    z, y, x = max(z, box.start_zyx[0]), box.start_zyx[1], box.start_zyx[2]
                elif y >= y1:
                    z, y, x = z + 1, box.start_zyx[1], box.start_zyx[2]
                elif x < box.start_zyx[2]:
                    x = box.start_zyx[2]
                elif x >= x1:
                    y, x = y + 1, box.start_zyx[2]
                else:
                    return False

    def pieces(self, scale: int, coords_zyx: Coords, supervoxels: bool) -> Iterator[Piece]:
        """Iterate over blocks int32[n, 3], in their order, without those that are not stored."""
        z, y, x = self.shape_zyx
        size = max(1, PIECE_VOXELS // (z * y * x))
        for start in range(0, len(coords_zyx), size):
            piece = self._piece(scale, coords_zyx[start : start + size], supervoxels)
            if piece is not None:
                yield piece

    def _piece(self, scale: int, coords: Coords, supervoxels: bool) -> Piece | None:
        with self.reading() as (txn, view):
            found = blocks.find_rows(txn, self.instance.id, scale, coords, view)
            coords, rows = blocks.present(coords, found)
            if not rows:
                return None
            chosen = BlockSet(self.stream.packs, None, self.shape_zyx, coords, rows)
            label_blocks = chosen.label_blocks()
            own = tables = [labelblock.table(block) for block in label_blocks]
            mapping = mapping_for(txn, self.instance.id, view, supervoxels)
            if mapping is not None:
                ends = np.cumsum([len(table) for table in tables])[:-1]
                tables = np.split(mapping.map(np.concatenate(tables)), ends)
        return Piece(coords, label_blocks, own, tables)
