import threading

import pytest

from dvid_es.bench.client import Address
from dvid_es.bench.load import LoadFailed, drive


def test_each_client_gets_the_answers_to_its_own_requests_in_order(serve):
    seen = []

    def answer(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        seen.append(path)
        # Some answers are so long that they come in chunks and in many pieces.
        return 200, path.encode() * (20_000 if path.endswith("3") else 1)

    address = Address(serve(answer))
    queues = [
        [address.request("GET", f"/{client}/{turn}") for turn in range(6)] for client in range(10)
    ]
    load = drive(address, queues, keep=True)
    assert load.requests == len(seen) == 60
    for client, bodies in enumerate(load.bodies):
        for turn, body in enumerate(bodies):
            assert body == f"/{client}/{turn}".encode() * (20_000 if turn == 3 else 1)
    assert 0 < load.client_cpu_s <= load.seconds * 1.5


def test_all_clients_are_served_at_the_same_time(serve):
    together = threading.Barrier(8, timeout=20)

    def answer(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        together.wait()
        return 200, b""

    address = Address(serve(answer))
    assert drive(address, [[address.request("GET", "/")] * 3] * 8).requests == 24


def test_bodies_are_dropped_unless_they_are_wanted(serve):
    address = Address(serve(lambda *_: (200, b"x")))
    assert drive(address, [[address.request("GET", "/")]]).bodies == []


def test_an_error_ends_the_load_with_the_servers_text(serve):
    address = Address(serve(lambda method, path, body: (400, b"no such body 7")))
    with pytest.raises(LoadFailed, match=r"^answer 400 under load: no such body 7$"):
        drive(address, [[address.request("GET", "/")]] * 3)


def test_a_server_that_does_not_answer_ends_the_load(serve):
    never = threading.Event()

    def answer(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        never.wait(20)
        return 200, b""

    address = Address(serve(answer))
    with pytest.raises(LoadFailed, match="no answer"):
        drive(address, [[address.request("GET", "/")]], timeout_s=0.1)
    never.set()


def test_a_server_that_is_not_there_ends_the_load():
    with pytest.raises(LoadFailed, match="connection"):
        drive(Address("http://127.0.0.1:1"), [[b""]], timeout_s=5)
