import numpy as np
import pytest

from dvid_es.codecs import labelblock
from dvid_es.codecs.labelencode import TABLE_MAX, RowEncoder

SHAPES = [(8, 8, 8), (16, 8, 24), (32, 32, 32), (64, 64, 64)]


def cells(shape, labels, seed, run=5):
    """Return runs of few labels along X, and some sub-blocks of one label."""
    random = np.random.default_rng(seed)
    volume = random.integers(0, labels, shape, np.uint64).repeat(run, axis=2)[:, :, : shape[2]]
    volume[: shape[0] // 2, : shape[1] // 2] = labels + 7
    return np.ascontiguousarray(volume)


def encoded_apart(volume, start, shape, blocks):
    z, y, x = start
    places = [(z, y, x + shape[2] * place) for place in range(blocks)]
    return [labelblock.encode_from(volume, place, shape) for place in places]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labels", [1, 2, 5, 40, 700])
@pytest.mark.parametrize("step", [1, 8, 1000])
def test_a_row_that_comes_plane_by_plane_is_encoded_as_its_blocks_apart(shape, labels, step):
    blocks = 3
    whole = cells((2 * shape[0], 2 * shape[1], 4 * shape[2]), labels, seed=labels)
    start = shape
    volume = np.full_like(whole, 0xDEAD)
    row = RowEncoder(volume, start, shape, blocks)
    for planes in range(0, shape[0] + step, step):
        planes = min(planes, shape[0])
        volume[: start[0] + planes] = whole[: start[0] + planes]
        assert row.advance(planes) == (planes == shape[0])
    assert row.blocks() == encoded_apart(whole, start, shape, blocks)


def test_blocks_of_too_many_labels_are_encoded_apart():
    shape = (32, 32, 32)
    volume = cells((32, 32, 128), 3, seed=1)
    volume[:, :, 32:64] = np.arange(32**3).reshape(shape)  # more labels than the table holds
    volume[:, :, 64:96] = np.random.default_rng(2).integers(0, TABLE_MAX - 9, shape)  # more indices
    row = RowEncoder(volume, (0, 0, 0), shape, 4)
    for planes in (8, 24, 32):
        row.advance(planes)
    assert row.blocks() == encoded_apart(volume, (0, 0, 0), shape, 4)


def test_a_table_that_is_just_full_is_no_special_case():
    shape = (64, 64, 64)
    volume = np.zeros(shape, np.uint64)
    for extra in (-1, 0, 1):
        volume.reshape(-1)[: 128 * (TABLE_MAX + extra) : 128] = np.arange(1, TABLE_MAX + extra + 1)
        row = RowEncoder(volume, (0, 0, 0), shape, 1)
        row.advance(64)
        assert row.blocks() == [labelblock.encode(volume)]


def test_a_row_outside_of_its_volume_is_refused():
    volume = np.zeros((32, 32, 64), np.uint64)
    for start, blocks in (((0, 0, 0), 3), ((8, 0, 0), 1), ((0, 0, 40), 1)):
        with pytest.raises(AssertionError):
            RowEncoder(volume, start, (32, 32, 32), blocks)
    with pytest.raises(AssertionError, match="complete"):
        RowEncoder(volume, (0, 0, 0), (32, 32, 32), 2).blocks()
