"""Voxels as they are read: blocks found in one transaction, then fetched and decoded in threads."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import voxelblock
from dvid_es.datatypes.imageblk.layout import Layout
from dvid_es.events import Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.ids import PackRef
from dvid_es.logs.base import Packs

Coords = NDArray[np.int32]
Voxels = NDArray[Any]


class Found:
    """Blocks that a read found: what it takes to fetch them once its transaction is over."""

    def __init__(
        self,
        packs: Packs,
        layout: Layout,
        coords_zyx: Coords,
        blocks: Sequence[Bulk],
        inside: NDArray[np.bool_] | None = None,
    ) -> None:
        """Keep blocks int32[n, 3]; those not `inside` (bool[n]) are shown as background."""
        self.packs = packs
        self.layout = layout
        self.coords_zyx = coords_zyx
        self.blocks = blocks
        self.inside = inside

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)

    def part(self, start: int, stop: int) -> "Found":
        """Return some of the blocks."""
        inside = None if self.inside is None else self.inside[start:stop]
        coords = self.coords_zyx[start:stop]
        return Found(self.packs, self.layout, coords, self.blocks[start:stop], inside)

    @cached_property
    def lengths(self) -> list[int]:
        """Bytes of each block as it is stored."""
        return [block.length if isinstance(block, PackRef) else len(block) for block in self.blocks]

    @cached_property
    def _places(self) -> dict[tuple[int, ...], int]:
        return {tuple(at): place for place, at in enumerate(self.coords_zyx.tolist())}

    @property
    def are_inline(self) -> bool:
        """Whether nothing is to be fetched."""
        return not any(isinstance(block, PackRef) for block in self.blocks)

    def stored(self) -> list[bytes]:
        """Return the blocks as they are stored; packs verify what they give."""
        refs = [block for block in self.blocks if isinstance(block, PackRef)]
        fetched = iter(self.packs.get_many(refs)) if refs else iter(())
        return [next(fetched) if isinstance(block, PackRef) else block for block in self.blocks]

    def decoded(self) -> Iterator[Voxels]:
        """Iterate over the voxels of the blocks, each [Z, Y, X]; masks are not looked at."""
        form, shape, dtype = self.layout.form, self.layout.shape_zyx, self.layout.dtype
        size = self.layout.block_bytes
        for block in self.stored():
            yield voxelblock.decode(block, form, size).view(dtype).reshape(shape)

    def read(self, box: Box, out: Voxels | None = None) -> Voxels:
        """Return a box of voxels [Z, Y, X], in `out` if given; what is not stored is 0."""
        whole = len(self) == box.blocks(self.layout.shape_zyx).volume
        if out is None:
            out = (np.empty if whole else np.zeros)(box.shape_zyx, self.layout.dtype)
        elif not whole:
            out[:] = 0
        self.paste(box, out)
        return out

    def paste(self, box: Box, out: Voxels) -> None:
        """Write the voxels that blocks share with a box into it; others stay as they are."""
        found = self
        if self.inside is not None and not self.inside.all():
            for at in self.coords_zyx[~self.inside].tolist():
                target, _ = _shared(at, self.layout.shape_zyx, box)
                out[target] = self.layout.background
            places = np.flatnonzero(self.inside).tolist()
            chosen = [self.blocks[place] for place in places]
            found = Found(self.packs, self.layout, self.coords_zyx[places], chosen)
        for at, voxels in zip(found.coords_zyx.tolist(), found.decoded(), strict=True):
            target, source = _shared(at, self.layout.shape_zyx, box)
            out[target] = voxels[source]

    def chosen(self, coords_zyx: Coords) -> "Found":
        """Return those of int32[n, 3] that are there, in this order."""
        known = self._places
        places = [known[at] for at in map(tuple, coords_zyx.tolist()) if at in known]
        blocks = [self.blocks[place] for place in places]
        return Found(self.packs, self.layout, self.coords_zyx[places], blocks)

    def places_in(self, coords_zyx: Coords) -> list[int]:
        """Return where each of the blocks is in int32[n, 3], which hold them all."""
        places = {tuple(at): place for place, at in enumerate(coords_zyx.tolist())}
        return [places[tuple(at)] for at in self.coords_zyx.tolist()]

    def layers(self, box: Box) -> Iterator[tuple["Found", Box]]:
        """Cut a box of voxels into those that one layer of blocks holds each."""
        side = self.layout.shape_zyx[0]
        (z, y0, x0), (end, y1, x1) = box
        all_layers = self.coords_zyx[:, 0]
        while z < end:
            stop = min(end, (z // side + 1) * side)
            first, last = np.searchsorted(all_layers, (z // side, z // side + 1)).tolist()
            yield self.part(first, last), Box((z, y0, x0), (stop, y1, x1))
            z = stop


def _shared(
    block_zyx: Sequence[int], shape_zyx: Triple, box: Box
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return what a block and a box share, as slices of the box and of the block."""
    target, source = [], []
    for at, side, start, stop in zip(block_zyx, shape_zyx, *box, strict=True):
        first, last = max(at * side, start), min((at + 1) * side, stop)
        target.append(slice(first - start, last - start))
        source.append(slice(first - at * side, last - at * side))
    return tuple(target), tuple(source)
