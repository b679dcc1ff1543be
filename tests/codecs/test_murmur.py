from __future__ import annotations

import numpy as np

from dvid_es.codecs import murmur

LOW = 0xFFFFFFFF


def murmur3(data: bytes) -> int:
    """The x86 variant of 32 bits for whole words, seed 0, from its description."""
    state = 0
    for at in range(0, len(data), 4):
        word = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & LOW
        word = (word << 15 | word >> 17) & LOW
        state ^= word * 0x1B873593 & LOW
        state = (state << 13 | state >> 19) & LOW
        state = (state * 5 + 0xE6546B64) & LOW
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state ^= state >> shift
        state = state * factor & LOW
    return state ^ state >> 16


def test_colours_are_the_first_bytes_of_the_hash() -> None:
    # Published: the hash of "test" with seed 0; it shows that the description above is right.
    assert murmur3(b"test") == 0xBA6BD213
    random = np.random.default_rng(7)
    labels = random.integers(0, 1 << 64, 500, np.uint64)
    labels[:5] = 0, 1, 1, (1 << 64) - 1, 1 << 32
    found = murmur.colours(labels.reshape(20, 25))
    assert found.shape == (20, 25, 3)
    for label, colour in zip(labels.tolist(), found.reshape(-1, 3), strict=True):
        expected = murmur3(label.to_bytes(8, "little")).to_bytes(4, "big")
        assert colour.tobytes() == expected[:3]
    column = murmur.colours(labels.reshape(20, 25)[:, 3:4])
    assert (column == found[:, 3:4]).all()
