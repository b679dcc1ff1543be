"""Connections as clients hold them: kept open, with their headers and the query options of each."""

from __future__ import annotations

import http.client
import json
import struct
import urllib.parse
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from dvid_es.codecs import messages_pb2
from tests.datatypes.labelmap import voxel_oracle as oracle

Volume = np.ndarray
SIDE = 64


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Session:
    """One kept-open connection; `query` goes with every request, as all clients do it."""

    def __init__(self, port: int, headers: dict[str, str], **query: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = headers
        self.query = query

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        together = urllib.parse.urlencode({**self.query, **query})
        path += ("&" if "?" in path else "?") + together if together else ""
        self.connection.request(method, path, body, {**self.headers, **(headers or {})})
        answer = self.connection.getresponse()
        content = answer.read()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, content)

    def ok(self, method: str, path: str, body: bytes | None = None, **more: Any) -> Reply:
        reply = self.send(method, path, body, **more)
        assert reply.status == 200, f"{method} {path}: {reply.status} {reply.content[:400]!r}"
        return reply

    def json(self, method: str, path: str, value: Any, **query: Any) -> Reply:
        headers = {"Content-Type": "application/json"}
        return self.ok(method, path, json.dumps(value).encode(), headers=headers, **query)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.connection.close()


def underscored(xyz: Any) -> str:
    return "_".join(str(int(n)) for n in xyz)


def boxed(box_zyx: Any) -> str:
    """The size and offset of a box in a path."""
    start, stop = (np.asarray(corner)[::-1] for corner in box_zyx)
    return f"{underscored(stop - start)}/{underscored(start)}"


def rle_payload(mask: Volume) -> bytes:
    """Legacy runs of a mask; headers with a descriptor, dimensions, 0 voxels, number of runs."""
    runs = []
    for z, y in np.argwhere(mask.any(axis=2)).tolist():
        row = np.concatenate([[0], mask[z, y].astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(row)).reshape(-1, 2).tolist()
        runs += [(a, y, z, b - a) for a, b in edges]
    head = np.array([0, 3, 0, 0], np.uint8).tobytes() + np.array([0, len(runs)], "<u4").tobytes()
    return head + np.array(runs, "<i4").reshape(-1, 4).tobytes()


def mask_of_runs(content: bytes, shape: tuple[int, ...]) -> Volume:
    """The mask of legacy runs, checked as clients check them."""
    mask = np.zeros(shape, bool)
    if not content:
        return mask
    assert tuple(content[:3]) == (0, 3, 0)
    words = np.frombuffer(content, "<i4")
    runs = words[3:].reshape(-1, 4)
    assert len(runs) == words[2]
    for x, y, z, length in runs.tolist():
        assert not mask[z, y, x : x + length].any()
        mask[z, y, x : x + length] = True
    return mask


def inflated(content: bytes, box_zyx: Any) -> Volume:
    """The voxels of a stream of gzipped blocks in an aligned box; what is not sent is 0."""
    start, stop = np.asarray(box_zyx)
    out = np.zeros(tuple(stop - start), np.uint64)
    seen = set()
    for xyz, data in oracle.split(content):
        assert xyz not in seen
        seen.add(xyz)
        block = oracle.unpacked(data, "blocks", (SIDE, SIDE, SIDE))
        z, y, x = np.array(xyz[::-1]) * SIDE - start
        out[z : z + SIDE, y : y + SIDE, x : x + SIDE] = block
    return out


def block_stream(volume: Volume, offset_zyx: Any = (0, 0, 0), skip_empty: bool = False) -> bytes:
    """A body of POST blocks: for each block x, y, z, bytes and its gzipped form."""
    blocks = []
    for z in range(0, volume.shape[0], SIDE):
        for y in range(0, volume.shape[1], SIDE):
            for x in range(0, volume.shape[2], SIDE):
                block = volume[z : z + SIDE, y : y + SIDE, x : x + SIDE]
                if skip_empty and not block.any():
                    continue
                place = (np.array((z, y, x)) + offset_zyx) // SIDE
                blocks.append((tuple(place[::-1].tolist()), oracle.packed(block)))
    return oracle.joined(blocks)


def pyramid(volume: Volume, levels: int) -> list[Volume]:
    """Scales 0 to `levels`, as many whole blocks as hold them."""
    out = [volume]
    for _ in range(levels):
        half = oracle.halved(out[-1])
        sides = [-(-side // SIDE) * SIDE for side in half.shape]
        out.append(oracle.window(half, (0, 0, 0), tuple(sides)))
    return out


def block_counts(volume: Volume, svs: Any) -> dict[tuple[int, int, int], dict[int, int]]:
    """Voxels of each supervoxel in each block (ZYX)."""
    out: dict[tuple[int, int, int], dict[int, int]] = {}
    for sv in svs:
        places = np.argwhere(volume == np.uint64(sv)) // SIDE
        cells, counts = np.unique(places, axis=0, return_counts=True)
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            out.setdefault(tuple(cell), {})[int(sv)] = count
    return out


def index_of(volume: Volume, body: int, svs: Any, **fields: Any) -> Any:
    """LabelIndex of a body; block keys of 21 bits an axis, x lowest."""
    index = messages_pb2.LabelIndex(label=body, **fields)
    for (z, y, x), counts in block_counts(volume, svs).items():
        index.blocks[z << 42 | y << 21 | x].counts.update(counts)
    return index


def blocks_of(index: Any) -> dict[tuple[int, int, int], dict[int, int]]:
    """What block_counts gives, from a LabelIndex."""
    low = (1 << 21) - 1
    return {
        (key >> 42, key >> 21 & low, key & low): dict(block.counts)
        for key, block in index.blocks.items()
    }


def foreground(content: bytes, body: int, shape: tuple[int, ...]) -> Volume:
    """The mask of `sparsevol?format=blocks`."""
    mask = np.zeros(shape, bool)
    gx, gy, gz, label = struct.unpack_from("<3IQ", content)
    assert (gx, gy, gz, label) == (SIDE // 8, SIDE // 8, SIDE // 8, body)
    at = 20
    while at < len(content):
        x, y, z, status = struct.unpack_from("<3iB", content, at)
        at += 13
        assert status in (1, 2)
        block = np.ones((SIDE, SIDE, SIDE), bool)
        if status == 2:
            for k in range(gz):
                for j in range(gy):
                    for i in range(gx):
                        flag, at = content[at], at + 1
                        cube: Any = flag == 1
                        if flag == 2:
                            bits = np.frombuffer(content, np.uint8, 64, at)
                            cube = np.unpackbits(bits, bitorder="little").reshape(8, 8, 8)
                            at += 64
                        block[8 * k : 8 * k + 8, 8 * j : 8 * j + 8, 8 * i : 8 * i + 8] = cube
        mask[z : z + SIDE, y : y + SIDE, x : x + SIDE] = block
    return mask
