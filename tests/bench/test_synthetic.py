import numpy as np

from dvid_es.bench.synthetic import MARGIN, SPACING, _straight, voronoi
from dvid_es.bench.truth import fingerprint


def test_the_volume_is_the_same_on_every_machine():
    assert fingerprint(voronoi(64)) == "uint64[64, 64, 64]:f08db3e7"
    assert fingerprint(voronoi(96, seed=5)) == "uint64[96, 96, 96]:f50b2071"


def test_a_block_holds_about_as_many_labels_as_real_tissue(small_data):
    counts = [len(np.unique(small_data.block(at))) for at in small_data.blocks]
    assert 30 <= np.mean(counts) <= 55


def test_there_is_a_little_background(small_data):
    assert 0 < (small_data.supervoxels == 0).mean() < 0.05


def test_each_voxel_belongs_to_the_nearest_point():
    # All points of the 27 cubes around a cube, from the same generator as the volume's.
    size = 2 * SPACING
    volume = _straight(size, 3)
    jitter = np.random.default_rng(3).integers(0, SPACING, (4, 4, 4, 3), dtype=np.int32)
    corner = (np.indices((4, 4, 4)).transpose(1, 2, 3, 0) - 1) * SPACING
    points = (jitter + corner).reshape(-1, 3)
    names = np.arange(64)
    names[names % 97 == 0] = 0
    for voxel in np.random.default_rng(4).integers(0, size, (300, 3)):
        # Only points of the neighbouring cubes are looked at.
        near = (abs(corner.reshape(-1, 3) - voxel // SPACING * SPACING) <= SPACING).all(axis=1)
        distances = np.where(near, ((points - voxel) ** 2).sum(axis=1), 10**9)
        nearest = np.flatnonzero(distances == distances.min())
        assert volume[tuple(voxel)] in names[nearest]


def test_the_warp_moves_rows_but_keeps_their_voxels():
    warped = voronoi(64)
    straight = _straight(64 + 2 * SPACING, 1)
    present = set(np.unique(straight).tolist())
    assert set(np.unique(warped).tolist()) <= present
    assert not np.array_equal(warped, straight[32:96, 32:96, 32:96])
    assert MARGIN < SPACING
