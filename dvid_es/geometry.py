"""Boxes and block grids: half-open and ZYX inside, XYZ only on the wire.

The one turn between the two orders is `from_xyz` / `to_xyz`.
"""

from collections.abc import Iterator
from typing import NamedTuple

Triple = tuple[int, int, int]


def from_xyz(point_xyz: Triple) -> Triple:
    """Return a wire coordinate in ZYX order."""
    x, y, z = point_xyz
    return z, y, x


def to_xyz(point_zyx: Triple) -> Triple:
    """Return an inner coordinate in XYZ order."""
    z, y, x = point_zyx
    return x, y, z


class Box(NamedTuple):
    """A half-open box, in voxels or in blocks."""

    start_zyx: Triple
    """First corner, inclusive."""

    stop_zyx: Triple
    """Last corner, exclusive."""

    @classmethod
    def from_offset_size(cls, offset_xyz: Triple, size_xyz: Triple) -> "Box":
        """Return the box of a DVID request: offset and size, XYZ."""
        start = from_xyz(offset_xyz)
        shape = from_xyz(size_xyz)
        return cls(start, (start[0] + shape[0], start[1] + shape[1], start[2] + shape[2]))

    @property
    def shape_zyx(self) -> Triple:
        """Extent of each axis."""
        start, stop = self
        return stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]

    @property
    def volume(self) -> int:
        """Number of voxels (or blocks)."""
        z, y, x = self.shape_zyx
        return z * y * x

    @property
    def max_xyz(self) -> Triple:
        """DVID's MaxPoint: the last corner, inclusive, XYZ."""
        z, y, x = self.stop_zyx
        return x - 1, y - 1, z - 1

    def first_from(self, at_zyx: Triple) -> Triple | None:
        """Return the first place of this box at or after one, Z slowest; None if there is none."""
        (z0, y0, x0), (z1, y1, x1) = self
        if z0 >= z1 or y0 >= y1 or x0 >= x1:
            return None
        z, y, x = at_zyx
        if z < z0:
            return z0, y0, x0
        if y < y0:
            y, x = y0, x0
        x = max(x, x0)
        if x >= x1:
            y, x = y + 1, x0
        if y >= y1:
            z, y, x = z + 1, y0, x0
        return (z, y, x) if z < z1 else None

    def blocks(self, block_zyx: Triple) -> "Box":
        """Return the box of blocks that cover this box of voxels (floor division)."""
        (z0, y0, x0), (z1, y1, x1) = self
        z, y, x = block_zyx
        return Box((z0 // z, y0 // y, x0 // x), (-(-z1 // z), -(-y1 // y), -(-x1 // x)))

    def is_aligned(self, block_zyx: Triple) -> bool:
        """Say whether all corners lie on block borders."""
        (z0, y0, x0), (z1, y1, x1) = self
        z, y, x = block_zyx
        return not (z0 % z or y0 % y or x0 % x or z1 % z or y1 % y or x1 % x)

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        start = tuple(min(a, b) for a, b in zip(self.start_zyx, other.start_zyx, strict=True))
        stop = tuple(max(a, b) for a, b in zip(self.stop_zyx, other.stop_zyx, strict=True))
        return Box(start, stop)  # type: ignore[arg-type]

    def points(self) -> Iterator[Triple]:
        """Iterate over all coordinates, Z slowest."""
        (z0, y0, x0), (z1, y1, x1) = self
        for z in range(z0, z1):
            for y in range(y0, y1):
                for x in range(x0, x1):
                    yield z, y, x
