import gc

import numpy as np
import pytest

from dvid_es.http.answers import CACHE_LINE, HUGE_PAGE, Buffers


def test_leased_memory_comes_back_with_its_last_view_and_no_sooner():
    buffers = Buffers(1000, kept_max=2)
    first = buffers.lease(600)
    first[:] = b"a" * 600
    part = first[100:200]
    del first
    second = buffers.lease(1000)
    second[:] = b"b" * 1000
    assert bytes(part) == b"a" * 100
    place = id(part.obj.base)
    del part
    third = buffers.lease(10)
    assert id(third.obj.base) == place
    assert len(third) == 10
    assert bytes(second) == b"b" * 1000


def test_no_more_memory_is_kept_than_wanted():
    buffers = Buffers(1000, kept_max=2)
    leases = [buffers.lease(size) for size in (1, 10, 1000, 1001, 5000)]
    assert [len(lease) for lease in leases] == [1, 10, 1000, 1001, 5000]
    del leases
    gc.collect()
    assert [len(kept) for kept in buffers._kept] == [1000, 1000]


@pytest.mark.parametrize(
    ("size", "step"),
    [(1, CACHE_LINE), (1 << 20, CACHE_LINE), (4 << 20, HUGE_PAGE), (9 << 20, HUGE_PAGE)],
)
def test_memory_begins_where_lines_of_the_cache_and_huge_pages_do(size, step):
    with Buffers(size, kept_max=1).lease(size) as memory:
        assert len(memory) == size
        assert np.frombuffer(memory, np.uint8).ctypes.data % step == 0
