"""Reading voxels: block streams, single blocks and raw boxes, as supervoxels and as bodies."""

import numpy as np
from numpy.typing import NDArray

from dvid_es.bench import wire
from dvid_es.bench.client import Answer
from dvid_es.bench.figures import Bar
from dvid_es.bench.target import Target
from dvid_es.bench.truth import fingerprint, first_difference
from dvid_es.bench.volume import BLOCK
from dvid_es.bench.workloads.base import Finding, Latency, Rate, Request
from dvid_es.bench.workloads.instances import agglomerated


def place_xyz(values: tuple[int, int, int]) -> str:
    """Return a size or an offset as URLs have it."""
    return "_".join(str(value) for value in values)


class GetBlocks(Latency):
    """All blocks as stored: a server may pass them through."""

    name = "get-blocks"
    title = "GET blocks, all, supervoxels"
    bar = Bar(1.5, 3.0)
    query = "supervoxels=true&"
    is_mapped = False

    def requests(self, target: Target) -> list[Request]:
        """Return the one GET."""
        name = agglomerated(target, self.data)
        size = place_xyz(self.data.shape_zyx[::-1])
        path = f"{name}/blocks/{size}/0_0_0?{self.query}compression=blocks"
        return [("GET", target.node(path), b"")]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare all voxels."""
        volume = wire.decode_stream(answer.body(), self.data.shape_zyx, BLOCK)
        want = self.data.supervoxels
        finding = Finding(fingerprint(volume))
        for z in range(0, len(want), BLOCK):
            slab = want[z : z + BLOCK]
            right = self.data.body_of[slab] if self.is_mapped else slab
            finding.add(first_difference(volume[z : z + BLOCK], right, f"voxels from z={z}"))
        return finding


class GetBlocksMapped(GetBlocks):
    """All blocks as bodies."""

    name = "get-blocks-mapped"
    title = "GET blocks, all, mapped"
    bar = Bar(10.0, 40.0)
    query = ""
    is_mapped = True


class GetBlockMapped(Rate):
    """Single blocks as bodies, 8 clients."""

    name = "get-block-mapped"
    title = "GET one block mapped, 8 clients"
    bar = Bar(4.0, 8.0)
    clients = 8

    def requests(self, target: Target) -> list[Request]:
        """Return a GET for each of up to 512 blocks."""
        name = agglomerated(target, self.data)
        size = place_xyz((BLOCK, BLOCK, BLOCK))
        found = []
        for x, y, z in self.data.blocks[:512]:
            offset = place_xyz((x * BLOCK, y * BLOCK, z * BLOCK))
            path = f"{name}/blocks/{size}/{offset}?compression=blocks"
            found.append(("GET", target.node(path), b""))
        return found

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare the voxels of the block that was asked for."""
        ((at, payload),) = wire.split_blocks(answer.body())
        voxels = wire.decode_block(payload, BLOCK)
        finding = Finding(fingerprint(voxels))
        if place_xyz((at[0] * BLOCK, at[1] * BLOCK, at[2] * BLOCK)) not in request[1]:
            finding.add(f"{request[1]}: block {at} came")
        want = self.data.body_of[self.data.block(at)]
        finding.add(first_difference(voxels, want, f"block {at}"))
        return finding


class GetRaw(Latency):
    """Boxes of voxels as bodies."""

    side = 64
    shift = 0
    """How far the boxes lie off the borders of blocks."""

    compressed = ""

    def requests(self, target: Target) -> list[Request]:
        """Return a GET for each of up to eight boxes."""
        name = agglomerated(target, self.data)
        found = []
        for offset in self._offsets():
            path = f"{name}/raw/0_1_2/{place_xyz(self._size())}/{place_xyz(offset)}"
            query = f"?compression={self.compressed}" if self.compressed else ""
            found.append(("GET", target.node(path + query), b""))
        return found

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare all voxels of the box."""
        size, offset = (
            [int(part) for part in words.split("_")]
            for words in request[1].partition("?")[0].split("/")[-2:]
        )
        got = wire.decode_raw(answer.body(), (size[2], size[1], size[0]), self.compressed)
        want = self._truth(size, offset)
        return Finding(
            fingerprint(got), [text for text in [first_difference(got, want, request[1])] if text]
        )

    def _truth(self, size: list[int], offset: list[int]) -> NDArray[np.uint64]:
        box = tuple(
            slice(start, start + length)
            for start, length in zip(offset[::-1], size[::-1], strict=True)
        )
        return self.data.body_of[self.data.supervoxels[box]]

    def _size(self) -> tuple[int, int, int]:
        z, y, x = (min(self.side, extent) for extent in self.data.shape_zyx)
        return x, y, z

    def _offsets(self) -> list[tuple[int, int, int]]:
        """Return up to eight corners, at a third and at two thirds of each axis, on block borders."""
        axes = []
        for extent, length in zip(self.data.shape_zyx[::-1], self._size(), strict=True):
            free = extent - length
            starts = {free * third // 3 // BLOCK * BLOCK + self.shift for third in (1, 2)}
            axes.append(sorted({min(start, free) for start in starts}))
        corners = [(x, y, z) for x in axes[0] for y in axes[1] for z in axes[2]]
        return corners if self.side <= BLOCK else corners[:1]


def _raw(side: int, compressed: str, shift: int, bar: Bar) -> type[GetRaw]:
    shifted = "-shifted" if shift else ""
    name = f"get-raw-{side}{shifted}" + (f"-{compressed}" if compressed else "")
    title = f"GET raw {side}^3{' across blocks' if shift else ''}, {compressed or 'uncompressed'}"
    members = {
        "name": name,
        "title": title,
        "side": side,
        "compressed": compressed,
        "shift": shift,
        "bar": bar,
        "__doc__": GetRaw.__doc__,
    }
    return type("GetRawBox", (GetRaw,), members)


VOXEL_READS = (
    GetBlocks,
    GetBlocksMapped,
    GetBlockMapped,
    _raw(64, "", 0, Bar(5.0, 10.0)),
    _raw(64, "lz4", 0, Bar(5.0, 10.0)),
    _raw(64, "gzip", 0, Bar(5.0, 10.0)),
    _raw(64, "", 32, Bar(5.0, 10.0)),
    _raw(256, "", 0, Bar(1.2, 1.7)),
    _raw(256, "lz4", 0, Bar(1.3, 2.0)),
    _raw(256, "gzip", 0, Bar(4.0, 7.0)),
)
