from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import downres, labelblock
from tests.codecs.volumes import mixed, noise, real_cubes, volumes, voronoi


def slow_halve(volume):
    half = np.zeros(tuple(side // 2 for side in volume.shape), np.uint64)
    for z, y, x in np.ndindex(half.shape):
        group = volume[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1)
        votes = Counter(label for label in group.tolist() if label)
        if votes:
            half[z, y, x] = min(votes, key=lambda label: (-votes[label], label))
    return half


def group(*labels):
    return np.array(labels, np.uint64).reshape(2, 2, 2)


@pytest.mark.parametrize(
    ("labels", "winner"),
    [
        ((0, 0, 0, 0, 0, 0, 0, 0), 0),
        ((0, 0, 0, 0, 0, 0, 0, 9), 9),
        ((0, 0, 0, 0, 0, 5, 5, 5), 5),
        ((3, 3, 3, 3, 2, 2, 2, 2), 2),
        ((0, 0, 0, 0, 8, 7, 8, 7), 7),
        ((8, 7, 6, 5, 4, 3, 2, 1), 1),
        ((1, 2, 2, 3, 3, 3, 0, 0), 3),
        ((2**64 - 1, 2**64 - 1, 1, 0, 0, 0, 0, 0), 2**64 - 1),
        ((2**64 - 1, 2**63, 0, 0, 0, 0, 0, 0), 2**63),
    ],
)
def test_most_votes_win_zero_never_and_ties_go_to_the_smaller(labels, winner):
    for seed in range(4):
        shuffled = np.random.default_rng(seed).permutation(group(*labels).reshape(-1))
        assert downres.halve(shuffled.reshape(2, 2, 2)).tolist() == [[[winner]]]
        volume = np.tile(shuffled.reshape(2, 2, 2), (8, 8, 8))
        block = downres.downres_block([labelblock.encode(volume)] * 8, None, volume.shape)
        assert (labelblock.decode(block) == winner).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_halving_is_the_slow_count(seed, labels, large):
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, labels, (4, 6, 8)).astype(np.uint64)
    if large:
        volume *= np.uint64(2**61)
    assert (downres.halve(volume) == slow_halve(volume)).all()


SHAPES = ((16, 16, 16), (16, 32, 48), (32, 16, 16))


@given(volumes(SHAPES), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_parent_is_the_halved_children(volume, seed):
    rng = np.random.default_rng(seed)
    octants = [volume[:: rng.choice([1, -1])].copy() for _ in range(8)]
    block = downres.downres_block(
        [labelblock.encode(octant) for octant in octants], None, volume.shape
    )
    assert labelblock.validate(block, volume.shape) == len(block)
    assert (labelblock.decode(block) == parent_of(octants)).all()


def parent_of(octants):
    halves = [downres.halve(octant) for octant in octants]
    rows = [np.concatenate(halves[i : i + 2], axis=2) for i in (0, 2, 4, 6)]
    slices = [np.concatenate(rows[i : i + 2], axis=1) for i in (0, 2)]
    return np.concatenate(slices, axis=0)


def test_halving_agrees_with_the_slow_count_on_sub_blocks_of_all_kinds():
    volume = mixed(1, (16, 32, 32))
    assert (downres.halve(volume) == slow_halve(volume)).all()


@given(st.integers(0, 255), st.booleans(), volumes(((16, 16, 32),)))
@settings(max_examples=40, deadline=None)
def test_octants_that_did_not_change_are_kept(changed, exists, volume):
    previous = noise(9, 7, volume.shape)
    octants = [labelblock.encode(volume) if changed >> i & 1 else None for i in range(8)]
    old = labelblock.encode(previous) if exists else None
    want = previous.copy() if exists else np.zeros_like(previous)
    half_z, half_y, half_x = (side // 2 for side in volume.shape)
    for i in range(8):
        if changed >> i & 1:
            z, y, x = (i >> 2) * half_z, (i >> 1 & 1) * half_y, (i & 1) * half_x
            want[z : z + half_z, y : y + half_y, x : x + half_x] = slow_halve(volume)
    block = downres.downres_block(octants, old, volume.shape)
    assert (labelblock.decode(block) == want).all()


def test_a_child_that_becomes_background_leaves_the_other_octants_alone():
    # DVID zeroes the whole parent here.
    previous = labelblock.solid(5, (16, 16, 16))
    octants = [None] * 7 + [labelblock.solid(0, (16, 16, 16))]
    volume = labelblock.decode(downres.downres_block(octants, previous, (16, 16, 16)))
    assert not volume[8:, 8:, 8:].any()
    volume[8:, 8:, 8:] = 5
    assert (volume == 5).all()


def test_eight_solid_children_make_a_solid_parent():
    block = downres.downres_block([labelblock.solid(3, (64, 64, 64))] * 8, None, (64, 64, 64))
    assert block == labelblock.solid(3, (64, 64, 64))


def test_repeated_labels_of_a_mapped_table_vote_together():
    volume = noise(4, 12, (16, 16, 16))
    block = labelblock.encode(volume)
    table = labelblock.table(block)
    mapped = np.where(table % np.uint64(2), np.uint64(8), np.uint64(3))
    want = np.where(volume % np.uint64(2), np.uint64(8), np.uint64(3))
    parent = downres.downres_block([labelblock.with_table(block, mapped)] * 8, None, (16, 16, 16))
    assert (labelblock.decode(parent)[:8, :8, :8] == slow_halve(want)).all()


def test_the_multiscale_fixture_halves_to_its_cubes():
    volume = np.zeros((128, 128, 128), np.uint64)
    corners = {1: (40, 40, 40), 2: (80, 40, 40), 13: (40, 40, 80), 209: (40, 80, 40)}
    for label, (z, y, x) in corners.items():
        volume[z : z + 40, y : y + 40, x : x + 40] = label
    for scale in (1, 2):
        volume = downres.halve(volume)
        for label, corner in corners.items():
            z, y, x = (c >> scale for c in corner)
            side = 40 >> scale
            assert (volume[z : z + side, y : y + side, x : x + side] == label).all()
            assert np.count_nonzero(volume == label) == side**3


def test_real_cubes_halve_alike_in_both_ways():
    for cube in [*real_cubes().values(), voronoi(1, 100)]:
        block = downres.downres_block([labelblock.encode(cube)] * 8, None, cube.shape)
        half = downres.halve(cube)
        assert (labelblock.decode(block) == np.tile(half, (2, 2, 2))).all()
