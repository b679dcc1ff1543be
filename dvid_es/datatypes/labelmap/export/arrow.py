"""Label blocks as Arrow: one IPC stream in a file, whose messages can be read one by one.

Source: blockSchema and shardWriter in datatype/labelmap/export.go (janelia-flyem/dvid).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Labels = NDArray[np.uint64]

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

_LIST = pa.list_(pa.uint64())
SCHEMA = pa.schema(
    [
        pa.field("chunk_x", pa.int32(), nullable=False),
        pa.field("chunk_y", pa.int32(), nullable=False),
        pa.field("chunk_z", pa.int32(), nullable=False),
        pa.field("labels", _LIST, nullable=False),
        pa.field("supervoxels", _LIST, nullable=False),
        pa.field(
            "dvid_compressed_block",
            pa.binary(),
            nullable=False,
            metadata={"compression": "true", "codec": "zstd"},
        ),
        pa.field("uncompressed_size", pa.uint32(), nullable=False),
    ]
)


class Row(NamedTuple):
    """One block."""

    block_xyz: tuple[int, int, int]
    bodies: Labels
    supervoxels: Labels
    """Both in the order of the block's label table."""

    block: bytes
    """The label block."""


def schema_message() -> bytes:
    """Return the first message of a stream."""
    return bytes(SCHEMA.serialize())


def batch_message(rows: Sequence[Row]) -> bytes:
    """Return the message that holds some blocks, each as zstd of its label block."""
    coords = np.array([row.block_xyz for row in rows], np.int32)
    columns = [pa.array(np.ascontiguousarray(coords[:, axis])) for axis in range(3)]
    columns += [_lists([row.bodies for row in rows]), _lists([row.supervoxels for row in rows])]
    packed = [pa.compress(row.block, codec="zstd", asbytes=True) for row in rows]
    columns.append(pa.array(packed, pa.binary()))
    columns.append(pa.array([len(row.block) for row in rows], pa.uint32()))
    return bytes(pa.record_batch(columns, schema=SCHEMA).serialize())


def _lists(values: Sequence[Labels]) -> pa.Array:
    ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values)), type=_LIST)
