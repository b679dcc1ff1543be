import socket
import threading

import pytest

from dvid_es.bench.client import Address, Connection

LARGE = bytes(range(256)) * 20_000


def echo(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    return (200, body or path.encode()) if path != "/bad" else (400, b"bad")


@pytest.fixture
def connection(serve):
    connection = Connection(Address(serve(echo)), timeout_s=20)
    yield connection
    connection.close()


@pytest.mark.parametrize("body", [b"", b"small", LARGE])
def test_bodies_go_there_and_come_back(connection, body):
    for _ in range(3):
        answer = connection.send("POST", "/echo", body)
        assert (answer.status, answer.body()) == (200, body or b"/echo")
        assert answer.length == len(body or b"/echo")
        assert answer.seconds > 0


def test_a_get_may_carry_a_body(connection):
    assert connection.send("GET", "/x", b"[1,2]", "application/json").body() == b"[1,2]"


def test_an_error_is_an_answer_like_any_other(connection):
    answer = connection.send("GET", "/bad")
    assert (answer.status, answer.body()) == (400, b"bad")


def test_a_body_cannot_be_taken_after_the_next_request(connection):
    first = connection.send("GET", "/one")
    connection.send("GET", "/two")
    with pytest.raises(RuntimeError, match="after the next request"):
        first.body()


def test_a_connection_that_the_server_closed_is_opened_again_before_the_next_request():
    listener = socket.create_server(("127.0.0.1", 0))
    requests = []

    def serve_one_each() -> None:
        for _ in range(2):
            client, _ = listener.accept()
            with client:
                requests.append(client.recv(1000))
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    thread = threading.Thread(target=serve_one_each)
    thread.start()
    connection = Connection(Address(f"127.0.0.1:{listener.getsockname()[1]}"), timeout_s=20)
    assert connection.send("POST", "/first").body() == b"ok"
    connection._socket.recv(1)  # type: ignore[union-attr]  # returns when the server has closed
    assert connection.send("POST", "/second").body() == b"ok"
    thread.join()
    connection.close()
    listener.close()
    assert [request.split()[1] for request in requests] == [b"/first", b"/second"]


@pytest.mark.parametrize("url", ["https://host", "http://", "http://host/api", "ftp://host"])
def test_what_is_not_the_base_of_a_server_is_refused(url):
    with pytest.raises(ValueError, match="not the base"):
        Address(url)


def test_a_request_is_plain_http():
    assert Address("http://host:8000").request("GET", "/x") == (
        b"GET /x HTTP/1.1\r\nHost: host:8000\r\n\r\n"
    )
    post = Address("host").request("POST", "/x", b"ab", "application/json")
    assert post.startswith(b"POST /x HTTP/1.1\r\nHost: host:80\r\nContent-Length: 2\r\n")
    assert post.endswith(b"Content-Type: application/json\r\n\r\nab")


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_wanted():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(f"127.0.0.1:{listener.getsockname()[1]}")
        connection = Connection(address, timeout_s=0.05)
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            connection.send("GET", "/never")
        connection.close()
