from __future__ import annotations

import lz4.block
import numpy as np
import pytest
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, labellz4
from dvid_es.codecs.compression import lz4_block_compress
from dvid_es.codecs.labelbatch import LabelBatch
from dvid_es.codecs.spliced import Lz4Joiner, lz4_part, lz4_part_of
from dvid_es.errors import InvalidRequest
from tests.codecs.volumes import mixed, noise

Labels = NDArray[np.uint64]
Triple = tuple[int, int, int]
SIDE = 16


def cut(volume: Labels) -> tuple[list[bytes], list[Triple]]:
    """Return the blocks of a volume and where they begin."""
    starts = [
        (z, y, x)
        for z in range(0, volume.shape[0], SIDE)
        for y in range(0, volume.shape[1], SIDE)
        for x in range(0, volume.shape[2], SIDE)
    ]
    return [labelblock.encode_from(volume, start, (SIDE,) * 3) for start in starts], starts


def compressed(
    volume: Labels, start: Triple, shape: Triple, missing: int = -1
) -> labellz4.Compressed | None:
    blocks, starts = cut(volume)
    if missing >= 0:
        del blocks[missing], starts[missing]
    batch = LabelBatch(blocks)
    return labellz4.compress(batch, batch.tables, np.array(starts, np.int64), start, shape)


def check(volume: Labels, start: Triple = (0, 0, 0), shape: Triple | None = None) -> int:
    shape = volume.shape if shape is None else shape  # type: ignore[assignment]
    found = compressed(volume, start, shape)  # type: ignore[arg-type]
    assert found is not None
    block = bytes(found.block)
    box = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))  # type: ignore[arg-type]
    want = np.ascontiguousarray(volume[box]).tobytes()
    assert lz4.block.decompress(block, uncompressed_size=len(want)) == want
    return len(block)


def volumes() -> list[Labels]:
    random = np.random.default_rng(3)
    z, y, x = np.ogrid[:32, :48, :64]
    stripes = np.broadcast_to((x + y // 3 + z // 5) // 7, (32, 48, 64)).astype(np.uint64)
    return [
        np.zeros((16, 16, 16), np.uint64),
        np.full((32, 16, 64), 2**64 - 1, np.uint64),
        mixed(3, (16, 16, 16)),
        noise(4, 3, (16, 32, 16)),
        noise(5, 255, (16, 16, 16)),
        noise(6, 300, (16, 16, 16)),
        random.integers(0, 2**64, (16, 16, 32), dtype=np.uint64),
        np.ascontiguousarray(stripes),
        stripes * np.uint64(2**40 + 1),
    ]


def test_what_lz4_reads_are_the_labels() -> None:
    for volume in volumes():
        check(volume)


def test_boxes_of_any_place_and_shape_are_cut_out_of_blocks() -> None:
    random = np.random.default_rng(8)
    volume = np.concatenate([volumes()[-1], noise(9, 40, (32, 48, 64))])
    for _ in range(120):
        start = [int(random.integers(0, side)) for side in volume.shape]
        shape = [
            int(random.integers(1, side - a + 1))
            for a, side in zip(start, volume.shape, strict=True)
        ]
        check(volume, tuple(start), tuple(shape))  # type: ignore[arg-type]
    check(volume, (5, 5, 5), (1, 1, 1))
    check(volume, (5, 5, 5), (1, 1, 2))


def test_what_no_block_covers_is_zero() -> None:
    volume = noise(2, 9, (32, 16, 16)) + np.uint64(1)
    found = compressed(volume, (0, 0, 0), (32, 16, 16), missing=1)
    assert found is not None
    volume[16:] = 0
    content = lz4.block.decompress(bytes(found.block), uncompressed_size=volume.nbytes)
    assert content == volume.tobytes()


def test_tables_are_read_in_place_of_those_of_the_blocks() -> None:
    volume = mixed(5, (16, 16, 16))
    blocks, starts = cut(volume)
    table = labelblock.table(blocks[0])
    mapped = np.where(table % np.uint64(2) == 0, np.uint64(77), np.uint64(0))
    bodies = np.zeros_like(volume)
    for label, body in zip(table, mapped, strict=True):
        bodies[volume == label] = body
    places = np.array(starts, np.int64)
    found = labellz4.compress(LabelBatch(blocks), mapped, places, (0, 0, 0), (16, 16, 16))
    assert found is not None
    content = lz4.block.decompress(bytes(found.block), uncompressed_size=volume.nbytes)
    assert content == bodies.tobytes()


def test_names_tell_labels_apart_and_equal_labels_have_one() -> None:
    labels = np.array([7, 0, 7, 2**64 - 1, 8, 0], np.uint64)
    found = labellz4.name_labels(labels)
    assert found is not None
    names, palette = found
    assert names.dtype == np.uint8
    assert names[1] == names[5] == 0
    assert (palette[names] == labels).all()
    assert len(set(names.tolist())) == 4


@pytest.mark.parametrize("count", [255, 256, 65535])
def test_many_labels_have_longer_names(count: int) -> None:
    labels = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2**33 + 1)
    found = labellz4.name_labels(labels)
    assert found is not None
    names, palette = found
    assert names.itemsize == (1 if count <= 255 else 2)
    assert (palette[names] == labels).all()


def test_too_many_labels_for_names_are_left_to_others() -> None:
    labels = np.arange(1, 65537, dtype=np.uint64)
    assert labellz4.name_labels(labels) is None
    volume = np.arange(1, 2**17 + 1, dtype=np.uint64).reshape(32, 64, 64)
    assert compressed(volume, (0, 0, 0), (32, 64, 64)) is None


def test_slabs_join_to_one_block() -> None:
    for volume in volumes():
        joiner = Lz4Joiner(volume.nbytes)
        pieces: list[bytes | memoryview] = []
        for z in range(0, len(volume), 5):
            slab = volume[z : z + 5]
            found = compressed(volume, (z, 0, 0), slab.shape)  # type: ignore[arg-type]
            assert found is not None
            part = lz4_part_of(bytes(found.block), found.last, slab.nbytes)
            assert part == lz4_part_of(part.block, lz4_last(part.block), slab.nbytes)
            pieces += joiner.add(part if z % 2 else lz4_part(memoryview(slab.tobytes())))
        whole = b"".join([*pieces, *joiner.end()])
        assert lz4.block.decompress(whole, uncompressed_size=volume.nbytes) == volume.tobytes()


def lz4_last(block: bytes) -> int:
    """Walk through an LZ4 block to its last sequence."""
    at = 0
    while True:
        start, token = at, block[at]
        at += 1
        literals, match = token >> 4, token & 15
        if literals == 15:
            at, literals = more(block, at, literals)
        at += literals
        if at == len(block):
            return start
        at += 2
        if match == 15:
            at, match = more(block, at, match)


def more(block: bytes, at: int, length: int) -> tuple[int, int]:
    while block[at] == 255:
        at, length = at + 1, length + 255
    return at + 1, length + block[at]


def test_segmentations_get_smaller_than_by_lz4_itself() -> None:
    z, y, x = np.ogrid[:64, :64, :64]
    centres = np.random.default_rng(1).integers(0, 64, (30, 3))
    distances = [(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 for c in centres]
    volume = np.argmin(distances, axis=0).astype(np.uint64) + np.uint64(10**12)
    assert check(volume) < 0.8 * len(lz4_block_compress(volume.tobytes()))


def test_more_than_an_lz4_block_holds_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="smaller box"):
        compressed(np.zeros((16, 16, 16), np.uint64), (0, 0, 0), (1024, 1024, 1024))
