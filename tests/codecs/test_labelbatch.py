import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import labelblock
from dvid_es.codecs.labelbatch import LabelBatch
from tests.codecs.volumes import mixed, noise, volumes, voronoi

SIDE = 16


def cut(volume):
    """Return the blocks of a volume and where they begin."""
    shape = tuple(extent // SIDE for extent in volume.shape)
    starts = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), 1).astype(np.int64) * SIDE
    cubes = [labelblock.encode_from(volume, tuple(at), (SIDE,) * 3) for at in starts.tolist()]
    return cubes, np.ascontiguousarray(starts)


@given(volumes(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_block_is_pasted_where_it_meets_a_larger_volume(volume, data):
    batch = LabelBatch([labelblock.encode(volume)])
    offsets = [data.draw(st.integers(-side - 2, 22)) for side in volume.shape]
    origin = data.draw(st.sampled_from([(0, 0, 0), (-100, 7, 64), (2**20, -5, 3)]))
    clear = data.draw(st.booleans())
    out = np.full((20, 21, 22), 77, np.uint64)
    want = np.zeros_like(out) if clear else out.copy()
    written = 0
    for z, y, x in np.ndindex(volume.shape):
        at = (z + offsets[0], y + offsets[1], x + offsets[2])
        if all(0 <= a < side for a, side in zip(at, out.shape, strict=True)):
            want[at] = volume[z, y, x]
            written += 1
    start = np.array([[o + d for o, d in zip(origin, offsets, strict=True)]], np.int64)
    assert batch.decode(batch.tables, start, out, origin, clear=clear) == written
    assert np.array_equal(out, want)


@pytest.mark.parametrize(
    "volume", [voronoi(1, 60, (32, 48, 64)), mixed(2, (32, 48, 64)), noise(3, 700, (32, 48, 64))]
)
def test_boxes_are_cut_out_of_many_blocks(volume):
    cubes, starts = cut(volume)
    rng = np.random.default_rng(5)
    for _ in range(40):
        kept = np.flatnonzero(rng.random(len(cubes)) < 0.8)
        batch = LabelBatch([cubes[place] for place in kept])
        there = np.zeros_like(volume)
        for z, y, x in starts[kept].tolist():
            inside = np.s_[z : z + SIDE, y : y + SIDE, x : x + SIDE]
            there[inside] = volume[inside]
        start = [int(rng.integers(0, side)) for side in volume.shape]
        stop = [
            int(rng.integers(a + 1, side + 1)) for a, side in zip(start, volume.shape, strict=True)
        ]
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        out = np.full(there[box].shape, 5, np.uint64)
        batch.decode(batch.tables, starts[kept], out, tuple(start), clear=True)
        assert np.array_equal(out, there[box])


def test_tables_are_those_of_the_blocks_behind_each_other():
    cubes, _ = cut(mixed(7, (32, 32, 16)))
    batch = LabelBatch(cubes)
    tables = [labelblock.table(block) for block in cubes]
    assert batch.table_starts.tolist() == np.cumsum([0, *map(len, tables)]).tolist()
    assert np.array_equal(batch.tables, np.concatenate(tables))
    assert len(batch) == 4
    nothing = LabelBatch([])
    assert (len(nothing), nothing.tables.tolist(), nothing.table_starts.tolist()) == (0, [], [0])
    out = np.ones((3, 4, 5), np.uint64)
    assert (
        nothing.decode(nothing.tables, np.empty((0, 3), np.int64), out, (0, 0, 0), clear=True) == 0
    )
    assert not out.any()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint64])
def test_labels_and_short_names_stand_for_those_of_the_tables(kind):
    volume = voronoi(4, 90, (32, 32, 32))
    cubes, starts = cut(volume)
    batch = LabelBatch(cubes)
    known, names = np.unique(batch.tables, return_inverse=True)
    out = np.empty((20, 19, 18), kind)
    batch.decode(names.astype(kind), starts, out, (5, 6, 7), clear=True)
    assert np.array_equal(known[out], volume[5:25, 6:25, 7:25])


def test_blocks_may_lie_in_any_memory():
    cubes, starts = cut(voronoi(6, 20, (16, 32, 32)))
    batch = LabelBatch(
        [cubes[0], bytearray(cubes[1]), memoryview(cubes[2]), memoryview(b"x" + cubes[3])[1:]]
    )
    out = np.empty((16, 32, 32), np.uint64)
    batch.decode(batch.tables, starts, out, (0, 0, 0), clear=False)
    assert np.array_equal(out, voronoi(6, 20, (16, 32, 32)))


def test_tables_and_places_that_do_not_fit_are_a_mistake_of_the_caller():
    cubes, starts = cut(voronoi(6, 20, (16, 32, 32)))
    batch = LabelBatch(cubes)
    out = np.empty((16, 32, 32), np.uint64)
    for tables, places, volume in (
        (batch.tables[1:], starts, out),
        (batch.tables, starts[1:], out),
        (batch.tables, starts, out[:, :, ::2]),
        (batch.tables.astype(np.uint8), starts, out),
    ):
        with pytest.raises(AssertionError):
            batch.decode(tables, places, volume, (0, 0, 0), clear=False)
