"""The scales of a precomputed volume: where they lie, what `info` says of them, names of chunks.

A volume is the box of whole blocks around the extents, and its chunks are the blocks, so a chunk is never
cut. Source: the description of the format in google/neuroglancer, src/datasource/precomputed.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import extents
from dvid_es.errors import NotFound
from dvid_es.geometry import Box, Triple, from_xyz
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

COMPRESSED = "compressed_segmentation"
RAW = "raw"

_NANOMETERS = {
    "m": 1e9, "mm": 1e6, "um": 1e3, "µm": 1e3, "nm": 1.0,
    "meters": 1e9, "millimeters": 1e6, "micrometers": 1e3, "microns": 1e3, "nanometers": 1.0,
}  # fmt: skip
"""Of each unit; what is not listed is taken for nanometers."""

_CHUNK = re.compile(r"_".join([r"(-?[0-9]{1,10})-(-?[0-9]{1,10})"] * 3) + r"\Z")


class Scale(NamedTuple):
    """One scale of a volume."""

    number: int
    blocks: Box
    """Of this scale, in blocks."""

    shape_zyx: Triple
    """Of a block, in voxels."""

    resolution_xyz: tuple[float, ...]
    """Of a voxel, in nanometers."""

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"s{self.number}"

    @property
    def offset_xyz(self) -> list[int]:
        """First voxel."""
        corners = zip(self.blocks.start_zyx, self.shape_zyx, strict=True)
        return [at * side for at, side in corners][::-1]

    @property
    def size_xyz(self) -> list[int]:
        """In voxels."""
        corners = zip(self.blocks.shape_zyx, self.shape_zyx, strict=True)
        return [count * side for count, side in corners][::-1]

    @property
    def grid_xyz(self) -> Triple:
        """In chunks."""
        z, y, x = self.blocks.shape_zyx
        return x, y, z

    def info(self, encoding: str = COMPRESSED, sharding: dict[str, Any] | None = None) -> Any:
        """Return what `info` says of it."""
        found: dict[str, Any] = {
            "key": self.key,
            "size": self.size_xyz,
            "voxel_offset": self.offset_xyz,
            "resolution": [_plain(side) for side in self.resolution_xyz],
            "chunk_sizes": [list(self.shape_zyx[::-1])],
            "encoding": encoding,
        }
        if encoding == COMPRESSED:
            found["compressed_segmentation_block_size"] = [8, 8, 8]
        if sharding is not None:
            found["sharding"] = sharding
        return found


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def scales_of(txn: ReadTxn, instance: Instance, view: View) -> list[Scale]:
    """Return all scales that an instance keeps, the finest first.

    Raises:
        NotFound: the version has no extents, so no volume.
    """
    box = extents.read(txn, instance, view)
    if box is None:
        raise NotFound(
            f'data "{instance.name}" has no extents at this version: write voxels or POST extents'
        )
    settings = instance.settings
    shape = block_shape(instance)
    low, high = from_xyz(box[:3]), from_xyz(box[3:])  # type: ignore[arg-type]
    sizes = [
        size * _NANOMETERS.get(str(unit).lower(), 1.0)
        for size, unit in zip(settings["VoxelSize"], settings["VoxelUnits"], strict=True)
    ]
    found = []
    for number in range(settings["MaxDownresLevel"] + 1):
        start = tuple((at >> number) // side for at, side in zip(low, shape, strict=True))
        stop = tuple((at >> number) // side + 1 for at, side in zip(high, shape, strict=True))
        resolution = tuple(size * 2**number for size in sizes)
        found.append(Scale(number, Box(start, stop), shape, resolution))  # type: ignore[arg-type]
    return found


def volume_info(scales: Sequence[Any]) -> dict[str, Any]:
    """Return `info` of a volume with these descriptions of its scales."""
    return {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation",
        "data_type": "uint64",
        "num_channels": 1,
        "scales": list(scales),
    }


def parse_chunk(name: str, scale: Scale) -> Box:
    """Return the voxels of a chunk such as 0-64_128-192_0-64 (x, y, z).

    Raises:
        NotFound: no chunk of this scale has this name.
    """
    parsed = _CHUNK.match(name)
    if parsed is not None:
        numbers = [int(number) for number in parsed.groups()]
        (x0, x1, y0, y1, z0, z1) = numbers
        box = Box((z0, y0, x0), (z1, y1, x1))
        if box.shape_zyx == scale.shape_zyx and box.is_aligned(scale.shape_zyx):
            block = box.blocks(scale.shape_zyx).start_zyx
            start, stop = scale.blocks
            if all(a <= b < c for a, b, c in zip(start, block, stop, strict=True)):
                return box
    raise NotFound(f'scale {scale.key} has no chunk "{name}"')
