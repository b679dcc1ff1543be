import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import labelremap


def look_up(keys, svs, bodies):
    keys = np.array(keys, np.uint64)
    out = np.empty_like(keys)
    found = labelremap.lookup(keys, svs, bodies, labelremap.build_radix(svs), out)
    return out.tolist(), found


u64 = st.integers(0, 2**64 - 1)
near = st.integers(2**63, 2**63 + 200)


@given(st.dictionaries(u64 | near, u64, max_size=200), st.lists(u64 | near, max_size=50))
@settings(max_examples=200, deadline=None)
def test_supervoxels_map_to_their_body_and_others_to_themselves(mapping, others):
    svs = np.array(sorted(mapping), np.uint64)
    bodies = np.array([mapping[sv] for sv in svs.tolist()], np.uint64)
    keys = [*mapping, *others]
    got, found = look_up(keys, svs, bodies)
    assert got == [mapping.get(key, key) for key in keys]
    assert found == sum(key in mapping for key in keys)


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 1000, 100_000])
def test_every_entry_of_a_base_is_found(n):
    rng = np.random.default_rng(n)
    svs = np.unique(rng.integers(0, 2 ** int(rng.integers(20, 64)), n, dtype=np.uint64))
    bodies = rng.permutation(svs)
    got, found = look_up(svs, svs, bodies)
    assert found == len(svs)
    assert got == bodies.tolist()
    missing = np.setdiff1d(svs + np.uint64(1), svs)
    assert look_up(missing, svs, bodies) == (missing.tolist(), 0)


def test_clustered_supervoxels_are_found():
    rng = np.random.default_rng(1)
    chunks = rng.integers(0, 2**20, 300, dtype=np.uint64) << np.uint64(44)
    svs = np.unique(chunks[:, None] + np.arange(100, dtype=np.uint64))
    got, found = look_up(svs, svs, svs + np.uint64(1))
    assert found == len(svs)
    assert got == (svs + np.uint64(1)).tolist()


def test_the_index_is_small_and_holds_bounds_of_buckets():
    svs = np.arange(0, 3_000_000, 3, dtype=np.uint64)
    radix = labelremap.build_radix(svs)
    assert radix.dtype == np.uint32
    assert radix.nbytes <= 0.41 * len(svs)
    assert radix[0] == 0
    assert radix[-1] == len(svs)
    assert (np.diff(radix.astype(np.int64)) >= 0).all()


def test_the_target_may_be_the_keys():
    svs = np.array([2, 4], np.uint64)
    keys = np.array([4, 3, 2, 4], np.uint64)
    radix = labelremap.build_radix(svs)
    assert labelremap.lookup(keys, svs, svs * np.uint64(10), radix, keys) == 3
    assert keys.tolist() == [40, 3, 20, 40]


def test_arrays_may_be_mapped_from_a_file(tmp_path):
    svs = np.arange(1, 1001, dtype=np.uint64)
    for name, array in (
        ("svs", svs),
        ("bodies", svs * np.uint64(7)),
        ("radix", labelremap.build_radix(svs)),
    ):
        np.save(tmp_path / f"{name}.npy", array)
    base = [np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in ("svs", "bodies", "radix")]
    out = np.empty(3, np.uint64)
    assert labelremap.lookup(np.array([1, 1000, 1001], np.uint64), *base, out) == 2
    assert out.tolist() == [7, 7000, 1001]
    for array in base:
        array._mmap.close()


def test_a_base_beyond_32_bits_is_refused(monkeypatch):
    monkeypatch.setattr(labelremap, "MAX_ENTRIES", 2)
    with pytest.raises(ValueError, match="at most 2"):
        labelremap.build_radix(np.arange(3, dtype=np.uint64))
