"""Labels in JSON bodies."""

from __future__ import annotations

import json

import pytest

from dvid_es.errors import InvalidRequest
from dvid_es.http import wire

BODIES = [
    b"[]",
    b"[1, 2]",
    b" [1,2]\r\n",
    b"null",
    b"[-0]",
    b"[null, 7]",
    b"[18446744073709551615]",
    json.dumps(list(range(2**63, 2**63 + 3000))).encode(),
    b"[18446744073709551616]",
    b"[1, 99999999999999999999999999999999]",
    b"[01]",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1][2]",
    b"[1]]",
    b"[[1]]",
    b"[" * 100_000,
    b"1",
    b"",
    b" ",
    b"[-1]",
    b"[1.0]",
    b"[1e3]",
    b'["1"]',
    b"[true]",
    b"{}",
    b"\xef\xbb\xbf[1]",
]


def labels_or_refusal(body: bytes) -> list[int] | str:
    try:
        return wire.parse_labels(body)
    except InvalidRequest as problem:
        return str(problem)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:30].decode("latin-1"))
def test_labels_that_are_read_fast_are_those_of_any_json(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = labels_or_refusal(body)
    monkeypatch.setattr(wire, "_LABELS_ALONE", b"")
    assert labels_or_refusal(body) == fast


def test_labels_are_all_of_64_bits() -> None:
    assert wire.parse_labels(b"[0, 18446744073709551615]") == [0, 2**64 - 1]
    with pytest.raises(InvalidRequest, match="18446744073709551616 is not an unsigned 64-bit"):
        wire.parse_labels(b"[1, 18446744073709551616]")


def test_null_within_labels_is_0() -> None:
    assert wire.parse_labels(b"[null, 7, null]") == [0, 7, 0]


@pytest.mark.parametrize("rest", [b"", b" x", b"{}", b"\0", b'{"a": "c"}', b" \xff"])
def test_the_first_value_of_a_body_may_be_taken_alone(rest: bytes) -> None:
    body = b' \n{"a": "b"}' + rest
    assert wire.parse_json_object(body, first=True) == {"a": "b"}
    if rest:
        with pytest.raises(InvalidRequest):
            wire.parse_json_object(body)


@pytest.mark.parametrize(
    "body", [b"", b" ", b"x{}", b"[1] {}", b"{", b"\xef\xbb\xbf{}", b"NaN", b"\x0c{}"]
)
def test_the_first_value_must_be_an_object_all_the_same(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        wire.parse_json_object(body, first=True)
