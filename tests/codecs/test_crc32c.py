import google_crc32c
import numpy as np
import pytest

from dvid_es.codecs import crc32c
from dvid_es.logs import checksums

WAYS = [
    checksums.first_damaged,
    pytest.param(
        crc32c.first_damaged,
        marks=pytest.mark.skipif(not crc32c.FAST, reason="the processor has no such instruction"),
    ),
]
LENGTHS = [0, 1, 7, 8, 9, 100, 3071, 3072, 3073, 6144, 9999, 65_537]


@pytest.fixture(params=WAYS)
def first_damaged(request):
    return request.param


@pytest.fixture
def values():
    data = np.random.default_rng(7).integers(0, 256, 250_000, np.uint8).tobytes()
    starts = np.cumsum([3, *LENGTHS[:-1]]).tolist()
    sums = [
        google_crc32c.value(data[at : at + length])
        for at, length in zip(starts, LENGTHS, strict=True)
    ]
    return data, starts, sums


def test_undamaged_values_of_any_length_pass(first_damaged, values):
    data, starts, sums = values
    assert first_damaged(data, starts, LENGTHS, sums) == -1
    assert first_damaged(data, starts[::-1], LENGTHS[::-1], sums[::-1]) == -1
    assert first_damaged(data, [], [], []) == -1


def test_a_flipped_bit_anywhere_is_found(first_damaged, values):
    data, starts, sums = values
    for place, (start, length) in enumerate(zip(starts, LENGTHS, strict=True)):
        for at in {0, length // 3, length // 2, length - 1} if length else set():
            wrong = bytearray(data)
            wrong[start + at] ^= 1 << at % 8
            assert first_damaged(bytes(wrong), starts, LENGTHS, sums) == place


@pytest.mark.parametrize(("at", "length"), [(249_999, 2), (-1, 4), (5, -1), (0, 1 << 40)])
def test_values_that_are_not_there_are_damaged(first_damaged, values, at, length):
    data, starts, sums = values
    empty = google_crc32c.value(b"")
    places = [*starts, at], [*LENGTHS, length], [*sums, empty]
    assert first_damaged(data, *places) == len(LENGTHS)
