import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import labelblock, neuroglancer
from dvid_es.codecs import neuroglancer_kernels as kernels
from dvid_es.errors import InvalidRequest
from tests.codecs.volumes import mixed, noise, real_cubes, volumes, voronoi


def slow_decode(data, shape):
    """Our own reading of the public description."""
    words = np.frombuffer(data, "<u4")
    assert words[0] == 1
    channel = words[1:]
    grid = tuple(side // 8 for side in shape)
    out = np.empty(shape, np.uint64)
    for s, (sz, sy, sx) in enumerate(np.ndindex(grid)):
        head, values_at = int(channel[2 * s]), int(channel[2 * s + 1])
        table_at, bits = head & 0xFFFFFF, head >> 24
        assert bits in (0, 1, 2, 4, 8, 16)
        for i in range(512):
            value = 0
            if bits:
                word = int(channel[values_at + i * bits // 32])
                value = word >> (i * bits % 32) & ((1 << bits) - 1)
            low, high = channel[table_at + 2 * value : table_at + 2 * value + 2].tolist()
            z, y, x = i >> 6, i >> 3 & 7, i & 7
            out[sz * 8 + z, sy * 8 + y, sx * 8 + x] = low | high << 32
    return out


def test_a_volume_of_one_label():
    data = neuroglancer.encode(np.full((8, 8, 8), 2**63 + 5, np.uint64))
    assert struct.unpack("<3IQ", data) == (1, 2, 2, 2**63 + 5)


@pytest.mark.parametrize("volume", [noise(1, 2), noise(2, 5), mixed(3), noise(4, 600)])
def test_it_is_read_by_the_public_description(volume):
    data = neuroglancer.encode(volume)
    assert (slow_decode(data, volume.shape) == volume).all()


def test_labels_are_in_order_of_first_appearance():
    volume = np.zeros((8, 8, 8), np.uint64)
    volume[0, 0, 0], volume[0, 0, 1] = 9, 3
    data = neuroglancer.encode(volume)
    assert struct.unpack_from("<3Q", data, len(data) - 24) == (9, 3, 0)


@given(volumes())
@settings(max_examples=40, deadline=None)
def test_decoding_undoes_encoding(volume):
    data = neuroglancer.encode(volume)
    assert np.array_equal(neuroglancer.decode(data, volume.shape), volume)
    assert neuroglancer.encode_block(labelblock.encode(volume)) == data


@given(volumes(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_block_with_other_labels_is_the_mapped_volume(volume, seed):
    block = labelblock.encode(volume)
    table = np.random.default_rng(seed).integers(0, 3, len(labelblock.table(block)), np.uint64)
    want = labelblock.decode(block, table)
    data = neuroglancer.encode_block(block, table)
    assert np.array_equal(neuroglancer.decode(data, volume.shape), want)
    assert data == neuroglancer.encode(want)


def test_sub_blocks_without_labels_are_background():
    block = struct.pack("<4I2Q2HI", 2, 1, 1, 2, 5, 6, 0, 1, 0)
    want = labelblock.decode(block)
    assert (neuroglancer.decode(neuroglancer.encode_block(block), (8, 8, 16)) == want).all()


def test_real_cubes_survive():
    for cube in [*real_cubes().values(), voronoi(1, 100)]:
        data = neuroglancer.encode(cube)
        assert (neuroglancer.decode(data, cube.shape) == cube).all()
        assert neuroglancer.encode_block(labelblock.encode(cube)) == data


@pytest.mark.parametrize("shape", [(8, 8, 12), (4, 8, 8), (0, 8, 8)])
def test_other_sides_are_refused(shape):
    with pytest.raises(InvalidRequest, match="sides of 8n"):
        neuroglancer.encode(np.zeros(shape, np.uint64))
    with pytest.raises(InvalidRequest, match="sides of 8n"):
        neuroglancer.decode(b"", shape)


def test_tables_out_of_reach_are_refused():
    volume = np.arange(8 * 8 * 131072, dtype=np.uint64).reshape(8, 8, 131072)
    with pytest.raises(InvalidRequest, match="24 bits"):
        neuroglancer.encode(volume)


def test_the_largest_volume_in_reach_survives():
    # 13,025 sub-blocks of 2 + 256 + 1024 words each end just below 2**24.
    volume = np.arange(8 * 8 * 8 * 13025, dtype=np.uint64).reshape(8, 8, 8 * 13025)
    data = neuroglancer.encode(volume)
    assert len(data) // 4 == kernels.most_words(1, 1, 13025)
    assert (neuroglancer.decode(data, volume.shape) == volume).all()


def test_mutated_data_are_refused_or_decode_within_their_bounds():
    rng = np.random.default_rng(5)
    base = neuroglancer.encode(mixed(1, (8, 16, 16)))
    refused = 0
    for _ in range(5000):
        data = bytearray(base)
        for _ in range(int(rng.integers(1, 3))):
            data[int(rng.integers(0, 40))] = int(rng.integers(0, 256))
        if rng.random() < 0.3:
            del data[int(rng.integers(0, len(data))) :]
        try:
            neuroglancer.decode(bytes(data), (8, 16, 16))
        except InvalidRequest:
            refused += 1
    assert 1000 < refused < 5000


@pytest.mark.parametrize("data", [b"", bytes(3), bytes(11), bytes(13)])
def test_cut_data_are_refused(data):
    with pytest.raises(InvalidRequest, match="cut off"):
        neuroglancer.decode(data, (8, 8, 8))


def test_slabs_that_lie_on_each_other_join_to_the_whole() -> None:
    volume = mixed(4, (40, 16, 24))
    cuts = [0, 8, 24, 40]
    slabs = [neuroglancer.encode(volume[a:b]) for a, b in pairwise(cuts)]
    joined = neuroglancer.join(slabs, [1, 2, 2], 6)
    assert b"".join(joined) == neuroglancer.encode(volume)


def test_slabs_whose_tables_24_bits_do_not_reach_are_refused(monkeypatch) -> None:
    volume = mixed(4, (16, 16, 24))
    slabs = [neuroglancer.encode(volume[:8]), neuroglancer.encode(volume[8:])]
    monkeypatch.setattr(neuroglancer, "_REACH", 1 << 10)
    with pytest.raises(InvalidRequest, match="24 bits"):
        neuroglancer.join(slabs, [1, 1], 6)
