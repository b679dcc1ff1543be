"""Run kernels over hostile bytes that end exactly where unreadable memory begins.

A read out of bounds ends this process with SIGSEGV: `test_bounds.py` runs it and looks at how it
ended. `python -m tests.codecs.guarded overrun` reads one byte too far on purpose.
"""

import contextlib
import ctypes
import mmap
import struct
import sys

import numpy as np
from numba import njit, types

from dvid_es.codecs import (
    compression,
    downres,
    labelblock,
    labelindex,
    labellz4,
    messages_pb2,
    neuroglancer,
    rle,
    snappy,
    storedblock,
)
from dvid_es.codecs.kernel import load64, u8
from dvid_es.codecs.labelbatch import LabelBatch
from dvid_es.errors import DvidError, InvalidRequest
from tests.codecs.volumes import mixed, noise

PAGES = 64


class Guarded:
    """Memory whose last byte lies before a page that must not be read."""

    def __init__(self) -> None:
        """Map the pages and close the last one."""
        size = (PAGES + 1) * mmap.PAGESIZE
        self.memory = mmap.mmap(-1, size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if libc.mprotect(address + PAGES * mmap.PAGESIZE, mmap.PAGESIZE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
        self.limit = PAGES * mmap.PAGESIZE

    def place(self, data: bytes) -> memoryview:
        """Copy bytes to the end of what may be read."""
        view = memoryview(self.memory)[self.limit - len(data) : self.limit]
        view[:] = data
        return view


def use_block(data: memoryview) -> None:
    """Validate a block and run every kernel that reads blocks."""
    length = labelblock.validate(data)
    if np.prod(labelblock.shape(data), dtype=np.int64) > 2**18:
        return
    # What lies behind a block is readable, so a block is only tested if it fills its bytes.
    if length != len(data):
        return
    volume = labelblock.decode(data)
    z, y, x = volume.shape
    out = np.empty((z - 1, y + 3, x), np.uint64)
    batch, start = LabelBatch([data]), np.array([(1, 2, 3)], np.int64)
    batch.decode(batch.tables, start, out, (2, 4, 6), clear=True)
    labellz4.compress(batch, batch.tables, start, (0, 0, 0), out.shape)
    labelblock.counts(data)
    points = np.indices(volume.shape, np.int32).reshape(3, -1).T[::61].copy()
    labelblock.labels_at(data, points)
    flags = np.arange(len(labelblock.table(data)), dtype=np.uint8) % np.uint8(2)
    rle.runs_of(data, flags, (0, 0, 0))
    rle.binary_block(data, flags, (0, 0, 0))
    neuroglancer.encode_block(data)
    if not (z | y | x) & 15:
        downres.downres_block([data] * 8, None, (z, y, x))
    storedblock.load(storedblock.store(data))


def blocks() -> list[bytes]:
    """Return valid blocks of many kinds."""
    return [
        labelblock.encode(noise(1, 2, (8, 8, 16))),
        labelblock.encode(noise(2, 3, (16, 16, 16))),
        labelblock.encode(mixed(3, (16, 16, 16))),
        labelblock.encode(noise(4, 512, (8, 8, 8))),
        labelblock.encode(noise(5, 7, (8, 8, 8))),
        struct.pack("<4I2Q2HI", 2, 1, 1, 2, 5, 6, 0, 1, 0),
        labelblock.solid(5, (16, 16, 16)),
    ]


def index_message() -> bytes:
    """Return a LabelIndex of two blocks."""
    message = messages_pb2.LabelIndex(label=9, last_mutid=2**40, last_mod_user="user")
    message.blocks[5].counts.update({1: 2, 2**40: 3})
    message.blocks[2**50].surface_mutid = 8
    return message.SerializeToString()


def targets():
    """Pairs of a function that takes hostile bytes, and bytes to start from."""
    for block in blocks():
        yield use_block, block
        yield storedblock.load, storedblock.store(block)
        yield storedblock.gzip_member, storedblock.store(block)
        yield (
            lambda data: compression.gzip_decompress(data, 100_000),
            compression.gzip_compress(block),
        )
        lz4 = compression.lz4_block_compress(block)
        yield lambda data: compression.lz4_block_decompress(data, 100_000), lz4
        size = len(block)
        yield lambda data, size=size: snappy.decompress(data, size), snappy.compress(block)
    segmentation = neuroglancer.encode(mixed(6, (8, 16, 16)))
    yield lambda data: neuroglancer.decode(data, (8, 16, 16)), segmentation
    yield labelindex.decode, index_message()
    yield labelindex.decode_all, labelindex.encode_all([index_message()] * 2)
    yield rle.parse_legacy, rle.encode_legacy(np.array([(1, 2, 3, 4)] * 3, np.int32))


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one to three bytes, most often early ones, and cut one in four."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        limit = len(data) if rng.random() < 0.4 else min(len(data), 80)
        changed[int(rng.integers(0, limit))] = int(rng.choice([0, 1, 2, 3, 127, 128, 255]))
    if rng.random() < 0.25:
        del changed[int(rng.integers(0, len(changed))) :]
    return bytes(changed)


def main(rounds: int) -> None:
    """Use every target as it is, and mutated."""
    memory = Guarded()
    rng = np.random.default_rng(1)
    refused = 0
    total = 0
    for use, data in targets():
        use(memory.place(data))
        for length in range(min(len(data), 120)):
            with contextlib.suppress(InvalidRequest, DvidError):
                use(memory.place(data[:length]))
        for _ in range(rounds):
            total += 1
            try:
                use(memory.place(mutate(data, rng)))
            except DvidError:
                refused += 1
    print(f"{total} inputs, {refused} refused")


if __name__ == "__main__":
    if sys.argv[1] == "overrun":
        njit(types.uint64(u8))(lambda data: load64(data, len(data) - 7))(
            np.frombuffer(Guarded().place(bytes(16)), np.uint8)
        )
    else:
        main(int(sys.argv[1]))
