import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.codecs import compression
from dvid_es.errors import InvalidRequest

SAMPLES = [b"", b"x", b"abc" * 50_000, bytes(range(256)) * 300]


@pytest.mark.parametrize("data", SAMPLES, ids=len)
def test_gzip_is_read_by_everybody_and_back(data):
    packed = compression.gzip_compress(data)
    assert packed == compression.gzip_compress(data)
    assert gzip.decompress(packed) == data
    assert compression.gzip_decompress(packed, len(data)) == data
    assert compression.gzip_decompress(gzip.compress(data, 9), len(data)) == data


@pytest.mark.parametrize("data", SAMPLES, ids=len)
def test_raw_deflate_is_read_by_zlib_and_back(data):
    assert zlib.decompress(compression.deflate_raw(data), -15) == data
    assert compression.inflate_raw(compression.deflate_raw(data), len(data)) == data


@pytest.mark.parametrize("data", SAMPLES, ids=len)
def test_lz4_needs_no_exact_size(data):
    packed = compression.lz4_block_compress(data)
    assert compression.lz4_block_decompress(packed, len(data)) == data
    assert compression.lz4_block_decompress(packed, len(data) + 1000) == data


def test_members_of_a_gzip_stream_are_joined():
    stream = gzip.compress(b"one") + compression.gzip_compress(b"two") + gzip.compress(b"")
    assert compression.gzip_decompress(stream, 6) == b"onetwo"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"\x1f\x8b", "cut off"),
        (gzip.compress(b"abc")[:-1], "cut off"),
        (gzip.compress(b"abc")[:-9], "cut off"),
        (gzip.compress(b"abc") + b"\0", "cut off|damaged"),
        (gzip.compress(b"abc") + b"garbage and more", "damaged"),
        (b"not gzip at all, is it?", "damaged"),
        (gzip.compress(b"abcd"), "more than the 3 bytes"),
        (gzip.compress(b"ab") + gzip.compress(b"cd"), "more than the 3 bytes"),
        (gzip.compress(bytes(10**7)), "more than the 3 bytes"),
    ],
)
def test_bad_gzip_is_refused(data, why):
    with pytest.raises(InvalidRequest, match=why):
        compression.gzip_decompress(data, 3)


def test_a_flipped_bit_of_the_checksum_is_refused():
    packed = bytearray(gzip.compress(b"abc"))
    packed[-6] ^= 1
    with pytest.raises(InvalidRequest, match="damaged"):
        compression.gzip_decompress(packed, 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", compression.deflate_raw(b"abcd")[:-1]])
def test_bad_deflate_is_refused(data):
    with pytest.raises(InvalidRequest):
        compression.inflate_raw(data, 100)


def test_deflate_longer_than_allowed_is_refused():
    with pytest.raises(InvalidRequest, match="more than the 3 bytes"):
        compression.inflate_raw(compression.deflate_raw(b"abcd"), 3)


@pytest.mark.parametrize(
    "data", [b"", b"\xf0", b"\xff" * 20, compression.lz4_block_compress(b"abcd")]
)
def test_bad_or_long_lz4_is_refused(data):
    with pytest.raises(InvalidRequest, match="LZ4"):
        compression.lz4_block_decompress(data, 3)


def test_lz4_refuses_impossible_sizes():
    with pytest.raises(InvalidRequest, match="do not fit"):
        compression.lz4_block_decompress(b"\x00", 2**32)
    with pytest.raises(InvalidRequest, match="do not fit"):
        compression.lz4_block_decompress(b"\x00", -1)


def test_lz4_refuses_more_than_a_block_can_hold(monkeypatch):
    monkeypatch.setattr(compression, "LZ4_MAX_INPUT", 3)
    with pytest.raises(InvalidRequest, match="do not fit"):
        compression.lz4_block_compress(b"abcd")


def test_crc32_is_that_of_gzip_and_goes_on():
    assert compression.crc32(b"abc") == zlib.crc32(b"abc")
    assert compression.crc32(b"def", compression.crc32(b"abc")) == zlib.crc32(b"abcdef")


@given(st.binary(max_size=300))
def test_a_stored_value_is_0x80_size_and_lz4(data):
    value = compression.encode_stored_value(data)
    assert value[0] == 0x80
    assert int.from_bytes(value[1:5], "little") == len(data)
    assert compression.decode_stored_value(value, len(data)) == data


def with_checksum(descriptor, body):
    return bytes([descriptor | 1 << 3]) + zlib.crc32(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "value",
    [
        b"\x00abc",
        with_checksum(0x00, b"abc"),
        b"\x40" + gzip.compress(b"abc"),
        b"\x48" + gzip.compress(b"abc"),
        with_checksum(0x80, b"\x03\0\0\0" + compression.lz4_block_compress(b"abc")),
    ],
)
def test_other_stored_values_of_dvid_are_read(value):
    assert compression.decode_stored_value(value, 3) == b"abc"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "empty"),
        (b"\x20abc", "compression 1"),
        (b"\x80\x03", "compression 4"),
        (b"\x80\x04\0\0\0" + compression.lz4_block_compress(b"abc"), "has 3 bytes and not 4"),
        (b"\x80\xff\xff\xff\xff", "4294967295 bytes"),
        (b"\x00abcde", "5 bytes"),
        (b"\x10abcde", "checksum of kind 2"),
        (b"\x08abc", "checksum of kind 1"),
        (with_checksum(0x00, b"abc")[:-1] + b"d", "does not match"),
    ],
)
def test_bad_stored_values_are_refused(value, why):
    with pytest.raises(InvalidRequest, match=why):
        compression.decode_stored_value(value, 4)
