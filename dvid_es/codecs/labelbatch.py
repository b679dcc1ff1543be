"""Several label blocks at once: their tables behind each other, and their voxels in one box."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelbatch_kernels as kernels

Labels = NDArray[np.uint64]
Triple = tuple[int, int, int]
Buffer = bytes | bytearray | memoryview

# What numpy needs three microseconds for.
_address_of = ctypes.pythonapi.PyBytes_AsString
_address_of.argtypes = (ctypes.py_object,)
_address_of.restype = ctypes.c_void_p


class LabelBatch:
    """Validated label blocks."""

    def __init__(self, blocks: Sequence[Buffer]) -> None:
        """Read the tables of blocks, whose bytes nobody changes."""
        # A view keeps a bytearray from being moved.
        self.blocks = [block if isinstance(block, bytes) else memoryview(block) for block in blocks]
        self._addresses = np.array([_place(block) for block in self.blocks], np.int64)
        self._lengths = np.array([len(block) for block in blocks], np.int64)
        self.table_starts = np.empty(len(blocks) + 1, np.int64)
        """int64[n + 1]: the labels of block i are tables[table_starts[i] : table_starts[i + 1]]."""
        kernels.measure_tables(self._addresses, self._lengths, self.table_starts)
        self.tables = np.empty(self.table_starts[-1], np.uint64)
        """uint64[sum of N]: the label tables of all blocks behind each other."""
        kernels.gather_tables(self._addresses, self._lengths, self.table_starts, self.tables)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)

    def decode(
        self,
        tables: NDArray[Any],
        starts_zyx: NDArray[np.int64],
        out: NDArray[Any],
        out_start_zyx: Triple,
        *,
        clear: bool,
    ) -> int:
        """Write the voxels that the blocks share with a volume into it.

        Args:
            tables: what stands for `self.tables` in the volume: labels uint64, or names of them in uint8
                or uint16.
            starts_zyx: int64[n, 3]: place of each block's first voxel. Blocks do not overlap.
            out: [Z, Y, X], C order, of the type of `tables`.
            out_start_zyx: place of the volume's first voxel.
            clear: whether voxels outside of all blocks become 0; they stay as they are otherwise.

        Returns:
            How many voxels were written from blocks.
        """
        assert out.flags.c_contiguous, "volumes are in C order"
        assert out.dtype == tables.dtype, "voxels are of the type of the tables"
        assert tables.shape == self.tables.shape, "tables are replaced by ones of the same length"
        assert starts_zyx.shape == (len(self.blocks), 3), "each block has a place"
        written: int = kernels.paste_all(
            self._addresses,
            self._lengths,
            tables,
            self.table_starts,
            starts_zyx,
            out.reshape(-1),
            out_start_zyx,
            out.shape,
            clear,
        )
        return written


def _place(block: bytes | memoryview) -> int:
    """Return the address of a block's bytes."""
    if isinstance(block, bytes):
        return _address_of(block)
    return int(np.frombuffer(block, np.uint8).ctypes.data)
