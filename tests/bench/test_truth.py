import numpy as np
import pytest

from dvid_es.bench import truth


def test_runs_cover_exactly_the_mask_and_are_as_long_as_can_be():
    mask = np.random.default_rng(1).random((5, 6, 7)) < 0.6
    runs = truth.runs_of(mask)
    covered = np.zeros_like(mask)
    for x, y, z, length in runs:
        assert not covered[z, y, x : x + length].any()
        covered[z, y, x : x + length] = True
        assert x == 0 or not mask[z, y, x - 1]
        assert x + length == 7 or not mask[z, y, x + length]
    assert np.array_equal(covered, mask)


def test_runs_in_any_order_and_cut_at_blocks_are_the_same_set():
    runs = truth.runs_of(np.random.default_rng(2).random((4, 4, 64)) < 0.9)
    pieces = []
    for x, y, z, length in runs:
        cut = max(1, length // 2)
        pieces.append((x, y, z, cut))
        if length > cut:
            pieces.append((x + cut, y, z, length - cut))
    shuffled = np.random.default_rng(3).permutation(np.array(pieces, np.int32))
    assert np.array_equal(truth.sorted_runs(shuffled), runs)
    assert len(truth.sorted_runs(np.zeros((0, 4), np.int32))) == 0


def test_the_next_scale_is_the_vote_of_eight_voxels():
    volume = np.random.default_rng(4).integers(0, 4, (8, 8, 8)).astype(np.uint64)
    got = truth.half(volume)
    for z, y, x in np.ndindex(4, 4, 4):
        voxels = volume[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        labels, counts = np.unique(voxels[voxels > 0], return_counts=True)
        want = labels[counts == counts.max()].min() if len(labels) else 0
        assert got[z, y, x] == want


def test_the_next_scale_of_a_large_volume_is_made_in_slabs(monkeypatch):
    volume = np.random.default_rng(5).integers(0, 3, (32, 16, 16)).astype(np.uint64)
    whole = truth._half_of(volume)
    assert np.array_equal(truth.half(volume), whole)


def test_the_index_counts_chosen_supervoxels_block_by_block():
    volume = np.zeros((16, 8, 8), np.uint64)
    volume[0, 0, :3], volume[9, 1, 1], volume[9, 1, 2] = 5, 5, 6
    chosen = np.zeros(8, bool)
    chosen[5] = True
    assert truth.counts_by_block(volume, chosen, 8) == {0: {5: 3}, 1 << 42: {5: 1}}


def test_the_first_difference_is_told_with_its_place():
    want = np.arange(12).reshape(3, 4)
    got = want.copy()
    got[1, 2] = 99
    assert truth.first_difference(want, want, "x") == ""
    text = truth.first_difference(got, want, "voxels")
    assert text == "voxels: 1 differ, first at (1, 2): 99 and not 6"
    assert "(2,) came where (3, 4)" in truth.first_difference(want[0, :2], want, "voxels")


@pytest.mark.parametrize(
    "other",
    [np.arange(6).reshape(2, 3), np.arange(6, dtype=np.int32), np.array([0, 1, 2, 3, 5, 4])],
)
def test_fingerprints_tell_shape_type_and_content_apart(other):
    assert truth.fingerprint(np.arange(6)) != truth.fingerprint(other)
    assert truth.fingerprint(np.arange(6)) == truth.fingerprint(np.arange(12)[:6].copy())
