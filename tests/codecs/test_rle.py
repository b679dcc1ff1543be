import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import labelblock, rle
from dvid_es.errors import InvalidRequest
from tests.codecs.volumes import noise, paint, real_cubes, volumes, voronoi


def slow_runs(mask, start_zyx=(0, 0, 0)):
    runs = []
    for z, y in np.ndindex(mask.shape[:2]):
        x = 0
        while x < mask.shape[2]:
            length = 0
            while x + length < mask.shape[2] and mask[z, y, x + length]:
                length += 1
            if length:
                runs.append((start_zyx[2] + x, start_zyx[1] + y, start_zyx[0] + z, length))
            x += length + 1
    return np.array(runs, np.int32).reshape(-1, 4)


def choose(table, seed):
    chosen = np.random.default_rng(seed).random(len(table)) < 0.4
    return np.sort(table[chosen])


@given(volumes(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_runs_of_a_block_are_those_of_its_mask(volume, seed):
    block = labelblock.encode(volume)
    wanted = choose(labelblock.table(block), seed)
    flags = rle.flags_of(labelblock.table(block), wanted)
    start = (-64, 2**31 - 200, 17)
    mask = np.isin(volume, wanted)
    runs = rle.runs_of(block, flags, start)
    assert runs.dtype == np.int32
    assert runs.tolist() == slow_runs(mask, start).tolist()
    assert rle.count_voxels(runs) == np.count_nonzero(mask)


def test_runs_of_real_cubes_are_those_of_their_masks():
    for cube in real_cubes().values():
        block = labelblock.encode(cube)
        table = labelblock.table(block)
        for label in table.tolist():
            runs = rle.runs_of(block, (table == label).astype(np.uint8), (0, 64, -64))
            assert (paint(runs, cube.shape, (0, 64, -64)) == (cube == label)).all()


def test_runs_in_a_sub_block_without_labels_are_none():
    block = struct.pack("<4I2Q2HI", 2, 1, 1, 2, 5, 6, 0, 1, 0)
    runs = rle.runs_of(block, np.array([1, 0], np.uint8), (0, 0, 0))
    assert rle.count_voxels(runs) == 512
    assert runs[:, 0].tolist() == [8] * 64


@given(st.lists(st.integers(0, 30), max_size=40), st.lists(st.integers(0, 30), max_size=10))
def test_flags_tell_which_entries_are_wanted(table, wanted):
    table = np.array(table, np.uint64)
    wanted = np.unique(np.array(wanted, np.uint64))
    assert rle.flags_of(table, wanted).tolist() == np.isin(table, wanted).tolist()


def blocks_of(volume, side):
    for z, y, x in np.ndindex(tuple(s // side for s in volume.shape)):
        start = (z * side, y * side, x * side)
        yield start, labelblock.encode_from(volume, start, (side,) * 3)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([(0, 0, 0), (-33, 7, -16)]))
@settings(max_examples=30, deadline=None)
def test_runs_of_many_blocks_are_joined_in_strict_order(seed, shuffled, origin):
    volume = voronoi(seed, 6, (32, 48, 64))
    wanted = choose(np.unique(volume), seed)
    pieces = []
    for start, block in blocks_of(volume, 16):
        flags = rle.flags_of(labelblock.table(block), wanted)
        place = tuple(o + s for o, s in zip(origin, start, strict=True))
        pieces.append(rle.runs_of(block, flags, place))
    if shuffled:
        np.random.default_rng(seed).shuffle(pieces)
    assert rle.sort_runs(pieces).tolist() == slow_runs(np.isin(volume, wanted), origin).tolist()


def test_runs_far_apart_are_sorted_too():
    rng = np.random.default_rng(1)
    runs = rng.integers(-(2**31), 2**31 - 10, (500, 4), dtype=np.int32)
    runs[:, 3] = 1
    runs = np.unique(runs, axis=0)
    got = rle.sort_runs(runs)
    assert got.tolist() == sorted(runs.tolist(), key=lambda r: (r[2], r[1], r[0]))


def test_sorting_no_runs_gives_no_runs():
    assert rle.sort_runs([]).shape == (0, 4)
    assert rle.sort_runs(rle.empty_runs()).shape == (0, 4)
    assert rle.sort_runs([rle.empty_runs(), rle.empty_runs()]).shape == (0, 4)


def test_sorting_leaves_its_argument_alone():
    runs = np.array([(0, 0, 0, 2), (2, 0, 0, 2)], np.int32)
    before = runs.copy()
    assert rle.sort_runs(runs).tolist() == [[0, 0, 0, 4]]
    assert (runs == before).all()


def test_overlapping_runs_are_refused_or_joined():
    runs = np.array([(0, 0, 0, 5), (3, 0, 0, 1), (4, 0, 0, 9), (0, 1, 0, 1)], np.int32)
    with pytest.raises(InvalidRequest, match="overlap"):
        rle.sort_runs(runs)
    assert rle.sort_runs(runs, overlaps=True).tolist() == [[0, 0, 0, 13], [0, 1, 0, 1]]
    with pytest.raises(InvalidRequest, match="overlap"):
        rle.sort_runs(np.array([(7, 1, 1, 1)] * 2, np.int32))


def test_runs_that_reach_the_last_coordinate_are_joined_without_overflow():
    last = 2**31 - 1
    runs = np.array([(last - 2, 0, 0, 2), (last - 5, 0, 0, 3)], np.int32)
    assert rle.sort_runs(runs).tolist() == [[last - 5, 0, 0, 5]]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_clipping_keeps_the_voxels_inside_of_the_bounds(data):
    volume = noise(data.draw(st.integers(0, 99)), 2, (8, 8, 24))
    mask = volume != 0
    runs = slow_runs(mask)
    bound = st.none() | st.integers(-3, 27)
    first = [data.draw(bound) for _ in range(3)]
    last = [data.draw(bound) for _ in range(3)]
    inside = np.ones(mask.shape, bool)
    for axis, grid in enumerate(np.indices(mask.shape)):
        if first[axis] is not None:
            inside &= grid >= first[axis]
        if last[axis] is not None:
            inside &= grid <= last[axis]
    clipped = rle.clip_runs(runs, first, last)
    assert clipped.tolist() == slow_runs(mask & inside).tolist()


def test_a_run_is_cut_exactly_at_the_bound():
    runs = np.array([(8, 0, 0, 8)], np.int32)
    assert rle.clip_runs(runs, (None, None, 9), (None, None, 11)).tolist() == [[9, 0, 0, 3]]


@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 8, 8), (16, 32, 8), (4, 4, 64)]))
@settings(max_examples=30, deadline=None)
def test_runs_are_dealt_out_to_their_blocks(seed, shape):
    origin = (-13, 5, -70)
    mask = voronoi(seed, 5, (24, 40, 96), zeros=0.5) != 0
    runs = slow_runs(mask, origin)
    np.random.default_rng(seed).shuffle(runs)
    coords, starts, pieces = rle.split_at_blocks(runs, shape)
    assert starts[0] == 0
    assert starts[-1] == len(pieces)
    assert coords.tolist() == sorted(coords.tolist())
    assert len({tuple(c) for c in coords.tolist()}) == len(coords)
    for i, coord in enumerate(coords.tolist()):
        mine = pieces[starts[i] : starts[i + 1]]
        assert len(mine)
        for x, y, z, length in mine.tolist():
            assert [z // shape[0], y // shape[1], x // shape[2]] == coord
            assert (x + length - 1) // shape[2] == coord[2]
        assert mine.tolist() == sorted(mine.tolist(), key=lambda r: (r[2], r[1], r[0]))
    assert (paint(pieces, mask.shape, origin) == mask).all()


def test_no_runs_meet_no_blocks():
    coords, starts, pieces = rle.split_at_blocks(rle.empty_runs(), (64, 64, 64))
    assert coords.shape == (0, 3)
    assert starts.tolist() == [0]
    assert pieces.shape == (0, 4)


def test_the_legacy_form_is_twelve_bytes_and_runs():
    runs = np.array([(1, -2, 3, 4), (5, 6, 7, 8)], np.int32)
    data = rle.encode_legacy(runs)
    assert data[:12] == bytes([0, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0])
    assert struct.unpack("<8i", data[12:]) == (1, -2, 3, 4, 5, 6, 7, 8)
    assert rle.parse_legacy(data).tolist() == runs.tolist()
    assert rle.encode_legacy(rle.empty_runs()) == bytes([0, 3]) + bytes(10)


def test_bytes_that_dvid_ignores_are_ignored():
    data = bytearray(rle.encode_legacy(np.array([(1, 2, 3, 4)], np.int32)))
    data[1:8] = b"\xff" * 7
    assert rle.parse_legacy(bytes(data) + b"tail").tolist() == [[1, 2, 3, 4]]
    shifted = memoryview(b"x" + bytes(data))[1:]
    assert rle.parse_legacy(shifted).tolist() == [[1, 2, 3, 4]]


def legacy(*runs, spans=None):
    header = struct.pack("<BBHII", 0, 3, 0, 0, len(runs) if spans is None else spans)
    return header + b"".join(struct.pack("<4i", *run) for run in runs)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "header alone has 12"),
        (legacy()[:11], "header alone has 12"),
        (b"\x01" + legacy()[1:], "begins with byte 1"),
        (legacy((0, 0, 0, 1), spans=2), "claims 2 spans but has bytes for 1"),
        (legacy((0, 0, 0, 1), spans=2**32 - 1), "claims 4294967295"),
        (legacy((0, 0, 0, 1))[:-1], "claims 1 spans but has bytes for 0"),
        (legacy((0, 0, 0, 0)), "no voxels"),
        (legacy((0, 0, 0, 1), (0, 0, 0, -5)), "no voxels"),
        (legacy((2**31 - 1, 0, 0, 1)), "32-bit"),
        (legacy((2**31 - 1, 0, 0, 2**31 - 1)), "32-bit"),
        (legacy(*[(0, 0, 0, 1)] * 11), "at most 10"),
    ],
)
def test_malformed_requests_are_refused(data, why):
    with pytest.raises(InvalidRequest, match=why):
        rle.parse_legacy(data, max_runs=10)


def test_bare_runs_have_sixteen_bytes_each():
    assert rle.parse_runs(b"").shape == (0, 4)
    with pytest.raises(InvalidRequest, match="16 bytes"):
        rle.parse_runs(bytes(17))


def test_coarse_volumes_are_runs_of_blocks():
    blocks = np.array([(0, 1, 1), (0, 1, 2), (0, 0, 5), (1, 0, 0), (0, 1, 4)], np.int32)
    assert rle.runs_of_points(blocks).tolist() == [
        [5, 0, 0, 1],
        [1, 1, 0, 2],
        [4, 1, 0, 1],
        [0, 0, 1, 1],
    ]


def read_binary_block(data, at, grid):
    """Our own reading of the format: start, mask, and the place behind."""
    x, y, z, flag = struct.unpack_from("<iiiB", data, at)
    at += 13
    gz, gy, gx = grid
    mask = np.zeros((gz * 8, gy * 8, gx * 8), bool)
    if flag == 1:
        mask[:] = True
        return (z, y, x), mask, at
    assert flag == 2
    for sz, sy, sx in np.ndindex(grid):
        kind = data[at]
        at += 1
        if kind == 2:
            bits = np.frombuffer(data, np.uint8, 64, at)
            sub = np.unpackbits(bits, bitorder="little").reshape(8, 8, 8).astype(bool)
            assert 0 < sub.sum() < 512
            at += 64
        else:
            sub = np.full((8, 8, 8), kind == 1)
        mask[sz * 8 : sz * 8 + 8, sy * 8 : sy * 8 + 8, sx * 8 : sx * 8 + 8] = sub
    return (z, y, x), mask, at


@given(volumes(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_binary_blocks_hold_the_mask(volume, seed):
    block = labelblock.encode(volume)
    wanted = choose(labelblock.table(block), seed)
    flags = rle.flags_of(labelblock.table(block), wanted)
    mask = np.isin(volume, wanted)
    data = rle.binary_block(block, flags, (-64, 0, 128))
    if not mask.any():
        assert data == b""
        return
    grid = tuple(side // 8 for side in volume.shape)
    start, got, end = read_binary_block(data, 0, grid)
    assert start == (-64, 0, 128)
    assert end == len(data)
    assert (got == mask).all()


def test_masks_are_packed_lowest_bit_first():
    volume = np.ones((8, 8, 8), np.uint64)
    volume[:, :, 1:3] = 2
    block = labelblock.encode(volume)
    data = rle.binary_block(block, np.array([1, 0], np.uint8), (0, 0, 0))
    assert data == bytes(12) + b"\x02\x02" + b"\xf9" * 64


def test_the_header_of_binary_blocks():
    assert rle.binary_header((64, 32, 16), 7) == struct.pack("<IIIQ", 2, 4, 8, 7)
