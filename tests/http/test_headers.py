import pytest
from sanic.headers import format_http1_response
from sanic.response import HTTPResponse

from dvid_es.http.headers import encoded_headers


def test_headers_are_the_bytes_that_sanic_makes():
    response = HTTPResponse(b"x", 200, {"ETag": '"1"', "X-Number": 5}, "text/plain")  # type: ignore[dict-item]
    response.headers["alt-svc"] = ""
    assert format_http1_response(200, encoded_headers(response)) == (
        b'HTTP/1.1 200 OK\r\nETag: "1"\r\nX-Number: 5\r\ncontent-type: text/plain\r\n\r\n'
    )


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
def test_no_value_can_begin_a_header_of_its_own(value):
    found = dict(encoded_headers(HTTPResponse(b"", 307, {"Location": value})))
    assert not set(found[b"Location"]) & set(b"\r\n\0")
    found = dict(encoded_headers(HTTPResponse(b"", 200, {value: "x"})))
    assert not set(b"".join(found)) & set(b"\r\n\0")


def test_values_beyond_ascii_are_utf_8():
    found = dict(encoded_headers(HTTPResponse(b"", 200, {"X-Name": "é"})))
    assert found[b"X-Name"] == "é".encode()


def test_an_answer_without_a_body_has_no_content_type():
    assert list(encoded_headers(HTTPResponse(None, 304, {"ETag": "x"}))) == [(b"ETag", b"x")]


def test_answers_have_no_empty_headers(live):
    assert "alt-svc" not in live.ok("GET", "/api/heartbeat").headers
