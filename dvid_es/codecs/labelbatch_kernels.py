"""Kernels over several label blocks at once: one call from Python instead of one for each block.

The blocks are objects of their own, so their addresses are given; whoever calls keeps them alive.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from dvid_es.codecs.kernel import (
    i64,
    i64_out,
    kernel,
    load32,
    load64,
    u8,
    u8_out,
    u16,
    u16_out,
    u64,
    u64_out,
)
from dvid_es.codecs.labelblock_kernels import paste_box

_places = types.Array(types.int64, 2, "C", readonly=True)
_triple = types.UniTuple(types.int64, 3)


@intrinsic
def bytes_at(typingctx: Any, address: Any, length: Any) -> Any:
    """Return the bytes at an address as an array that does not keep them alive."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.return_type)(context, builder)
        one = ir.Constant(ir.IntType(64), 1)
        populate_array(
            array,
            data=builder.inttoptr(args[0], array.data.type),
            shape=cgutils.pack_array(builder, [args[1]]),
            strides=cgutils.pack_array(builder, [one]),
            itemsize=one,
            meminfo=None,
        )
        return array._getvalue()

    return u8(types.int64, types.int64), generate


@kernel(types.void(i64, i64, i64_out))
def measure_tables(addresses, lengths, table_starts):
    """Write where the table of each block begins in one list of all; n + 1 places."""
    total = 0
    for i in range(len(addresses)):
        table_starts[i] = total
        total += load32(bytes_at(addresses[i], lengths[i]), 12)
    table_starts[len(addresses)] = total


@kernel(types.void(i64, i64, i64, u64_out))
def gather_tables(addresses, lengths, table_starts, out):
    """Write the labels of all blocks behind each other."""
    for i in range(len(addresses)):
        data = bytes_at(addresses[i], lengths[i])
        first = table_starts[i]
        for k in range(first, table_starts[i + 1]):
            out[k] = load64(data, 16 + 8 * (k - first))


@kernel(
    *(
        types.int64(i64, i64, table, i64, _places, out, _triple, _triple, types.boolean)
        for table, out in ((u64, u64_out), (u8, u8_out), (u16, u16_out))
    )
)
def paste_all(addresses, lengths, tables, table_starts, starts, out, start, shape, clear):
    """Write the labels, or names of labels, that blocks share with a larger volume into it.

    Args:
        addresses: of the blocks, which do not overlap in space.
        lengths: bytes of each.
        tables: the labels or names to use in place of their own, behind each other.
        table_starts: where the table of each begins, and the last one ends.
        starts: int64[n, 3]: place of each block's first voxel, ZYX.
        out: flat volume.
        start: place of its first voxel.
        shape: its extent.
        clear: whether voxels outside of all blocks become 0; they stay as they are otherwise.

    Returns:
        How many voxels were written from blocks.
    """
    side_z, side_y, side_x = shape
    count = len(addresses)
    boxes = [(0, 0, 0, 0, 0, 0) for _ in range(count)]
    written = 0
    for i in range(count):
        data = bytes_at(addresses[i], lengths[i])
        z, y, x = starts[i, 0] - start[0], starts[i, 1] - start[1], starts[i, 2] - start[2]
        z0, z1 = max(0, -z), min(8 * load32(data, 8), side_z - z)
        y0, y1 = max(0, -y), min(8 * load32(data, 4), side_y - y)
        x0, x1 = max(0, -x), min(8 * load32(data, 0), side_x - x)
        boxes[i] = (z0, z1, y0, y1, x0, x1)
        written += max(0, z1 - z0) * max(0, y1 - y0) * max(0, x1 - x0)
    if clear and written < len(out):
        out[:] = 0
    for i in range(count):
        z0, z1, y0, y1, x0, x1 = boxes[i]
        if z0 < z1 and y0 < y1 and x0 < x1:
            data = bytes_at(addresses[i], lengths[i])
            table = tables[table_starts[i] : table_starts[i + 1]]
            z, y, x = starts[i, 0] - start[0], starts[i, 1] - start[1], starts[i, 2] - start[2]
            origin = (z * side_y + y) * side_x + x
            paste_box(data, table, boxes[i], out, origin, side_y * side_x, side_x)
    return written
