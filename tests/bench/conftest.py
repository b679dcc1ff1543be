"""A small DVID in memory, so that workloads and their checks can be tried without a server.

It answers from numpy arrays, as plainly as can be. `lie` makes it answer one word wrongly.
"""

import gzip
import json
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import lz4.block
import numpy as np
import pytest

from dvid_es.bench import truth, wire
from dvid_es.bench.synthetic import voronoi
from dvid_es.bench.volume import BLOCK, Segmentation, from_cells
from dvid_es.bench.workloads import base
from dvid_es.codecs import labelblock, labelindex

SIDE = 128


class Instance:
    def __init__(self, typename: str, levels: int = 0) -> None:
        self.typename = typename
        self.levels = levels
        self.values: dict[str, bytes] = {}
        self.scales = [np.zeros((SIDE, SIDE, SIDE), np.uint64)]
        self.body_of = np.arange(1, dtype=np.uint64)

    def fill(self, volume: np.ndarray, downres: bool) -> None:
        z, y, x = volume.shape
        self.scales[0][:z, :y, :x] = volume
        self.body_of = np.arange(int(volume.max()) + 1, dtype=np.uint64)
        for _ in range(self.levels if downres else 0):
            half = truth.half(self.scales[-1])
            self.scales.append(np.pad(half, [(0, -n % BLOCK) for n in half.shape]))

    def sizes(self) -> np.ndarray:
        count = len(self.body_of)
        voxels = np.bincount(self.scales[0].ravel().view(np.int64), minlength=count)
        voxels[0] = 0
        bodies = self.body_of.view(np.int64)
        return np.bincount(bodies, voxels, minlength=3 * count).astype(np.int64)


class StubDvid:
    """The state and the answers; `handle` is one request."""

    def __init__(self) -> None:
        self.lie = ""
        self.requests: list[tuple[str, str]] = []
        self.instances: dict[str, Instance] = {}
        self.lock = threading.Lock()

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        with self.lock:
            self.requests.append((method, path))
            path, _, query = path.partition("?")
            options = dict(part.split("=") for part in query.split("&") if part)
            words = path.strip("/").split("/")[1:]
            if words == ["server", "info"]:
                return 200, b"{}" if self.lie == "server" else b'{"DVID Version": "v0"}'
            if words == ["repos"]:
                good = options.get("admintoken", "") == "secret"
                return (200, b'{"root": "abc"}') if good else (400, b"no admin")
            if words[0] == "repo":
                settings = json.loads(body)
                levels = int(settings.get("MaxDownresLevel", 0))
                self.instances[settings["dataname"]] = Instance(settings["typename"], levels)
                return 200, b"{}"
            instance = self.instances[words[2]]
            if words[3] == "info":
                name = "liar" if self.lie == "info" else words[2]
                facts = {"TypeName": instance.typename, "Name": name}
                return 200, json.dumps({"Base": facts}).encode()
            if instance.typename == "keyvalue":
                return self.keyvalue(instance, method, words[3:], body)
            answer = getattr(self, f"{method.lower()}_{words[3].replace('-', '_')}")
            return 200, answer(instance, words[4:], options, body)

    def keyvalue(
        self, instance: Instance, method: str, words: list[str], body: bytes
    ) -> tuple[int, bytes]:
        if words == ["keys"]:
            return 200, json.dumps(list(instance.values)).encode()
        if method == "POST":
            instance.values[words[1]] = body[::-1] if self.lie == "key" else body
            return 200, b""
        return 200, instance.values[words[1]]

    def post_blocks(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        one.fill(wire.decode_stream(body, (SIDE,) * 3, BLOCK), "downres" in options)
        return b""

    post_ingest_supervoxels = post_blocks

    def post_raw(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        x, y, z = map(int, words[1].split("_"))
        one.fill(np.frombuffer(body, np.uint64).reshape(z, y, x), True)
        return b""

    def post_merge(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        labels = json.loads(body)
        if self.lie != "merge":
            one.body_of[np.isin(one.body_of, labels)] = labels[0]
        return b'{"MutationID": 1}'

    def post_cleave(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        new = max(int(one.body_of.max()) + 1, len(one.body_of))
        if self.lie != "cleave":
            one.body_of[json.loads(body)] = new
        return json.dumps({"CleavedLabel": new}).encode()

    def post_indices(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        for index in labelindex.decode_all(body):
            missing = int(max(index.label, index.supervoxels.max())) + 1 - len(one.body_of)
            one.body_of = np.append(one.body_of, np.zeros(max(0, missing), np.uint64))
            one.body_of[index.supervoxels] = index.label
        return b""

    def get_blocks(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        volume = self.box(one, words, options, "blocks")
        start = [int(n) // BLOCK for n in words[1].split("_")]
        pieces = []
        for z in range(volume.shape[0] // BLOCK):
            for y in range(volume.shape[1] // BLOCK):
                for x in range(volume.shape[2] // BLOCK):
                    part = volume[
                        z * BLOCK : (z + 1) * BLOCK,
                        y * BLOCK : (y + 1) * BLOCK,
                        x * BLOCK : (x + 1) * BLOCK,
                    ]
                    data = gzip.compress(labelblock.encode(part.copy()), 1)
                    at = (start[0] + x, start[1] + y, start[2] + z)
                    pieces += [struct.pack("<4i", *at, len(data)), data]
        return b"".join(pieces)

    def get_raw(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        data = self.box(one, words[1:], options, "raw").tobytes()
        if options.get("compression") == "lz4":
            return lz4.block.compress(data, store_size=False)
        return gzip.compress(data, 1) if options.get("compression") == "gzip" else data

    def get_sizes(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        sizes = one.sizes()[json.loads(body)]
        # A liar is not found out at once, or a bench would wait for its index for ever.
        wrong = self.lie == "sizes" and len(set(one.body_of)) < len(one.body_of)
        return json.dumps((sizes + wrong).tolist()).encode()

    def get_size(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        return json.dumps({"voxels": int(one.sizes()[int(words[0])])}).encode()

    def get_supervoxels(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        members = np.flatnonzero(one.body_of == int(words[0])).tolist()
        return json.dumps(members[self.lie == "supervoxels" :][::-1]).encode()

    def get_mapping(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        return json.dumps(
            (one.body_of[json.loads(body)] + self.is_lie("mapping")).tolist()
        ).encode()

    def get_labels(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        x, y, z = np.array(json.loads(body)).T
        bodies = one.body_of[one.scales[0][z, y, x]] + self.is_lie("labels")
        return json.dumps(bodies.tolist()).encode()

    def get_sparsevol(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        runs = truth.runs_of((one.body_of == int(words[0]))[one.scales[0]])
        runs = runs[self.lie == "sparsevol" :][::-1]
        return b"\0\3\0\0" + struct.pack("<II", 0, len(runs)) + runs.astype("<i4").tobytes()

    def get_index(self, one: Instance, words: list, options: dict, body: bytes) -> bytes:
        chosen = one.body_of == int(words[0])
        index = truth.counts_by_block(one.scales[0], chosen, BLOCK)
        if self.lie == "index":
            index[0].popitem()
        message = b"".join(
            _field(1, _field(1, key) + _field(2, b"".join(_counts(counts))))
            for key, counts in index.items()
        )
        return message + _field(2, int(words[0])) + _field(5, b"somebody")

    def box(self, one: Instance, words: list, options: dict, word: str) -> np.ndarray:
        size, start = ([int(n) for n in text.split("_")] for text in words)
        volume = one.scales[int(options.get("scale", 0))][
            tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))
        ].copy()
        if "supervoxels" not in options:
            volume = one.body_of[volume]
        volume[-1, -1, -1] += self.is_lie(word)
        return volume

    def is_lie(self, word: str) -> np.uint64:
        return np.uint64(self.lie == word)


def _counts(counts: dict[int, int]) -> Iterator[bytes]:
    for supervoxel, voxels in counts.items():
        yield _field(1, _field(1, supervoxel) + _field(2, voxels))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Clients of a load connect all at once; those beyond the queue would wait a second each.
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, data = self.server.handle(self.command, self.path, body)  # type: ignore[attr-defined]
        self.send_response(status)
        if len(data) > 100_000:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(data), 50_000):
                piece = data[start : start + 50_000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_POST = answer

    def log_message(self, *args: Any) -> None:
        pass


Handle = Callable[[str, str, bytes], tuple[int, bytes]]


@pytest.fixture
def serve() -> Iterator[Callable[[Handle], str]]:
    """Serve a function of (method, path, body) and return the URL."""
    servers = []

    def start(handle: Handle) -> str:
        server = Server(("127.0.0.1", 0), Handler)
        server.handle = handle  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def stub() -> StubDvid:
    return StubDvid()


@pytest.fixture
def second_stub() -> StubDvid:
    return StubDvid()


@pytest.fixture(scope="session")
def small_data() -> Segmentation:
    return from_cells(voronoi(SIDE))


@pytest.fixture
def short_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "REPEAT_SECONDS", 0.0)
    monkeypatch.setattr(base, "WARM_UP", 1)
