from __future__ import annotations

import gzip
import zlib

import lz4.block
import numpy as np
import pytest

from dvid_es.codecs.compression import LZ4_MAX_INPUT
from dvid_es.codecs.spliced import GzipJoiner, Lz4Joiner, gzip_part, lz4_part
from dvid_es.errors import InvalidRequest


def contents() -> list[tuple[bytes, int]]:
    random = np.random.default_rng(4)
    found = [
        (random.bytes(100_000), 999),
        (bytes(100_000), 777),
        (random.bytes(300) * 300, 5000),
        (random.bytes(300) * 300, 1 << 20),
        (b"a" * 15 + random.bytes(40), 13),
        (random.bytes(14), 5),
        (b"x", 1),
    ]
    for _ in range(150):
        length, alphabet = int(random.integers(1, 3000)), int(random.integers(1, 6))
        data = random.integers(0, alphabet, length, dtype=np.uint8).tobytes()
        found.append((data, int(random.integers(1, 700))))
    return found


def parts(data: bytes, size: int) -> list[memoryview]:
    return [memoryview(data)[at : at + size] for at in range(0, len(data), size)]


def test_parts_of_a_gzip_member_make_one_member() -> None:
    for data, size in contents():
        joiner = GzipJoiner()
        pieces = [piece for part in parts(data, size) for piece in joiner.add(gzip_part(part))]
        whole = b"".join([*pieces, *joiner.end()])
        assert gzip.decompress(whole) == data
        reader = zlib.decompressobj(31)
        assert reader.decompress(whole) == data
        assert reader.eof
        assert reader.unused_data == b"", "one member, not several"


def test_parts_of_an_lz4_block_make_one_block() -> None:
    for data, size in contents():
        joiner = Lz4Joiner(len(data))
        pieces = [piece for part in parts(data, size) for piece in joiner.add(lz4_part(part))]
        whole = b"".join([*pieces, *joiner.end()])
        assert lz4.block.decompress(whole, uncompressed_size=len(data)) == data


def test_more_than_an_lz4_block_holds_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="smaller box"):
        Lz4Joiner(LZ4_MAX_INPUT + 1)
