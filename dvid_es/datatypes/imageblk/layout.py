"""What voxels of an instance are: their type, their blocks, how these are stored."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.geometry import Triple
from dvid_es.projections.catalog import Instance

BLOCK_BYTES_MAX = 1 << 26
"""Most bytes of a block, such as 256 x 256 x 256 voxels of 32 bits."""

JPEG_HEIGHT_MAX = 65_500


class Kind(NamedTuple):
    """One of the types of voxels."""

    dtype: np.dtype[Any]
    """Of a whole voxel; channels lie in its bytes, the first one lowest."""

    values: tuple[tuple[str, str], ...]
    """DataType and Label of each channel, as info shows them."""

    version: str
    file: str
    """Name in the URL of the type."""


def _plain(name: str, dtype: str, version: str = "0.1") -> Kind:
    return Kind(np.dtype(dtype), ((name, name),), version, f"{name}.go")


KINDS = {
    "uint8blk": _plain("uint8", "u1", "0.2"),
    "uint16blk": _plain("uint16", "<u2"),
    "uint32blk": _plain("uint32", "<u4"),
    "uint64blk": _plain("uint64", "<u8"),
    "float32blk": _plain("float32", "<f4"),
    "rgba8blk": Kind(
        np.dtype("<u4"),
        tuple(("uint8", label) for label in ("red", "green", "blue", "alpha")),
        "0.2",
        "rgba8.go",
    ),
}
"""By name of the datatype. Source: uint8.go, uint16.go ... in datatype/imageblk (janelia-flyem/dvid)."""


class Layout(NamedTuple):
    """How the voxels of an instance lie in their blocks."""

    dtype: np.dtype[Any]
    shape_zyx: Triple
    form: str
    """Of stored blocks: see codecs/voxelblock.py."""

    background: NDArray[Any]
    """The voxel, a scalar, that stands for what is not there."""

    channels: int
    """4 for colours, whose channels are bytes."""

    @property
    def block_bytes(self) -> int:
        """Bytes of the voxels of a block."""
        return self.dtype.itemsize * math.prod(self.shape_zyx)


def layout(instance: Instance) -> Layout:
    """Return the layout of an instance."""
    kind = KINDS[instance.typename]
    x, y, z = instance.settings["BlockSize"]
    background = np.array(instance.settings["Background"], kind.dtype)
    if len(kind.values) > 1:
        background = background * np.array(0x01010101, kind.dtype)
    return Layout(kind.dtype, (z, y, x), _form(instance, kind), background, len(kind.values))


def _form(instance: Instance, kind: Kind) -> str:
    """Return how blocks are stored.

    JPEG ruins what is not one byte for each voxel, as it does in DVID: those volumes have LZ4.
    """
    name = instance.compression.partition(" ")[0].lower()
    if name == "jpeg" and kind.dtype.itemsize > 1:
        return "lz4"
    return {"no": "none", "go": "snappy"}.get(name, name)
