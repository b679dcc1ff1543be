"""Posted voxels that are encoded while they arrive: rows of blocks, by as many threads as there are processors.

Receiving takes longer than encoding, and what was received just now is still at hand to the processor.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs.labelencode import RowEncoder
from dvid_es.datatypes.labelmap.voxels import prepare
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared, Wanted, prepare_block
from dvid_es.geometry import Triple
from dvid_es.http.node import NodeRequest
from dvid_es.http.receive import Arriving

Labels = NDArray[np.uint64]

BLOCK_VOXELS = range(16**3, 128**3 + 1)
"""Larger blocks are encoded one by one: what several at once take in memory would be much. So are smaller
ones, which take more of it than their voxels."""

ROW_BLOCKS_MAX = 16
"""Blocks that are encoded side by side."""


class _Row:
    """Some neighbouring blocks along X."""

    def __init__(self, volume: Labels, start_zyx: Triple, block_zyx: Triple, blocks: int) -> None:
        self._place = volume, start_zyx, block_zyx, blocks
        self._encoder: RowEncoder | None = None
        self.first_plane = start_zyx[0]
        self.prepared: list[Prepared] = []
        """Empty before all of it is there."""

    def advance(self, planes: int, wanted: Wanted) -> bool:
        """Encode what is there of a volume, and say whether the row is complete."""
        encoder = self._encoder = self._encoder or RowEncoder(*self._place)
        if not encoder.advance(planes - self.first_plane):
            return False
        self.prepared = [prepare_block(one, wanted) for one in encoder.blocks()]
        self._encoder = None  # it takes more than the blocks do
        return True


class _Worker:
    """Encodes some rows, in one thread at a time, as far as their planes are there."""

    def __init__(self, pool: ThreadPoolExecutor, rows: list[_Row], wanted: Wanted) -> None:
        self._pool = pool
        self._left = rows[::-1]
        self._wanted = wanted
        self._lock = threading.Lock()
        self._planes = 0
        self._running = False
        self._ended = False
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()

    def arrived(self, planes: int) -> None:
        with self._lock:
            self._planes = planes
            if self._running or self._ended:
                return
            self._running = True
        self._pool.submit(self._run)

    def stop(self) -> None:
        """Do no more than what is under way."""
        with self._lock:
            self._ended = True

    def _run(self) -> None:
        try:
            planes = -1
            while True:
                with self._lock:
                    if planes == self._planes or self._ended:
                        self._running = False
                        return
                    planes = self._planes
                self._encode(planes)
                if not self._left:
                    self.stop()
                    self.done.set_result(None)
        except BaseException as problem:
            self.stop()
            self.done.set_exception(problem)

    def _encode(self, planes: int) -> None:
        """Go on with all rows that have planes now; those that come first are complete first."""
        for row in self._left[::-1]:
            if planes <= row.first_plane:
                return
            if row.advance(planes, self._wanted):
                self._left.remove(row)


async def prepare_arriving(
    request: NodeRequest, body: Arriving, shape_zyx: Triple, block_zyx: Triple, wanted: Wanted
) -> list[Prepared]:
    """Receive the voxels of an aligned box and return its blocks, in ZYX order, ready to be stored.

    Args:
        request: the transaction of which is not open.
        body: as long as the box is large.
        shape_zyx: of the box, in voxels.
        block_zyx: of a block of BLOCK_VOXELS.
        wanted: of the blocks.
    """
    pool = request.engine.pool
    plane_bytes = 8 * shape_zyx[1] * shape_zyx[2]
    rows: list[_Row] = []
    workers: list[_Worker] = []

    def arrived(memory: memoryview, count: int) -> None:
        if not workers:
            rows.extend(_rows(memory, shape_zyx, block_zyx))
            n = min(len(rows), pool._max_workers)
            workers.extend(_Worker(pool, rows[i::n], wanted) for i in range(n))
        for worker in workers:
            worker.arrived(count // plane_bytes)

    try:
        received = await body.receive(_by_steps(arrived, 8 * plane_bytes))
        prepare.check_voxels(received, shape_zyx)
        await asyncio.gather(*(asyncio.wrap_future(worker.done) for worker in workers))
    finally:
        for worker in workers:
            worker.stop()
    return [one for row in rows for one in row.prepared]


def _by_steps(
    arrived: Callable[[memoryview, int], None], step: int
) -> Callable[[memoryview, int], None]:
    """Return what passes on only that another `step` of bytes has come."""
    told = 0

    def by_steps(memory: memoryview, count: int) -> None:
        nonlocal told
        if count // step > told:
            told = count // step
            arrived(memory, count)

    return by_steps


def _rows(memory: memoryview, shape_zyx: Triple, block_zyx: Triple) -> list[_Row]:
    """Return the rows of a volume, in ZYX order; long ones are several."""
    volume = np.frombuffer(memory, np.uint64).reshape(shape_zyx)
    (depth, height, width), (z, y, x) = shape_zyx, block_zyx
    return [
        _Row(volume, (z0, y0, x0), block_zyx, min(ROW_BLOCKS_MAX, (width - x0) // x))
        for z0 in range(0, depth, z)
        for y0 in range(0, height, y)
        for x0 in range(0, width, x * ROW_BLOCKS_MAX)
    ]
