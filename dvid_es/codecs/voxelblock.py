"""Blocks of plain voxels as DVID stores them, without the descriptor and checksum in front.

Forms: "none", "lz4" (size as u32, little endian, then an LZ4 block), "gzip", "snappy", and "jpeg" (a
grey picture as wide as the block, its planes under each other, quality 80), which loses something.

Source: SerializeData in dvid/serialize.go (janelia-flyem/dvid).
"""

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import images, snappy
from dvid_es.codecs.compression import (
    Buffer,
    gzip_compress,
    gzip_decompress,
    lz4_block_compress,
    lz4_block_decompress,
)
from dvid_es.errors import CorruptStore, InvalidRequest

FORMS = ("none", "lz4", "gzip", "snappy", "jpeg")

_JPEG = images.Format("image/jpeg")


def encode(voxels: Buffer, form: str, width: int) -> bytes:
    """Return the stored form of a block.

    Args:
        voxels: all bytes of the block.
        form: one of FORMS; "jpeg" only for voxels of one byte.
        width: voxels of a row, for "jpeg".
    """
    if form == "none":
        return bytes(voxels)
    if form == "lz4":
        return len(voxels).to_bytes(4, "little") + lz4_block_compress(voxels)
    if form == "gzip":
        return gzip_compress(voxels)
    if form == "snappy":
        return snappy.compress(voxels)
    assert form == "jpeg", form
    return images.encode(np.frombuffer(voxels, np.uint8).reshape(-1, width), _JPEG)


def decode(stored: bytes, form: str, size: int) -> NDArray[np.uint8]:
    """Return the voxels of a stored block as uint8[size].

    Raises:
        CorruptStore: it is not a block of this form and size.
    """
    try:
        if form == "lz4":
            data: Buffer = lz4_block_decompress(memoryview(stored)[4:], size)
        elif form == "gzip":
            data = gzip_decompress(stored, size)
        elif form == "snappy":
            data = snappy.decompress(stored, size)
        elif form == "jpeg":
            return _right_size(images.decode_grey(stored).reshape(-1), size)
        else:
            data = stored
    except InvalidRequest as problem:
        raise CorruptStore(f"a stored block of voxels cannot be read: {problem}") from None
    return _right_size(np.frombuffer(data, np.uint8), size)


def _right_size(voxels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if len(voxels) != size:
        raise CorruptStore(f"a stored block has {len(voxels)} bytes of voxels and not {size}")
    return voxels
