from __future__ import annotations

from typing import Any

import pytest

from dvid_es.errors import InvalidRequest
from dvid_es.http.shapes import parse_box, parse_rows


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


@pytest.mark.parametrize("size", ["0_1_1", "-1_1_1", "1_1_0"])
def test_boxes_have_voxels_unless_nothing_is_an_answer(size: str) -> None:
    with pytest.raises(InvalidRequest, match="at least 1"):
        parse_box(size, "0_0_0")
    if "-" in size:
        with pytest.raises(InvalidRequest, match="at least 0"):
            parse_box(size, "0_0_0", smallest=0)
    else:
        assert parse_box(size, "5_6_7", smallest=0).volume == 0


@pytest.mark.parametrize(
    ("typename", "word"),
    [
        *(("labelmap", "blocks"), ("labelarray", "blocks"), ("labelblk", "blocks")),
        ("uint8blk", "subvolblocks"),
    ],
)
def test_a_box_without_blocks_is_answered_by_nothing(live: Any, typename: str, word: str) -> None:
    root = live.new_repo()
    path = live.new_instance(root, typename, "volume", BlockSize="32,32,32")
    for size in ("0_0_0", "0_32_32", "32_32_0", "0_6400000_6400000"):
        found = live.ok("GET", f"{path}/{word}/{size}/0_32_0")
        assert (found.body, found.headers["content-type"]) == (b"", "application/octet-stream")
    for bad in ("0_0_0/1_0_0", "0_-32_32/0_0_0", "0_0_0/0_0_0?compression=none"):
        assert live.call("GET", f"{path}/{word}/{bad}").status == 400
