from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import snappy, voxelblock
from dvid_es.errors import CorruptStore, InvalidRequest

LOSSLESS = [form for form in voxelblock.FORMS if form != "jpeg"]


def unsnap(data: bytes) -> bytes:
    """Snappy by the book, byte by byte."""
    size = shift = at = 0
    while True:
        byte, at = data[at], at + 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                wide = length - 59
                length = int.from_bytes(data[at : at + wide], "little")
                at += wide
            out += data[at : at + length + 1]
            at += length + 1
            continue
        if tag & 3 == 1:
            length, offset, at = 4 + (tag >> 2 & 7), tag >> 5 << 8 | data[at], at + 1
        else:
            wide = 2 if tag & 3 == 2 else 4
            length, offset = 1 + (tag >> 2), int.from_bytes(data[at : at + wide], "little")
            at += wide
        for _ in range(length):
            out.append(out[-offset])
    assert len(out) == size
    return bytes(out)


def smooth(side: int) -> np.ndarray:
    z, y, x = np.meshgrid(*[np.arange(side)] * 3, indexing="ij")
    return ((z * 3 + y * 2 + x) % 200).astype(np.uint8)


@pytest.mark.parametrize("form", LOSSLESS)
@pytest.mark.parametrize("size", [1, 59, 60, 61, 256, 257, 4096, 65535, 65536, 65537, 200_000])
def test_voxels_come_back_from_every_form_without_loss(form: str, size: int) -> None:
    noise = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    for voxels in (noise, noise // 64, np.zeros(size, np.uint8), np.arange(size).astype(np.uint8)):
        stored = voxelblock.encode(voxels.tobytes(), form, 1)
        assert np.array_equal(voxelblock.decode(stored, form, size), voxels)


def test_a_jpeg_block_is_as_wide_as_a_row_and_close_to_what_was_given() -> None:
    voxels = smooth(32)
    stored = voxelblock.encode(voxels.tobytes(), "jpeg", 32)
    assert stored[:2] == b"\xff\xd8"
    got = voxelblock.decode(stored, "jpeg", 32**3).astype(int)
    assert np.abs(got - voxels.reshape(-1)).mean() < 8


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.integers(1, 400))
def test_snappy_is_read_by_a_reader_made_from_its_description(piece: bytes, times: int) -> None:
    data = piece * times
    packed = snappy.compress(data)
    assert unsnap(packed) == data
    assert snappy.decompress(packed, len(data)) == data


def test_snappy_makes_what_repeats_small() -> None:
    assert len(snappy.compress(bytes(32768))) < 2000
    assert len(snappy.compress(smooth(32).tobytes())) < 32768 // 2


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=1, max_size=80), st.integers(0, 100))
def test_damaged_snappy_is_refused_or_has_the_right_size(data: bytes, size: int) -> None:
    with contextlib.suppress(InvalidRequest):
        assert len(snappy.decompress(data, size)) == size


@pytest.mark.parametrize("form", voxelblock.FORMS)
def test_a_damaged_block_is_damage_of_the_store(form: str) -> None:
    stored = voxelblock.encode(smooth(16).tobytes(), form, 16)
    for damaged in (stored[:-40], b"", stored[:30]):
        with pytest.raises(CorruptStore):
            voxelblock.decode(damaged, form, 16**3)
    with pytest.raises(CorruptStore):
        voxelblock.decode(stored, form, 16**3 - 1)
