from __future__ import annotations

import pytest

from dvid_es.errors import InvalidRequest
from dvid_es.http.shapes import parse_rows


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"[[1,2,3],[-4,5,2147483647]]", [[1, 2, 3], [-4, 5, 2147483647]]),
        (b"[[1],[],[1,2,3,4]]", [[1, 0, 0], [0, 0, 0], [1, 2, 3]]),
        (b'[null,[null,7],[1,2,3,"x",{}]]', [[0, 0, 0], [0, 7, 0], [1, 2, 3]]),
        (b" [ ]\n", []),
        (b"null", []),
    ],
)
def test_rows_are_filled_and_cut_as_in_go(body: bytes, rows: list[list[int]]) -> None:
    found = parse_rows(body, 3)
    assert found.shape == (len(rows), 3)
    assert found.tolist() == rows


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"7", b'"x"', b"[1,2,3]", b"[{}]", b'["x"]', b"[[1.0,2,3]]", b"[[1e1,2,3]]",
        b'[["1",2,3]]', b"[[true,2,3]]", b"[[1,2,2147483648]]", b"[[1,2,-2147483649]]",
        b"[[1,2,3]", b"[[1,2,3]] x", b"[[1,2,3],]", b"\xef\xbb\xbf[]", b"[[1,2,NaN]]",
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_list_of_integers_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"JSON"):
        parse_rows(body, 3)
