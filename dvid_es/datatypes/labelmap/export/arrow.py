"""Label blocks as Arrow: one IPC stream in a file, whose messages can be read one by one.

Source: blockSchema and shardWriter in datatype/labelmap/export.go (janelia-flyem/dvid).
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Labels = NDArray[np.uint64]

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class Row(NamedTuple):
    """One block."""

    block_xyz: tuple[int, int, int]
    bodies: Labels
    supervoxels: Labels
    """Both in the order of the block's label table."""

    block: bytes
    """The label block."""


@cache
def schema() -> "pa.Schema":
    """Return the columns of a shard. pyarrow is imported with the first export, not with the server."""
    import pyarrow as pa

    labels = pa.list_(pa.uint64())
    packed = {"compression": "true", "codec": "zstd"}
    return pa.schema(
        [
            pa.field("chunk_x", pa.int32(), nullable=False),
            pa.field("chunk_y", pa.int32(), nullable=False),
            pa.field("chunk_z", pa.int32(), nullable=False),
            pa.field("labels", labels, nullable=False),
            pa.field("supervoxels", labels, nullable=False),
            pa.field("dvid_compressed_block", pa.binary(), nullable=False, metadata=packed),
            pa.field("uncompressed_size", pa.uint32(), nullable=False),
        ]
    )


def schema_message() -> bytes:
    """Return the first message of a stream."""
    return bytes(schema().serialize())


def batch_message(rows: Sequence[Row]) -> bytes:
    """Return the message that holds some blocks, each as zstd of its label block."""
    import pyarrow as pa

    coords = np.array([row.block_xyz for row in rows], np.int32)
    columns = [pa.array(np.ascontiguousarray(coords[:, axis])) for axis in range(3)]
    columns += [_lists([row.bodies for row in rows]), _lists([row.supervoxels for row in rows])]
    packed = [pa.compress(row.block, codec="zstd", asbytes=True) for row in rows]
    columns.append(pa.array(packed, pa.binary()))
    columns.append(pa.array([len(row.block) for row in rows], pa.uint32()))
    return bytes(pa.record_batch(columns, schema=schema()).serialize())


def _lists(values: Sequence[Labels]) -> "pa.Array":
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(ends), pa.array(np.concatenate(values)), type=pa.list_(pa.uint64())
    )
