from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from dvid_es.geometry import Box

PLACE = st.tuples(*[st.integers(-3, 3)] * 3)


@given(PLACE, PLACE, PLACE)
def test_the_first_place_of_a_box_from_somewhere_on(
    start: tuple[int, int, int], stop: tuple[int, int, int], at: tuple[int, int, int]
) -> None:
    inside = product(*(range(a, b) for a, b in zip(start, stop, strict=True)))
    assert Box(start, stop).first_from(at) == min((p for p in inside if p >= at), default=None)
