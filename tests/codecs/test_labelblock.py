import contextlib
import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import labelblock
from dvid_es.errors import InvalidRequest
from tests.codecs.volumes import DATA, mixed, noise, real_cubes, volumes, voronoi

GOLDEN = bytes.fromhex(
    "02000000 02000000 02000000 03000000"
    "8877665544332211 0000000000000000 0700000000000000"
    "0300 0100 0100 0100 0100 0100 0100 0100"
    "02000000 00000000 01000000" + "02000000" * 7 + "1800" * 64
)


def golden_volume():
    volume = np.full((16, 16, 16), 7, np.uint64)
    volume[:8, :8, 1] = 0x1122334455667788
    volume[:8, :8, 2] = 0
    return volume


def test_the_golden_block_decodes():
    assert len(GOLDEN) == 224
    assert labelblock.validate(GOLDEN, (16, 16, 16)) == 224
    assert (labelblock.decode(GOLDEN) == golden_volume()).all()


def test_encoding_the_golden_volume_differs_in_the_order_of_labels_only():
    block = labelblock.encode(golden_volume())
    assert len(block) == 224
    assert block[-128:] == GOLDEN[-128:]
    assert labelblock.table(block).tolist() == [7, 0x1122334455667788, 0]


def test_the_golden_solid_block():
    solid = bytes.fromhex("02000000 02000000 02000000 01000000 0000000000000000")
    assert labelblock.solid(0, (16, 16, 16)) == solid
    assert labelblock.encode(np.zeros((16, 16, 16), np.uint64)) == solid
    assert labelblock.validate(solid) == 24
    assert not labelblock.decode(solid).any()
    assert labelblock.solid_label(labelblock.solid(2**64 - 1, (8, 8, 8))) == 2**64 - 1
    assert labelblock.solid_label(GOLDEN) is None


def test_a_real_block_of_dvid_decodes_to_its_cube():
    cubes = real_cubes()
    block = gzip.decompress((DATA / "fib19-64x64x64-sample1-block.dat.gz").read_bytes())
    cube = cubes["fib19-64x64x64-sample1"]
    assert labelblock.validate(block, (64, 64, 64)) == len(block) == 22_512
    assert len(labelblock.table(block)) == 18
    assert (labelblock.decode(block) == cube).all()
    assert len(labelblock.encode(cube)) == len(block)


def test_real_cubes_survive():
    for cube in real_cubes().values():
        assert (labelblock.decode(labelblock.encode(cube)) == cube).all()


@given(volumes())
@settings(max_examples=60, deadline=None)
def test_decoding_undoes_encoding(volume):
    block = labelblock.encode(volume)
    assert block == labelblock.encode(volume.copy())
    assert labelblock.validate(block, volume.shape) == len(block)
    assert labelblock.shape(block) == volume.shape
    assert np.array_equal(labelblock.decode(block), volume)
    table = labelblock.table(block)
    assert set(table.tolist()) == set(np.unique(volume).tolist())
    assert len(set(table.tolist())) == len(table)


def test_a_block_of_only_distinct_labels_survives():
    volume = np.random.default_rng(1).permutation(64**3).astype(np.uint64).reshape(64, 64, 64)
    block = labelblock.encode(volume)
    assert labelblock.validate(block) == len(block)
    assert (labelblock.decode(block) == volume).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 64, 128, 256, 257, 512])
def test_any_number_of_labels_in_a_sub_block_survives(count):
    labels = np.arange(512, dtype=np.uint64) % np.uint64(count) + np.uint64(2**63)
    volume = np.random.default_rng(count).permutation(labels).reshape(8, 8, 8)
    block = labelblock.encode(volume)
    assert labelblock.validate(block) == len(block)
    assert (labelblock.decode(block) == volume).all()


@given(volumes(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_mapped_table_is_a_mapped_volume(volume, seed):
    block = labelblock.encode(volume)
    table = labelblock.table(block)
    # Few targets, so that labels fall together and some become background.
    mapped = np.random.default_rng(seed).integers(0, 4, len(table), dtype=np.uint64)
    order = np.argsort(table)
    want = mapped[order][np.searchsorted(table[order], volume)]
    assert np.array_equal(labelblock.decode(block, mapped), want)
    replaced = labelblock.with_table(block, mapped)
    assert np.array_equal(labelblock.decode(replaced), want)
    assert labelblock.validate(replaced, volume.shape) == len(replaced)
    assert_counts(replaced, want)


def assert_counts(block, volume):
    labels, voxels = labelblock.counts(block)
    want_labels, want_voxels = np.unique(volume, return_counts=True)
    known = want_labels != 0
    assert labels.tolist() == want_labels[known].tolist()
    assert voxels.tolist() == want_voxels[known].tolist()


@given(volumes())
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_numpy(volume):
    assert_counts(labelblock.encode(volume), volume)


def test_unused_entries_of_a_table_are_not_counted():
    spare = GOLDEN[:12] + struct.pack("<I", 4) + GOLDEN[16:40] + struct.pack("<Q", 99) + GOLDEN[40:]
    assert labelblock.validate(spare) == len(spare)
    assert_counts(spare, golden_volume())


def test_sub_blocks_without_labels_are_background():
    # Two sub-blocks: the first claims no label at all, the second label 5.
    block = struct.pack("<4I2Q2HI", 2, 1, 1, 2, 5, 6, 0, 1, 0)
    want = np.zeros((8, 8, 16), np.uint64)
    want[:, :, 8:] = 5
    assert labelblock.validate(block, (8, 8, 16)) == len(block)
    assert (labelblock.decode(block) == want).all()
    assert_counts(block, want)
    assert labelblock.label_at(block, 3, 3, 3) == 0
    assert labelblock.label_at(block, 3, 3, 8) == 5


@given(volumes(), st.data())
@settings(max_examples=40, deadline=None)
def test_points_are_looked_up(volume, data):
    block = labelblock.encode(volume)
    seed = data.draw(st.integers(0, 2**32 - 1))
    points = np.random.default_rng(seed).integers(0, volume.shape, (50, 3)).astype(np.int32)
    assert labelblock.labels_at(block, points).tolist() == volume[tuple(points.T)].tolist()
    z, y, x = points[0].tolist()
    assert labelblock.label_at(block, z, y, x) == int(volume[z, y, x])
    last = np.array([volume.shape], np.int32) - 1
    assert labelblock.labels_at(block, last)[0] == volume[-1, -1, -1]
    shifted = labelblock.table(block) + np.uint64(1)
    assert (labelblock.labels_at(block, points, shifted) == volume[tuple(points.T)] + 1).all()


def test_points_outside_of_the_block_are_a_mistake_of_the_caller():
    for point in [(0, 0, 16), (-1, 0, 0), (0, 16, 0)]:
        with pytest.raises(AssertionError):
            labelblock.label_at(GOLDEN, *point)


def test_decoding_writes_into_a_given_array():
    out = np.empty((16, 16, 16), np.uint64)
    assert labelblock.decode(GOLDEN, None, out) is out
    assert (out == golden_volume()).all()


def test_a_box_of_a_block_is_decoded_in_place():
    volume = mixed(3)
    out = np.zeros(volume.shape, np.uint64)
    labelblock.decode_box(labelblock.encode(volume), None, (3, 0, 9), (9, 24, 30), out)
    want = np.zeros_like(out)
    want[3:9, 0:24, 9:30] = volume[3:9, 0:24, 9:30]
    assert (out == want).all()


def test_a_block_is_encoded_from_the_middle_of_a_volume():
    volume = voronoi(4, 40, (40, 56, 72))
    for start in [(0, 0, 0), (1, 2, 3), (24, 40, 40), (8, 16, 31)]:
        z, y, x = start
        box = np.ascontiguousarray(volume[z : z + 16, y : y + 16, x : x + 32])
        assert labelblock.encode_from(volume, start, (16, 16, 32)) == labelblock.encode(box)


def test_a_block_that_leaves_its_volume_is_a_mistake_of_the_caller():
    volume = np.zeros((16, 16, 16), np.uint64)
    for start in [(1, 0, 0), (0, -1, 0), (0, 0, 9)]:
        with pytest.raises(AssertionError):
            labelblock.encode_from(volume, start, (16, 16, 16))
    with pytest.raises(AssertionError):
        labelblock.encode(np.zeros((8, 8, 12), np.uint64))
    with pytest.raises(AssertionError):
        labelblock.encode(np.zeros((8, 8, 8), np.int64))


def test_blocks_may_lie_anywhere_in_memory():
    volume = noise(2, 9)
    block = labelblock.encode(volume)
    for shift in range(1, 9):
        view = memoryview(bytes(shift) + block)[shift:]
        assert labelblock.validate(view, volume.shape) == len(block)
        assert (labelblock.decode(view) == volume).all()
        assert labelblock.labels_at(view, np.zeros((1, 3), np.int32))[0] == volume[0, 0, 0]
        assert_counts(view, volume)
        assert labelblock.with_table(view, labelblock.table(view)) == block


def test_the_shape_must_be_that_of_the_instance():
    with pytest.raises(InvalidRequest, match=r"16 x 16 x 16 voxels.*have 64 x 64 x 32"):
        labelblock.validate(GOLDEN, (32, 64, 64))


def test_bytes_behind_a_block_are_not_part_of_it():
    assert labelblock.validate(GOLDEN + b"more") == len(GOLDEN)
    assert labelblock.validate(labelblock.solid(1, (8, 8, 8)) + b"more") == 24


def changed(at, new):
    return GOLDEN[:at] + new + GOLDEN[at + len(new) :]


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"", "needs 24 bytes"),
        (GOLDEN[:23], "needs 24 bytes"),
        (changed(0, b"\0\0\0\0"), "each side"),
        (changed(4, b"\x81\0\0\0"), "each side"),
        (changed(8, b"\xff\xff\xff\xff"), "each side"),
        (changed(12, b"\0\0\0\0"), "claims 0 labels"),
        (changed(12, b"\xff\xff\xff\xff"), "claims 4294967295 labels"),
        (changed(12, struct.pack("<I", 26)), "cut off"),
        (changed(12, struct.pack("<I", 27)), "claims 27 labels"),
        (GOLDEN[:-1], "cut off"),
        (GOLDEN[:60], "cut off"),
        (GOLDEN[:42], "cut off"),
        (changed(42, struct.pack("<H", 513)), "512 labels"),
        (changed(42, struct.pack("<H", 512)), "cut off"),
        (changed(56, struct.pack("<I", 3)), "beyond the table"),
        (changed(56, b"\xff\xff\xff\xff"), "beyond the table"),
        (changed(96, b"\xff"), "beyond those of its sub-block"),
        (changed(223, b"\x03"), "beyond those of its sub-block"),
    ],
)
def test_malformed_blocks_are_refused(block, why):
    with pytest.raises(InvalidRequest, match=why):
        labelblock.validate(block)


def fuzz_bases():
    small = noise(5, 3, (8, 8, 16))
    return [
        GOLDEN,
        labelblock.encode(small),
        labelblock.encode(mixed(6, (8, 16, 16))),
        labelblock.encode(noise(7, 512, (8, 8, 8))),
        struct.pack("<4I2Q2HI", 2, 1, 1, 2, 5, 6, 0, 1, 0),
    ]


def use(block):
    """Run every kernel over a block that passed validation."""
    length = labelblock.validate(block)
    block = block[:length]
    z, y, x = labelblock.shape(block)
    if z * y * x > 2**20:
        return
    volume = labelblock.decode(block)
    assert_counts(block, volume)
    points = np.indices(volume.shape, np.int32).reshape(3, -1).T[::37].copy()
    assert (labelblock.labels_at(block, points) == volume[tuple(points.T)]).all()


def test_mutated_blocks_are_refused_or_decode_within_their_bounds():
    rng = np.random.default_rng(11)
    bases = fuzz_bases()
    refused = used = 0
    for i in range(20_000):
        block = bytearray(bases[i % len(bases)])
        header = i // len(bases) % 2
        for _ in range(int(rng.integers(1, 4))):
            # Half of the inputs are hit where the structure is.
            limit = min(len(block), 200) if header else len(block)
            block[int(rng.integers(0, limit))] = int(rng.choice([0, 1, 2, 127, 128, 255, i & 255]))
        if i % 5 == 0:
            del block[int(rng.integers(0, len(block))) :]
        try:
            labelblock.validate(bytes(block))
        except InvalidRequest:
            refused += 1
            continue
        used += 1
        if used % 5 == 0:
            use(bytes(block))
    assert min(refused, used) > 2000


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused_or_decode(data):
    with contextlib.suppress(InvalidRequest):
        use(data)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.binary())
@settings(max_examples=300, deadline=None)
def test_random_bytes_behind_a_good_header_are_refused_or_decode(gx, gy, gz, labels, data):
    with contextlib.suppress(InvalidRequest):
        use(struct.pack("<4I", gx, gy, gz, labels) + data)
