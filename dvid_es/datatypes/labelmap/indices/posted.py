"""Posted protobuf messages about bodies, as arrays."""

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from dvid_es.codecs import messages_pb2
from dvid_es.errors import InvalidRequest

Labels = NDArray[np.uint64]


def parse_mappings(body: bytes) -> tuple[Labels, Labels]:
    """Return the entries of a MappingOps message: supervoxels, ascending, and their bodies.

    The last of several entries of a supervoxel counts; entries of 0 are left out.

    Raises:
        InvalidRequest: not such a message.
    """
    message = messages_pb2.MappingOps()
    try:
        message.ParseFromString(body)
    except DecodeError as problem:
        raise InvalidRequest(f"not a MappingOps message: {problem}") from None
    pieces = [np.array(op.original, np.uint64) for op in message.mappings]
    if not pieces:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    svs = np.concatenate(pieces)
    mapped = np.array([op.mapped for op in message.mappings], np.uint64)
    labels = np.repeat(mapped, [len(piece) for piece in pieces])
    # np.unique keeps the first of equals, so the last comes first.
    distinct, places = np.unique(svs[::-1], return_index=True)
    labels = labels[::-1][places]
    if (labels == np.uint64(2**64 - 1)).any():
        raise InvalidRequest("no supervoxel can be mapped to label 2^64 - 1: it stands for none")
    there = distinct != 0
    return distinct[there], labels[there]
