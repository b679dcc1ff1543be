#!/usr/bin/env python3
"""Put a segmentation into dvid_es, proofread it, and check every voxel against numpy.

    python docs/examples/segmentation.py [VOLUME.npy.ckl.gz | VOLUME.npy] [--data DIR] [--edits 200]

The labels of the volume are the bodies. Cut at the borders of small boxes they become supervoxels, which
go in as DVID's own block stream; the agglomeration back to bodies is imported as mappings. Then bodies are
merged and cleaved at random in a second version, the server is killed with -9, its projections
are thrown away and rebuilt from the log, and it is started from a snapshot. After each of these, every voxel
of both versions must read as numpy says, as supervoxels and as bodies.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock
from dvid_es.codecs.compression import gzip_compress, lz4_block_decompress
from dvid_es.codecs.messages_pb2 import MappingOps

Labels = NDArray[np.uint64]
BLOCK = 64
CUBE = 256
"""Voxels are compared in cubes of this side."""


class Client:
    """A DVID client of a few lines: any HTTP library does."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return data

    def json(self, method: str, path: str, value: Any = None) -> Any:
        data = self.call(method, path, None if value is None else json.dumps(value).encode())
        return json.loads(data) if data else None


@dataclass
class Server:
    """`dvid-es serve` in a process of its own."""

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it answers; return the seconds that took."""
        begin = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dvid_es",
                "serve",
                "--data",
                self.data,
                "--port",
                str(self.port),
            ],
            stdout=subprocess.DEVNULL,
        )
        while True:
            try:
                Client(self.port).call("GET", "/api/heartbeat")
                return time.monotonic() - begin
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("the server ended") from None
                time.sleep(0.02)

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)


@dataclass
class Truth:
    """What numpy knows: which supervoxel each voxel has, and the body of each supervoxel by version."""

    supervoxels: Labels
    """uint64[Z, Y, X]; 0 is background, others are 1 ... n."""

    bodies: dict[str, Labels] = field(default_factory=dict)
    """By version: body of each supervoxel, indexed by its number."""

    def volume(self, uuid: str) -> Labels:
        """Return the voxels of a version as bodies."""
        return self.bodies[uuid][self.supervoxels]


def load(path: Path | None, side: int = 256) -> Labels:
    """Return the labels of a file as uint64[Z, Y, X], or a synthetic volume."""
    if path is None:
        return synthetic(side)
    data = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    if ".ckl" in path.name:
        import crackle  # pip install crackle-codec

        return np.ascontiguousarray(crackle.decompress(data).transpose(2, 1, 0), np.uint64)
    return np.ascontiguousarray(np.load(path).transpose(2, 1, 0), np.uint64)


def synthetic(side: int) -> Labels:
    """Return a volume of wavy cells with some background."""
    z, y, x = np.ogrid[:side, :side, :side]
    wave = (6 * np.sin(x / 17) + 5 * np.sin(y / 13) + 4 * np.sin(z / 11)).astype(np.int64)
    cells = ((z + wave) // 40) * 10_000 + ((y + wave) // 37) * 100 + (x + wave) // 33
    labels = np.unique(cells, return_inverse=True)[1].reshape(cells.shape).astype(np.uint64)
    labels[(z + y + x) % 29 == 0] = 0
    return labels


def cut(labels: Labels, box: int = 128) -> tuple[Labels, Labels]:
    """Return supervoxels (a label within a box) and the body of each of them."""
    supervoxels = np.zeros_like(labels)
    bodies = [np.zeros(1, np.uint64)]
    count = 0
    for z in range(0, labels.shape[0], box):
        for y in range(0, labels.shape[1], box):
            for x in range(0, labels.shape[2], box):
                part = (slice(z, z + box), slice(y, y + box), slice(x, x + box))
                found, inverse = np.unique(labels[part], return_inverse=True)
                numbers = np.zeros(len(found), np.uint64)
                numbers[found > 0] = count + 1 + np.arange(np.count_nonzero(found))
                count += np.count_nonzero(found)
                supervoxels[part] = numbers[inverse].reshape(labels[part].shape)
                bodies.append(found[found > 0])
    # A body is called like its first supervoxel, as an agglomeration does.
    owners = np.concatenate(bodies)
    first = {0: 0}
    named = [first.setdefault(int(owner), number) for number, owner in enumerate(owners)]
    return supervoxels, np.array(named, np.uint64)


def block_stream(volume: Labels, blocks: list[tuple[int, int, int]]) -> bytes:
    """Return blocks (z, y, x) of a volume as POST blocks takes them."""

    def one(block: tuple[int, int, int]) -> bytes:
        z, y, x = (part * BLOCK for part in block)
        voxels = np.ascontiguousarray(volume[z : z + BLOCK, y : y + BLOCK, x : x + BLOCK])
        payload = gzip_compress(labelblock.encode(voxels))
        return struct.pack("<iiiI", block[2], block[1], block[0], len(payload)) + payload

    with ThreadPoolExecutor(2) as pool:
        return b"".join(pool.map(one, blocks))


def ingest(client: Client, node: str, truth: Truth, mapping: Labels) -> None:
    """Import the agglomeration, then the voxels with indexing and all lower scales."""
    shape = truth.supervoxels.shape
    operations = MappingOps()
    order = np.argsort(mapping, kind="stable")
    order = order[(order != mapping[order]) & (order > 0)]
    for body in np.unique(mapping[order]):
        operation = operations.mappings.add()
        operation.mapped = int(body)
        operation.original.extend(order[mapping[order] == body].tolist())
    client.call("POST", f"{node}/mappings", operations.SerializeToString())
    blocks = list(np.ndindex(*(side // BLOCK for side in shape)))
    for first in range(0, len(blocks), 128):
        stream = block_stream(truth.supervoxels, blocks[first : first + 128])
        client.call("POST", f"{node}/blocks?downres=true", stream)


def check(client: Client, truth: Truth) -> int:
    """Compare every voxel of every version, as supervoxels and as bodies; return how many."""
    compared = 0
    for uuid in truth.bodies:
        bodies = truth.volume(uuid)
        for what, volume in (("?supervoxels=true&", truth.supervoxels), ("?", bodies)):
            for path, part in cubes(volume.shape):
                node = f"/api/node/{uuid}/segmentation/raw/0_1_2/{path}{what}compression=lz4"
                got = lz4_block_decompress(client.call("GET", node), volume[part].nbytes)
                expected = volume[part]
                if not np.array_equal(np.frombuffer(got, "<u8").reshape(expected.shape), expected):
                    raise AssertionError(f"{node}: other voxels than numpy's")
                compared += expected.size
        check_sizes(client, f"/api/node/{uuid}/segmentation", truth, uuid)
    return compared


def check_sizes(client: Client, node: str, truth: Truth, uuid: str) -> None:
    """Compare the list of bodies, and their sizes."""
    counts = np.bincount(truth.supervoxels.ravel())
    sizes = np.zeros(int(truth.bodies[uuid].max()) + 1, np.uint64)
    np.add.at(sizes, truth.bodies[uuid][1:], counts[1:].astype(np.uint64))
    expected = np.flatnonzero(sizes)
    if client.json("GET", f"{node}/existing-labels") != expected.tolist():
        raise AssertionError(f"{node}: other bodies than numpy's")
    if client.json("GET", f"{node}/sizes", expected.tolist()) != sizes[expected].tolist():
        raise AssertionError(f"{node}: other sizes than numpy's")


def cubes(shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Iterate over the cubes of a volume: path of the request, and slices (Z, Y, X)."""
    for z in range(0, shape[0], CUBE):
        for y in range(0, shape[1], CUBE):
            for x in range(0, shape[2], CUBE):
                part = tuple(
                    slice(low, min(low + CUBE, side))
                    for low, side in zip((z, y, x), shape, strict=True)
                )
                size = "_".join(str(cut.stop - cut.start) for cut in reversed(part))
                yield f"{size}/{x}_{y}_{z}", part


def edit(client: Client, uuid: str, truth: Truth, edits: int, seed: int) -> None:
    """Merge and cleave bodies at random, in numpy and on the server."""
    random = np.random.default_rng(seed)
    bodies = truth.bodies[uuid]
    node = f"/api/node/{uuid}/segmentation"
    for _ in range(edits):
        present = np.unique(bodies[1:])
        sizes = np.bincount(np.searchsorted(present, bodies[1:]))
        several = present[sizes > 1]
        if len(several) == 0 or random.random() < 0.6:
            chosen = random.choice(
                present, min(len(present), int(random.integers(2, 6))), replace=False
            )
            client.json("POST", f"{node}/merge?u=ann&app=example", chosen.tolist())
            bodies[np.isin(bodies, chosen[1:])] = chosen[0]
            continue
        body = int(random.choice(several))
        members = np.flatnonzero(bodies == body)
        moved = random.choice(members, int(random.integers(1, len(members))), replace=False)
        answer = client.json("POST", f"{node}/cleave/{body}?u=bob", moved.tolist())
        bodies[moved] = answer["CleavedLabel"]


def run(volume: Labels, data: Path, port: int, edits: int) -> None:
    """Play the whole story in a new data folder."""
    shape = tuple(side - side % BLOCK for side in volume.shape)
    supervoxels, mapping = cut(np.ascontiguousarray(volume[tuple(map(slice, shape))]))
    truth = Truth(supervoxels)
    server, client = Server(data, port), Client(port)

    def step(what: str, since: float) -> None:
        compared = check(client, truth)
        print(
            f"{what}: {time.monotonic() - since:.1f} s; {compared:,} voxels as numpy says",
            flush=True,
        )

    begin = time.monotonic()
    server.start()
    root = client.json("POST", "/api/repos", {"alias": "example"})["root"]
    client.json(
        "POST",
        f"/api/repo/{root}/instance",
        {"typename": "labelmap", "dataname": "segmentation", "MaxDownresLevel": "3"},
    )
    ingest(client, f"/api/node/{root}/segmentation", truth, mapping)
    truth.bodies[root] = mapping
    step(
        f"ingested {supervoxels.max():,} supervoxels of {len(np.unique(mapping)) - 1:,} bodies",
        begin,
    )

    begin = time.monotonic()
    client.json("POST", f"/api/node/{root}/commit", {"note": "as segmented"})
    child = client.json("POST", f"/api/node/{root}/newversion", {})["child"]
    truth.bodies[child] = mapping.copy()
    edit(client, child, truth, edits // 2, seed=1)
    server.end(signal.SIGKILL)
    server.start()
    edit(client, child, truth, edits - edits // 2, seed=2)
    server.end(signal.SIGKILL)
    server.start()
    step(f"{edits} merges and cleaves in a child, kill -9 twice", begin)

    for command, gone in (("rebuild", None), ("snapshot", "projections")):
        server.end(signal.SIGTERM)
        begin = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "dvid_es", command, "--data", data],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        if gone:
            shutil.rmtree(data / gone)
        server.start()
        step("rebuilt from the log" if gone is None else "started from a snapshot", begin)
    server.end(signal.SIGTERM)
    subprocess.run([sys.executable, "-m", "dvid_es", "verify", "--data", data], check=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("volume", type=Path, nargs="?", help="X, Y, Z; a synthetic one without it")
    parser.add_argument("--data", type=Path, help="a new folder; a temporary one without it")
    parser.add_argument("--port", type=int, default=8009)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--side", type=int, default=256, help="of the synthetic volume")
    options = parser.parse_args()
    volume = load(options.volume, options.side)
    with tempfile.TemporaryDirectory() as folder:
        run(volume, options.data or Path(folder) / "data", options.port, options.edits)


if __name__ == "__main__":
    main()
