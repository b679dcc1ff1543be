from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.datatypes.roi import partition as module
from dvid_es.datatypes.roi.partition import partition
from dvid_es.errors import InvalidRequest
from dvid_es.projections.regions import Region, sorted_spans
from tests.conftest import Live

SIDES = (8, 16, 4)
"""X, Y, Z."""

REFERENCE = [[100, 101, 200, 210], [100, 102, 200, 210], [100, 103, 201, 212],
             [101, 101, 201, 213], [101, 102, 202, 215], [101, 103, 202, 216],
             [102, 101, 200, 210], [102, 103, 201, 216], [102, 104, 203, 217],
             [103, 101, 200, 210], [103, 103, 200, 210], [103, 105, 201, 212]]  # fmt: skip
"""The region of DVID's own tests."""

ONE_BLOCK = """{
    "NumTotalBlocks": 8,
    "NumActiveBlocks": 1,
    "NumSubvolumes": 1,
    "ROI": {
        "MinChunk": [
            0,
            0,
            3
        ],
        "MaxChunk": [
            3,
            3,
            3
        ]
    },
    "Subvolumes": [
        {
            "MinPoint": [
                24,
                48,
                12
            ],
            "MaxPoint": [
                39,
                79,
                19
            ],
            "MinChunk": [
                3,
                3,
                3
            ],
            "MaxChunk": [
                4,
                4,
                4
            ],
            "TotalBlocks": 8,
            "ActiveBlocks": 1
        }
    ]
}"""
"""As a real DVID answers it."""


def cut(spans: list[list[int]], size: int, optimized: bool = False) -> Any:
    region = Region("r", SIDES[::-1], sorted_spans(np.array(spans, np.int64).reshape(-1, 4)))
    return json.loads(b"".join(partition(region, size, optimized).json(SIDES)))


def blocks_of(spans: list[list[int]]) -> set[tuple[int, int, int]]:
    return {(x, y, z) for z, y, x0, x1 in spans for x in range(x0, x1 + 1)}


def cell_blocks(cell: Any) -> set[tuple[int, int, int]]:
    x, y, z = (range(a, b + 1) for a, b in zip(cell["MinChunk"], cell["MaxChunk"], strict=True))
    return {(i, j, k) for i in x for j in y for k in z}


lines = st.tuples(st.integers(-3, 6), st.integers(-4, 7))
pieces = st.lists(st.tuples(st.integers(-6, 9), st.integers(0, 5)), min_size=1, max_size=3)


@st.composite
def regions(draw: st.DrawFn) -> list[list[int]]:
    """Spans that do not overlap, in layers without a gap."""
    spans = {}
    for (z, y), runs in draw(st.dictionaries(lines, pieces, min_size=1, max_size=12)).items():
        for x in sorted({x + i for x, more in runs for i in range(more + 1)}):
            spans.setdefault((z, y), []).append(x)
    layers = [z for z, _ in spans]
    for z in range(min(layers), max(layers)):
        spans.setdefault((z, 0), [0])
    return [[z, y, x, x] for (z, y), row in spans.items() for x in row]


@given(regions(), st.integers(1, 9))
def test_equal_cells_hold_every_block_once(spans: list[list[int]], size: int) -> None:
    answer = cut(spans, size)
    blocks = blocks_of(spans)
    seen: set[tuple[int, int, int]] = set()
    for cell in answer["Subvolumes"]:
        held = cell_blocks(cell)
        assert len(held) == cell["TotalBlocks"] == size**3
        assert len(held & blocks) == cell["ActiveBlocks"] > 0
        assert not held & seen
        seen |= held
        for point, chunk, more in (("MinPoint", "MinChunk", 0), ("MaxPoint", "MaxChunk", 1)):
            expected = [
                (c + more) * side - more for c, side in zip(cell[chunk], SIDES, strict=True)
            ]
            assert cell[point] == expected
    assert blocks <= seen
    assert answer["NumActiveBlocks"] == len(blocks)
    assert answer["NumSubvolumes"] == len(answer["Subvolumes"])
    assert answer["NumTotalBlocks"] >= len(seen)
    assert answer["NumTotalBlocks"] % size**3 == 0


@given(regions(), st.integers(1, 9))
def test_cells_around_holes_count_every_block_once(spans: list[list[int]], size: int) -> None:
    answer = cut(spans, size, optimized=True)
    cells = answer["Subvolumes"]
    assert sum(cell["ActiveBlocks"] for cell in cells) == len(blocks_of(spans))
    assert answer["NumActiveBlocks"] == len(blocks_of(spans))
    assert answer["NumTotalBlocks"] == sum(cell["TotalBlocks"] for cell in cells)
    assert answer["NumSubvolumes"] == len(cells) > 0


@pytest.mark.parametrize(
    ("optimized", "numbers", "active"),
    [(False, (10, 1375, 152), None), (True, (3, 450, 152), [24, 61, 67])],
)
def test_the_reference_region_gives_the_reference_numbers(
    optimized: bool, numbers: tuple[int, ...], active: list[int] | None
) -> None:
    answer = cut(REFERENCE, 5, optimized)
    names = ("NumSubvolumes", "NumTotalBlocks", "NumActiveBlocks")
    assert tuple(answer[name] for name in names) == numbers
    if active:
        assert sorted(cell["ActiveBlocks"] for cell in answer["Subvolumes"]) == active


def test_a_solid_row_is_cut_as_if_cell_by_cell() -> None:
    answer = cut([[0, 0, 0, 100]], 10, optimized=True)
    edges = [(cell["MinChunk"][0], cell["MaxChunk"][0]) for cell in answer["Subvolumes"]]
    # 101 blocks: the first cell is one thicker.
    assert edges == [(0, 10), *((x, x + 9) for x in range(11, 101, 10))]
    assert [cell["ActiveBlocks"] for cell in answer["Subvolumes"]] == [11, *[10] * 9]


def test_what_lies_between_holes_goes_to_the_cell_before_them() -> None:
    spans = [[0, y, 0, 15] for y in range(10)] + [[0, 0, 30, 30]]
    (cell,) = cut(spans, 10, optimized=True)["Subvolumes"]
    assert (cell["MinChunk"][0], cell["MaxChunk"][0]) == (0, 30)
    assert cell["MaxPoint"][0] == 31 * SIDES[0] - 1
    # The holes themselves, blocks 16 to 29, are not counted.
    assert (cell["TotalBlocks"], cell["ActiveBlocks"]) == (17 * 10 * 10, 161)


def test_the_answer_is_written_as_dvid_writes_it(live: Live) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "roi", "area", BlockSize="8,16,4")
    empty = live.ok("GET", f"{node}/partition?batchsize=2").text
    assert '"MinChunk": [\n            0,\n            0,\n            2147483647\n' in empty
    assert empty.endswith('    "Subvolumes": []\n}')
    live.ok("POST", f"{node}/roi", json_body=[[3, 3, 3, 3]])
    answer = live.ok("GET", f"{node}/partition?batchsize=2")
    assert answer.text == ONE_BLOCK
    assert answer.headers["content-type"] == "application/json"
    assert (
        live.ok("GET", f"{node}/partition").text
        == live.ok("GET", f"{node}/partition?batchsize=8").text
    )
    # Where DVID breaks down: the first cell has a hole.
    small = live.ok("GET", f"{node}/partition?batchsize=2&optimized=true").json()
    assert (small["NumSubvolumes"], small["NumActiveBlocks"]) == (1, 1)


def test_pieces_of_a_long_answer_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [[z, y, 0, 9] for z in range(6) for y in range(6)]
    expected = cut(spans, 2)
    monkeypatch.setattr(module, "CELLS_PER_PIECE", 3)
    assert cut(spans, 2) == expected
    assert expected["NumSubvolumes"] == 45


@pytest.mark.parametrize("optimized", [False, True])
def test_too_many_cells_are_refused_before_they_are_made(optimized: bool) -> None:
    spans = [[z, 0, -(2**31), 2**31 - 1] for z in range(-(2**31), 2**31, 2**28)]
    with pytest.raises(InvalidRequest, match="larger batchsize"):
        cut(spans, 3, optimized)
    far = [
        [z, y, x, x] for z in (-(2**31), 2**31 - 1) for y in (-(2**31), 9) for x in (-9, 2**31 - 1)
    ]
    assert cut(far, 1, optimized)["NumActiveBlocks"] == 8
