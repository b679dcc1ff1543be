from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.voxels import arriving
from tests.datatypes.labelmap import voxel_oracle as oracle

SHAPE = (128, 96, 160)  # Z, Y, X: several rows of blocks along each axis


@pytest.fixture(scope="module")
def volume():
    found = oracle.cells(SHAPE, 300, seed=11)
    found[64:96, 32:64, 32:64] = np.random.default_rng(4).integers(1, 1 << 40, (32, 32, 32))
    return found


@pytest.fixture
def node(live):
    return live.new_instance(live.new_repo(), "labelmap", "seg", BlockSize="32,32,32")


def path(node, offset="0_0_0"):
    z, y, x = SHAPE
    return f"{node}/raw/0_1_2/{x}_{y}_{z}/{offset}"


def send(live, target, body, steps, announced=None):
    """Send a body in steps and return the status line."""
    length = len(body) if announced is None else announced
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as client:
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        client.sendall(head.encode())
        for start, stop in zip([0, *steps], [*steps, len(body)], strict=True):
            client.sendall(body[start:stop])
        with client.makefile("rb") as file:
            return file.readline()


@pytest.mark.parametrize("indexed", [True, False])
def test_voxels_that_arrive_in_pieces_are_stored_and_counted(live, volume, indexed):
    settings = {"BlockSize": "32,32,32", "IndexedLabels": str(indexed).lower()}
    node = live.new_instance(live.new_repo(), "labelmap", "seg", **settings)
    body = volume.tobytes()
    steps = sorted(np.random.default_rng(1).integers(1, len(body), 40).tolist())
    assert b" 200 " in send(live, path(node), body, steps)
    assert live.ok("GET", path(node)).body == body
    if indexed:
        labels, counts = np.unique(volume[volume > 0], return_counts=True)
        assert live.ok("GET", f"{node}/sizes", json_body=labels.tolist()).json() == counts.tolist()


def test_what_arrives_is_what_is_stored_of_a_whole_body(live, volume, monkeypatch):
    def blocks():
        node = live.new_instance(live.new_repo(), "labelmap", "seg", BlockSize="32,32,32")
        live.ok("POST", path(node, "32_-32_64"), volume.tobytes())
        z, y, x = SHAPE
        return live.ok(
            "GET", f"{node}/blocks/{x}_{y}_{z}/32_-32_64?compression=blocks&supervoxels=true"
        ).body

    monkeypatch.setattr(arriving, "ROW_BLOCKS_MAX", 2)
    made = []
    run = arriving._Worker._run
    monkeypatch.setattr(arriving._Worker, "_run", lambda self: made.append(1) or run(self))
    side_by_side = blocks()
    assert made
    made.clear()
    monkeypatch.setattr("dvid_es.datatypes.labelmap.voxels.ingest.BLOCK_VOXELS", ())
    assert blocks() == side_by_side
    assert not made


def test_a_body_cut_off_stores_nothing_and_ends_all_work(live, node, volume, monkeypatch):
    ended = threading.Event()
    stop = arriving._Worker.stop
    monkeypatch.setattr(arriving._Worker, "stop", lambda self: (stop(self), ended.set())[0])
    body = volume.tobytes()
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as client:
        head = f"POST {path(node)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:-1])
    assert ended.wait(60)
    assert not any(live.ok("GET", path(node)).body)
    assert b" 200 " in send(live, path(node), body, [])
    assert live.ok("GET", path(node)).body == body


def test_an_error_of_a_thread_is_that_of_the_request(live, node, volume, monkeypatch):
    def broken(block, wanted):
        raise MemoryError("no memory for a block")

    with monkeypatch.context() as patched:
        patched.setattr(arriving, "prepare_block", broken)
        assert live.call("POST", path(node), volume.tobytes()).status == 500
    assert not any(live.ok("GET", path(node)).body)
    live.ok("POST", path(node), volume.tobytes())
    assert live.ok("GET", path(node)).body == volume.tobytes()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("raw/0_1_2/160_96_64/0_0_0", b"voxels are"),
        ("raw/0_1_2/160_96_256/0_0_0", b"voxels are"),
        ("raw/0_1_2/160_96_128/1_0_0", b"multiples"),
        ("raw/0_1/160_96_128/0_0_0", b"volumes"),
        ("raw/0_1_2/160_96_128/0_0_0?compression=png", b"compression"),
        ("raw/0_1_2/160_96_128/0_0_0?roi=nowhere", b"nowhere"),
    ],
)
def test_what_is_wrong_with_a_long_request_is_said_after_its_body(
    live, node, volume, target, problem
):
    answer = live.call("POST", f"{node}/{target}", volume.tobytes())
    assert answer.status == 400
    assert problem in answer.body
    assert not any(live.ok("GET", path(node)).body)
