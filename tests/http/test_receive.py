from __future__ import annotations

import socket

import numpy as np
import pytest

from dvid_es.http.receive import KEPT_BYTES, Buffers

VOXELS = np.arange(64**3, dtype=np.uint64).reshape(64, 64, 64) // 4096 + 1
BODY = VOXELS.tobytes()


@pytest.fixture
def node(live):
    return live.new_instance(live.new_repo(), "labelmap", "seg")


def head(live, path, *more):
    lines = [f"POST {path}/raw/0_1_2/64_64_64/0_0_0 HTTP/1.1", f"Host: 127.0.0.1:{live.port}"]
    lines += [f"Content-Length: {len(BODY)}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def voxels(live, path):
    return live.ok("GET", f"{path}/raw/0_1_2/64_64_64/0_0_0").body


def status(file):
    line = file.readline()
    length = 0
    while (field := file.readline()) != b"\r\n":
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    file.read(length)
    return int(line.split()[1])


@pytest.fixture
def connection(live):
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection:
        yield connection


@pytest.mark.parametrize("first", [0, 1, 70_000, len(BODY) - 1, len(BODY)])
def test_a_large_body_in_pieces_is_received_whole(live, node, connection, first):
    connection.sendall(head(live, node) + BODY[:first])
    for at in range(first, len(BODY), 333_333):
        connection.sendall(BODY[at : at + 333_333])
    with connection.makefile("rb") as file:
        assert status(file) == 200
    assert voxels(live, node) == BODY


def test_requests_behind_a_large_body_are_answered(live, node, connection):
    get = f"GET {node}/info HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\n\r\n".encode()
    connection.sendall(head(live, node) + BODY + get + head(live, node) + BODY + get)
    with connection.makefile("rb") as file:
        assert [status(file) for _ in range(4)] == [200] * 4


def test_a_client_that_waits_is_told_to_go_on(live, node, connection):
    connection.sendall(head(live, node, "Expect: 100-continue"))
    with connection.makefile("rb") as file:
        assert status(file) == 100
        connection.sendall(BODY)
        assert status(file) == 200
    assert voxels(live, node) == BODY


def test_a_client_that_hangs_up_within_a_large_body_changes_nothing(live, node):
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection:
        connection.sendall(head(live, node) + BODY[:-1])
    assert not any(voxels(live, node))
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection:
        connection.sendall(head(live, node) + BODY)
        with connection.makefile("rb") as file:
            assert status(file) == 200
    assert voxels(live, node) == BODY


async def test_memory_is_used_again_only_when_nobody_sees_it():
    buffers = Buffers()
    first = buffers.take(100)
    first[:] = bytes(range(100))
    part = np.frombuffer(first[10:20], np.uint8).reshape(2, 5)
    del first
    other = buffers.take(100)
    other[:] = bytes(100)
    assert part.tobytes() == bytes(range(10, 20))
    del part
    again = buffers.take(100)
    assert bytes(again) == bytes(range(100))
    assert len(buffers.take(101)) == 101


async def test_memory_that_is_kept_is_bounded_and_let_go():
    buffers = Buffers()
    taken = [buffers.take(KEPT_BYTES // 4) for _ in range(6)]
    taken.clear()
    assert sum(one.nbytes for one in buffers._kept) == KEPT_BYTES
    buffers._forget(5)
    assert buffers._kept
    buffers._forget(6)
    assert not buffers._kept


async def test_memory_that_comes_back_while_others_are_counted_waits_for_nobody():
    buffers = Buffers()
    memory = buffers.take(100)
    with buffers._lock:
        del memory  # as a collection of garbage in the middle of `take` would
        assert not buffers._kept
    buffers.take(7)
    assert 100 in [one.nbytes for one in buffers._kept]
