import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.codecs import izyx
from dvid_es.errors import InvalidRequest

field = st.integers(-izyx.LIMIT, izyx.LIMIT)
int32 = st.integers(-(2**31), 2**31 - 1)


def test_the_golden_keys():
    assert izyx.pack_key((3, 2, 2)) == 13194143727618
    assert izyx.pack_key((-3, 2, -1)) == 0x40000C0000500001
    assert izyx.unpack_key(13194143727618) == (3, 2, 2)
    assert izyx.unpack_key(0x40000C0000500001) == (-3, 2, -1)


@given(st.lists(st.tuples(field, field, field), max_size=20))
def test_packed_keys_go_both_ways(coords):
    coords_zyx = np.array(coords, np.int32).reshape(-1, 3)
    keys = izyx.pack_keys(coords_zyx)
    assert keys.dtype == np.uint64
    assert keys.tolist() == [izyx.pack_key(c) for c in coords]
    assert izyx.unpack_keys(keys).tolist() == [list(izyx.unpack_key(k)) for k in keys.tolist()]
    assert izyx.unpack_keys(keys).tolist() == coords_zyx.tolist()


def test_packed_keys_of_the_positive_octant_sort_like_zyx():
    coords = np.random.default_rng(1).integers(0, 50, (200, 3))
    order = np.lexsort((coords[:, 2], coords[:, 1], coords[:, 0]))
    assert (np.argsort(izyx.pack_keys(coords), kind="stable") == order).all()


@pytest.mark.parametrize("bad", [2**20, -(2**20), 2**31 - 1, -(2**31)])
def test_coordinates_beyond_21_bits_are_refused(bad):
    with pytest.raises(InvalidRequest, match="beyond"):
        izyx.pack_key((0, bad, 0))
    with pytest.raises(InvalidRequest, match="beyond"):
        izyx.pack_keys(np.array([(0, 0, 0), (0, 0, bad)], np.int32))


@pytest.mark.parametrize("bad", [2**63, 2**64 - 1])
def test_keys_with_the_top_bit_are_refused(bad):
    with pytest.raises(InvalidRequest, match="top bit"):
        izyx.unpack_key(bad)
    with pytest.raises(InvalidRequest, match="top bit"):
        izyx.unpack_keys(np.array([1, bad], np.uint64))
    with pytest.raises(InvalidRequest, match="top bit"):
        izyx.unpack_key(-1)


def test_izyx_is_big_endian_with_the_sign_flipped():
    assert izyx.encode_izyx((1, -1, 0)) == bytes.fromhex("80000001 7fffffff 80000000")


@given(st.lists(st.tuples(int32, int32, int32), max_size=20))
def test_izyx_goes_both_ways_and_sorts_like_coordinates(coords):
    keys = [izyx.encode_izyx(c) for c in coords]
    coords_zyx = np.array(coords, np.int32).reshape(-1, 3)
    assert izyx.encode_izyx_all(coords_zyx) == keys
    assert [izyx.decode_izyx(k) for k in keys] == coords
    assert izyx.decode_izyx_all(keys).tolist() == coords_zyx.tolist()
    assert izyx.decode_izyx_all(b"".join(keys)).tolist() == coords_zyx.tolist()
    assert sorted(keys) == [izyx.encode_izyx(c) for c in sorted(coords)]
