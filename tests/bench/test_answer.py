import pytest

from dvid_es.bench.answer import AnswerReader, MalformedAnswer, parse_head

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\nA;extension=1\r\n, \r\nworld!\r\n0\r\n\r\n"
)


def read(whole: bytes, step: int) -> tuple[AnswerReader, bytes]:
    buffer, reader, filled = bytearray(len(whole)), AnswerReader(), 0
    while filled < len(whole):
        piece = whole[filled : filled + step]
        buffer[filled : filled + len(piece)] = piece
        filled += len(piece)
        if reader.feed(buffer, filled):
            break
    assert filled == len(whole), "the answer was taken as complete too early"
    return reader, b"".join(bytes(buffer[a:b]) for a, b in reader.spans)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize(("whole", "body"), [(PLAIN, b"hello"), (CHUNKED, b"hello, \r\nworld!")])
def test_an_answer_is_read_however_it_is_cut(whole, body, step):
    reader, got = read(whole, step)
    assert (reader.status, got, reader.closes) == (200, body, False)
    assert reader.body_length() == len(body)


def test_an_answer_without_a_length_ends_with_the_connection():
    whole = b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\nno"
    reader = AnswerReader()
    assert not reader.feed(bytearray(whole), len(whole))
    assert reader.feed(bytearray(whole), len(whole), ended=True)
    assert (reader.status, reader.body_length(), reader.closes) == (400, 2, True)


@pytest.mark.parametrize("whole", [PLAIN[:-1], CHUNKED[:-2], b"", PLAIN[:20]])
def test_a_connection_that_ends_within_an_answer_is_an_error(whole):
    with pytest.raises(MalformedAnswer, match="closed within"):
        AnswerReader().feed(bytearray(whole), len(whole), ended=True)


@pytest.mark.parametrize(
    "head",
    [b"SSH-2.0-hello", b"HTTP/1.1 abc OK", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: -1"],
)
def test_other_protocols_and_lengths_are_refused(head):
    with pytest.raises(MalformedAnswer):
        parse_head(head)


@pytest.mark.parametrize("chunk", [b"xyz\r\n", b"5" * 70])
def test_what_is_no_chunk_is_refused(chunk):
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    with pytest.raises(MalformedAnswer, match="not a chunk"):
        AnswerReader().feed(bytearray(whole), len(whole))


def test_an_answer_204_has_no_body():
    assert parse_head(b"HTTP/1.1 204 No Content") == (204, 0, False)
