from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.geometry import Box
from dvid_es.projections.regions import Blocks, Region, from_bytes, sorted_spans, to_bytes

FAR = 2**31

near = st.integers(-3, 3)
spans_near = st.lists(st.tuples(near, near, near, st.integers(0, 4)), max_size=12)


def spans_of(rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Rows of z, y, x0 and how many more blocks."""
    found = np.array(rows, np.int64).reshape(-1, 4)
    found[:, 3] += found[:, 2]
    return sorted_spans(found)


@given(spans_near)
def test_a_block_is_held_if_any_span_covers_it(rows: list[tuple[int, int, int, int]]) -> None:
    covered = {(z, y, x + i) for z, y, x, more in rows for i in range(more + 1)}
    asked = np.stack(np.meshgrid(*[np.arange(-4, 10)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    held = Blocks(spans_of(rows)).holds(asked)
    assert held.tolist() == [tuple(block) in covered for block in asked.tolist()]


@pytest.mark.parametrize("low", [-FAR, -1, 0, FAR - 2])
def test_blocks_at_the_ends_of_32_bits_are_found(low: int) -> None:
    blocks = Blocks(np.array([[low, low, low, low + 1], [low, low + 1, -FAR, FAR - 1]], np.int32))
    asked = [(low, low, low), (low, low, low + 1), (low, low + 1, -FAR), (low, low + 1, FAR - 1)]
    assert blocks.holds(np.array(asked, np.int64)).all()
    missed = [(low + 1, low, low), (low, low, -FAR if low > 0 else FAR - 1)]
    assert not blocks.holds(np.array(missed, np.int64)).any()


@given(spans_near)
def test_spans_come_back_from_their_bytes_in_order_and_once(
    rows: list[tuple[int, int, int, int]],
) -> None:
    expected = sorted({(z, y, x, x + more) for z, y, x, more in rows})
    assert from_bytes(to_bytes(spans_of(rows + rows[::-1]))).tolist() == [list(s) for s in expected]


def test_voxels_below_zero_belong_to_the_block_below() -> None:
    region = Region("r", (4, 8, 16), np.array([[-1, -1, -1, -1]], np.int32))
    points = [(-1, -1, -1), (-4, -8, -16), (-5, -1, -1), (-1, -9, -1), (-1, -1, -17), (0, -1, -1)]
    assert region.holds_points(np.array(points)).tolist() == [True] * 2 + [False] * 4


def test_a_mask_knows_the_layers_that_a_box_reaches_as_the_region_counts_them() -> None:
    spans = np.array([[z, 0, 0, 0] for z in range(-3, 6)], np.int32)
    region = Region("r", (16, 16, 16), spans)
    column = np.array([[z, 0, 0] for z in range(-3, 6)])

    def inside(start: int, stop: int) -> list[int]:
        held = region.mask(Box((start, 0, 0), (stop, 32, 32))).holds(column)
        return column[held][:, 0].tolist()

    assert inside(0, 96) == [0, 1, 2, 3, 4, 5]
    assert inside(32, 64) == [2, 3]
    assert inside(-1, 1) == [-1, 0]
    assert inside(-16, 0) == [-1]
