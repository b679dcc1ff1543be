"""The segmentation that a bench runs on: supervoxels, the bodies they belong to, and its blocks.

Whatever the source, supervoxels are numbered 1 ... n here, which makes every truth of the bench a
plain array index. A body is called by the smallest of its supervoxels, as it comes out when the
others are merged into that one.
"""

import gzip
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvid_es.bench.synthetic import voronoi
from dvid_es.codecs import compression, labelblock
from dvid_es.errors import InvalidRequest

BLOCK = 64
BOX = 128
"""Supervoxels of a file are its labels cut at the faces of boxes this wide."""

DENSE_ENOUGH = 1 << 20
"""Labels below this may index tables as they are."""

Volume = NDArray[np.uint64]


class Segmentation:
    """Supervoxels of a cube and their bodies."""

    def __init__(self, name: str, supervoxels: Volume, body_of: NDArray[np.uint64]) -> None:
        """Take the arrays as they are.

        Args:
            name: for the report.
            supervoxels: uint64[Z, Y, X], C order, 0 ... n, each axis a multiple of 64.
            body_of: uint64[n + 1]; the body of each supervoxel, 0 for 0.
        """
        self.name = name
        self.supervoxels = supervoxels
        self.body_of = body_of

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Extent in voxels."""
        z, y, x = self.supervoxels.shape
        return z, y, x

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """int64[n + 1]: voxels of each supervoxel; entry 0 is the background."""
        sizes = np.zeros(len(self.body_of), np.int64)
        for plane in self.supervoxels:
            sizes += np.bincount(plane.ravel().view(np.int64), minlength=len(sizes))
        return sizes

    @cached_property
    def present(self) -> list[int]:
        """The supervoxels that have voxels, ascending."""
        return [int(one) for one in np.flatnonzero(self.sizes) if one]

    @cached_property
    def members(self) -> dict[int, list[int]]:
        """The supervoxels of each body, ascending; those without voxels are left out."""
        members: dict[int, list[int]] = {}
        for supervoxel in self.present:
            members.setdefault(int(self.body_of[supervoxel]), []).append(supervoxel)
        return members

    @cached_property
    def blocks(self) -> list[tuple[int, int, int]]:
        """The coordinates of all blocks, ZYX order, as XYZ."""
        z, y, x = (extent // BLOCK for extent in self.shape_zyx)
        return [(i, j, k) for k in range(z) for j in range(y) for i in range(x)]

    def block(self, at_xyz: tuple[int, int, int]) -> Volume:
        """Return a view of the supervoxels of one block, uint64[64, 64, 64]."""
        x, y, z = (BLOCK * axis for axis in at_xyz)
        return self.supervoxels[z : z + BLOCK, y : y + BLOCK, x : x + BLOCK]

    @cached_property
    def stream(self) -> bytes:
        """All blocks as POST blocks wants them."""
        pieces = []
        for at in self.blocks:
            payload = compression.gzip_compress(labelblock.encode(self.block(at).copy()))
            pieces += [np.array([*at, len(payload)], "<i4").tobytes(), payload]
        return b"".join(pieces)


def load(source: str, size: int) -> Segmentation:
    """Return the segmentation that `--volume` names, cut to at most size^3.

    Args:
        source: `synthetic`, or a file .npy, .npy.gz or .npy.ckl.gz.
        size: voxels along each axis; rounded down to whole blocks.

    Raises:
        InvalidRequest: no such file, not a 3-d array of unsigned integers, or less than a block.
    """
    if source == "synthetic":
        if size < BLOCK:
            raise InvalidRequest(f"--size {size} is less than one block of {BLOCK}")
        return from_cells(voronoi(size // BLOCK * BLOCK))
    labels = read_labels(Path(source))
    shape = [min(extent, size) // BLOCK * BLOCK for extent in labels.shape]
    if not all(shape):
        raise InvalidRequest(
            f"{source} cut to {size} is {labels.shape} voxels: less than one block of {BLOCK}"
        )
    return from_bodies(Path(source).name, labels[: shape[0], : shape[1], : shape[2]])


def read_labels(path: Path) -> NDArray[np.unsignedinteger]:
    """Return the labels of a file as [Z, Y, X].

    An array in Fortran order is taken as X, Y, Z (the habit of that order), any other as Z, Y, X.

    Raises:
        InvalidRequest: unknown kind of file, unreadable, or not 3-d unsigned integers.
    """
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}")
    opener = gzip.open if path.name.endswith(".gz") else open
    kind = path.name.removesuffix(".gz")
    with opener(path, "rb") as file:
        if kind.endswith(".npy"):
            try:
                labels = np.load(file, allow_pickle=False)
            except ValueError as error:
                raise InvalidRequest(f"{path} is not an .npy file: {error}") from None
        elif kind.endswith(".ckl"):
            labels = _decompress_crackle(file.read(), path)
        else:
            raise InvalidRequest(f"{path}: use .npy, .npy.gz or .npy.ckl.gz")
    if labels.ndim != 3 or labels.dtype.kind != "u":
        raise InvalidRequest(
            f"{path} holds {labels.dtype} of {labels.ndim} axes: 3 axes of unsigned are needed"
        )
    is_xyz = labels.flags.f_contiguous and not labels.flags.c_contiguous
    return labels.transpose(2, 1, 0) if is_xyz else labels


def from_bodies(name: str, labels: NDArray[np.unsignedinteger]) -> Segmentation:
    """Return supervoxels made by cutting labels at the faces of 128-wide boxes.

    Args:
        name: for the report.
        labels: [Z, Y, X]; a label becomes a body, 0 stays background.
    """
    labels = _dense(labels)
    supervoxels = np.empty(labels.shape, np.uint64)
    body_of: list[NDArray[np.uint64]] = [np.zeros(1, np.uint64)]
    first_of: dict[int, int] = {}
    count = 1
    for z in range(0, labels.shape[0], BOX):
        for y in range(0, labels.shape[1], BOX):
            for x in range(0, labels.shape[2], BOX):
                box = (slice(z, z + BOX), slice(y, y + BOX), slice(x, x + BOX))
                present, numbers = _numbered(labels[box], count)
                supervoxels[box] = numbers
                for place, label in enumerate(present.tolist()):
                    first_of.setdefault(label, count + place)
                bodies = [first_of[label] for label in present.tolist()]
                body_of.append(np.array(bodies, np.uint64))
                count += len(present)
    return Segmentation(name, supervoxels, np.concatenate(body_of))


def from_cells(cells: Volume) -> Segmentation:
    """Return a segmentation whose supervoxels are the cells, eight neighbours in number a body."""
    counts = np.zeros(int(cells.max()) + 1, np.int64)
    for plane in cells:
        counts += np.bincount(plane.ravel().view(np.int64), minlength=len(counts))
    counts[0] = 0
    present = np.flatnonzero(counts)
    renumber = np.zeros(len(counts), np.uint64)
    renumber[present] = np.arange(1, len(present) + 1)
    body_of = np.zeros(len(present) + 1, np.uint64)
    body_of[1:] = np.arange(len(present)) // 8 * 8 + 1
    for plane in cells:
        plane[...] = renumber[plane]
    return Segmentation("synthetic", cells, body_of)


def _dense(labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return labels renumbered 1 ... n in their order, so that tables by label are small."""
    highest = int(labels.max())
    if highest < DENSE_ENOUGH:
        return labels
    if highest >= 1 << 28:
        present, places = np.unique(labels, return_inverse=True)
        dense = places.reshape(labels.shape).astype(np.uint32)
        return dense if present[0] == 0 else dense + np.uint32(1)
    seen = np.zeros(highest + 1, bool)
    for plane in labels:
        seen[plane] = True
    seen[0] = False
    table = np.cumsum(seen, dtype=np.uint32) * seen
    return np.stack([table[plane] for plane in labels])


def _numbered(
    box: NDArray[np.unsignedinteger], first: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the labels of a box, ascending and without 0, and the box with them numbered."""
    counts = np.bincount(box.ravel().astype(np.int64))
    counts[0] = 0
    present = np.flatnonzero(counts)
    table = np.zeros(len(counts), np.uint64)
    table[present] = np.arange(first, first + len(present), dtype=np.uint64)
    return present, table[box]


def _decompress_crackle(data: bytes, path: Path) -> NDArray[np.unsignedinteger]:
    try:
        crackle = import_module("crackle")
    except ImportError:
        raise InvalidRequest(
            f"{path} is compressed with crackle: pip install 'dvid-es[bench]' to read it"
        ) from None
    labels: NDArray[np.unsignedinteger] = crackle.decompress(data)
    return labels
