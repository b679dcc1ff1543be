import gzip
import struct

import lz4.block
import numpy as np
import pytest

from dvid_es.bench import wire
from dvid_es.bench.volume import BLOCK
from dvid_es.codecs import labelblock
from dvid_es.errors import InvalidRequest

SOLID = gzip.compress(labelblock.encode(np.full((BLOCK,) * 3, 7, np.uint64)))


def record(x: int, y: int, z: int, payload: bytes = SOLID) -> bytes:
    return struct.pack("<4i", x, y, z, len(payload)) + payload


def test_blocks_land_at_their_place_and_missing_ones_are_0():
    volume = wire.decode_stream(record(1, 0, 0), (BLOCK, BLOCK, 2 * BLOCK), BLOCK)
    assert (volume[:, :, :BLOCK] == 0).all()
    assert (volume[:, :, BLOCK:] == 7).all()


@pytest.mark.parametrize(
    "stream",
    [
        record(0, 0, 0)[:-1],
        record(0, 0, 0)[:10],
        record(0, 0, 0) * 2,
        record(1, 0, 0),
        record(-1, 0, 0),
        record(0, 0, 0, b"not gzip"),
        record(0, 0, 0, SOLID[:-4]),
        record(0, 0, 0, gzip.compress(b"\0" * 30)),
    ],
    ids=["cut", "head", "twice", "outside", "negative", "plain", "crc", "short"],
)
def test_a_wrong_block_stream_is_refused(stream):
    with pytest.raises(InvalidRequest):
        wire.decode_stream(stream, (BLOCK,) * 3, BLOCK)


@pytest.mark.parametrize("compressed", ["", "lz4", "gzip"])
def test_raw_voxels_are_read_in_each_compression(compressed):
    volume = np.arange(24, dtype=np.uint64).reshape(2, 3, 4)
    data = volume.tobytes()
    if compressed == "lz4":
        data = lz4.block.compress(data, store_size=False)
    elif compressed == "gzip":
        data = gzip.compress(data)
    assert np.array_equal(wire.decode_raw(data, (2, 3, 4), compressed), volume)
    with pytest.raises(InvalidRequest):
        wire.decode_raw(data, (2, 3, 5), compressed)


def test_runs_are_read_and_their_count_is_checked():
    runs = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "<i4")
    body = b"\0\3\0\0" + struct.pack("<II", 0, 2) + runs.tobytes()
    assert np.array_equal(wire.decode_runs(body), runs)
    assert len(wire.decode_runs(b"")) == 0
    for wrong in (body[:-1], body + b"\0" * 16, b"\1" + body[1:], body[:5]):
        with pytest.raises(InvalidRequest):
            wire.decode_runs(wrong)


# Made by hand after the schema: label 300; block 1 << 42 holds 5: 2 and 300: 1; block 0 nothing.
INDEX = bytes.fromhex(
    "0a190880808080808001120f0a04080510020a0508ac0210011007"
    "0a0408001200"
    "10ac022203616263"
)  # fmt: skip


def test_a_label_index_is_read():
    index = wire.decode_index(INDEX)
    assert index == (300, {1 << 42: {5: 2, 300: 1}, 0: {}})


@pytest.mark.parametrize("cut", [1, 3, 12, len(INDEX) - 1])
def test_a_cut_label_index_is_refused(cut):
    with pytest.raises(InvalidRequest):
        wire.decode_index(INDEX[:cut])
