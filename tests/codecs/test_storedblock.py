import gzip
import io
import shutil
import struct
import subprocess
import zlib

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from dvid_es.codecs import labelblock, storedblock
from dvid_es.codecs import storedblock_kernels as kernels
from dvid_es.errors import CorruptStore
from tests.codecs.volumes import DATA, mixed, noise, real_cubes, volumes, voronoi


def mapping_of(stored):
    return storedblock.read_table(stored) // np.uint64(3) + np.uint64(1)


@given(volumes(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_gzip_of_a_mapped_block_is_that_of_the_mapped_volume(volume, map_labels):
    block = labelblock.encode(volume)
    stored = storedblock.store(block)
    table = mapping_of(stored) if map_labels else None
    want = volume // np.uint64(3) + np.uint64(1) if map_labels else volume
    member = storedblock.gzip_member(stored, table)
    content = zlib.decompress(member, 31)
    assert np.array_equal(labelblock.decode(content), want)
    assert content == storedblock.load(stored, table)
    assert gzip.decompress(member) == content
    assert igzip.decompress(member) == content
    reader = zlib.decompressobj(31)
    reader.decompress(member)
    assert reader.eof
    assert not reader.unused_data, "one member and nothing behind it"


@given(volumes())
@settings(max_examples=30, deadline=None)
def test_loading_undoes_storing(volume):
    block = labelblock.encode(volume)
    stored = storedblock.store(block)
    assert storedblock.load(stored) == block
    assert storedblock.load(memoryview(b"x" + stored)[1:]) == block
    assert storedblock.read_table(stored).tolist() == labelblock.table(block).tolist()


def test_the_form_is_that_of_its_description():
    block = labelblock.encode(noise(1, 5))
    stored = storedblock.store(block)
    prefix = 16 + 8 * 5
    form, kind, check, length, crc, operator = struct.unpack_from("<BBHIII", stored)
    assert (form, kind) == (1, 2)
    assert check == zlib.crc32(stored[4 : 16 + prefix]) & 0xFFFF
    assert length == len(block) - prefix
    assert crc == zlib.crc32(block[prefix:])
    assert stored[16 : 16 + prefix] == block[:prefix]
    assert zlib.decompress(stored[16 + prefix :], -15) == block[prefix:]
    # The CRC of zeros behind something tells what the operator must do.
    assert multiply(operator, 0x12345678) == zeros_behind(0x12345678, length)


def multiply(a, b):
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
    return product


def zeros_behind(crc, length):
    register = crc
    for _ in range(8 * length):
        register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register


@pytest.mark.parametrize("length", [0, 1, 2, 63, 1000])
def test_the_operator_appends_zero_bytes(length):
    assert multiply(kernels.shift_operator(length), 0xDEADBEEF) == zeros_behind(0xDEADBEEF, length)


def test_a_solid_block_is_stored_as_it_is():
    block = labelblock.solid(7, (64, 64, 64))
    stored = storedblock.store(block)
    check = zlib.crc32(block) & 0xFFFF
    assert stored == b"\x01\x01" + check.to_bytes(2, "little") + block
    member = storedblock.gzip_member(stored, np.array([9], np.uint64))
    assert gzip.decompress(member) == labelblock.solid(9, (64, 64, 64))
    assert len(member) == 47


def test_tables_longer_than_a_stored_deflate_block_are_cut():
    volume = np.arange(32**3, dtype=np.uint64).reshape(32, 32, 32)
    stored = storedblock.store(labelblock.encode(volume))
    table = storedblock.read_table(stored) + np.uint64(5)
    member = storedblock.gzip_member(stored, table)
    assert (labelblock.decode(gzip.decompress(member)) == volume + np.uint64(5)).all()


@pytest.mark.parametrize("labels", [8189, 8190, 8191, 16380])
def test_tables_around_the_limit_of_a_stored_deflate_block(labels):
    # 16 + 8 * 8190 is one byte more than 65,535.
    volume = (np.arange(32**3, dtype=np.uint64) % np.uint64(labels)).reshape(32, 32, 32)
    block = labelblock.encode(volume)
    assert len(labelblock.table(block)) == labels
    assert gzip.decompress(storedblock.gzip_member(storedblock.store(block))) == block


@pytest.mark.skipif(shutil.which("gzip") is None, reason="no gzip command")
def test_the_gzip_command_accepts_it():
    for volume in (voronoi(1, 30), mixed(2), np.zeros((8, 8, 8), np.uint64)):
        stored = storedblock.store(labelblock.encode(volume))
        member = storedblock.gzip_member(stored, mapping_of(stored))
        subprocess.run(["gzip", "-t"], input=member, check=True, timeout=60)


def read_stream(stream):
    reader = io.BytesIO(stream)
    while header := reader.read(16):
        x, y, z, length = struct.unpack("<iiiI", header)
        payload = reader.read(length)
        assert len(payload) == length
        yield (x, y, z), gzip.decompress(payload)


@pytest.mark.parametrize("form", ["list", "flat", "own"])
def test_a_stream_of_blocks_is_that_of_dvid(form):
    blocks = [
        labelblock.encode(v)
        for v in (noise(1, 3), mixed(2), np.full((8, 8, 8), 5, np.uint64), voronoi(3, 9))
    ]
    stored = [memoryview(storedblock.store(block)) for block in blocks]
    tables = [mapping_of(value) for value in stored]
    coords = np.array([(1, 2, 3), (-1, 0, 2**31 - 1), (0, 0, 0), (-(2**31), 5, 6)], np.int32)
    given_tables = {"list": tables, "flat": np.concatenate(tables), "own": None}[form]
    stream = storedblock.gzip_stream(stored, given_tables, coords)
    want = blocks
    if form != "own":
        want = [labelblock.with_table(b, t) for b, t in zip(blocks, tables, strict=True)]
    assert list(read_stream(stream)) == list(zip(map(tuple, coords.tolist()), want, strict=True))


def test_a_real_stream_of_dvid_is_stored_and_sent_again():
    path = DATA / "stream_1block.dat"
    if not path.exists():
        pytest.skip("the real stream is not beside this checkout")
    sent = list(read_stream(path.read_bytes()))
    blocks = [block for _, block in sent]
    for block in blocks:
        assert labelblock.validate(block, (64, 64, 64)) == len(block)
        assert (
            labelblock.decode(labelblock.encode(labelblock.decode(block)))
            == labelblock.decode(block)
        ).all()
    coords = np.array([coord for coord, _ in sent], np.int32)
    stream = storedblock.gzip_stream([storedblock.store(b) for b in blocks], None, coords)
    assert list(read_stream(stream)) == sent


def test_no_blocks_are_an_empty_stream():
    none = np.empty((0, 3), np.int32)
    assert storedblock.gzip_stream([], None, none) == b""
    assert storedblock.gzip_stream([], [], none) == b""


def test_a_batch_shows_all_tables_behind_each_other():
    blocks = [labelblock.encode(noise(seed, seed)) for seed in (1, 4, 2)]
    batch = storedblock.StoredBatch.of([storedblock.store(block) for block in blocks])
    starts = batch.table_starts.tolist()
    assert starts == [0, 1, 5, 7]
    for i, block in enumerate(blocks):
        assert (batch.tables[starts[i] : starts[i + 1]] == labelblock.table(block)).all()
    assert batch.gzip_stream() == b"".join(
        storedblock.gzip_member(storedblock.store(block)) for block in blocks
    )


def test_real_cubes_take_little_more_than_their_gzip():
    ours = theirs = 0
    for cube in real_cubes().values():
        block = labelblock.encode(cube)
        stored = storedblock.store(block)
        assert storedblock.load(stored) == block
        ours += len(stored)
        theirs += len(gzip.compress(block, 6))
    assert ours < 1.2 * theirs


def test_damage_is_reported():
    stored = storedblock.store(labelblock.encode(noise(1, 5)))
    with pytest.raises(CorruptStore, match="damaged"):
        storedblock.load(stored[:8] + bytes([stored[8] ^ 1]) + stored[9:])
    for bad in (b"", b"\x02" + stored[1:], stored[:40], stored[:1] + b"\x07" + stored[2:]):
        with pytest.raises(CorruptStore):
            storedblock.load(bad)
        with pytest.raises(CorruptStore):
            storedblock.gzip_member(bad)
    with pytest.raises(CorruptStore):
        storedblock.read_table(stored[:40])
    with pytest.raises(CorruptStore, match="value 1 of 2"):
        storedblock.StoredBatch.of([stored, b"\x01\x01" + bytes(20)])


@pytest.mark.parametrize("labels", [1, 5])
def test_any_flipped_bit_of_a_stored_block_is_noticed(labels):
    block = labelblock.encode(noise(1, labels, (8, 8, 16)))
    stored = storedblock.store(block)
    for bit in range(8 * len(stored)):
        bad = bytearray(stored)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            # Deflate has bits that mean nothing: unused ones at its end.
            assert storedblock.load(bytes(bad)) == block
            assert bit // 8 == len(stored) - 1
        except CorruptStore:
            pass
        try:
            member = storedblock.gzip_member(bytes(bad))
            assert bit >= 8 * 56, "header and table are checked before they are copied"
            assert len(member) == len(stored) + 10 + 5 + 8 - 16
        except CorruptStore:
            pass


def test_a_stored_block_cut_off_anywhere_is_noticed():
    stored = storedblock.store(labelblock.encode(noise(1, 5, (8, 8, 16))))
    for length in range(len(stored)):
        with pytest.raises(CorruptStore):
            storedblock.load(stored[:length])


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_blocks_in_two_buffers_are_those_in_one(cut):
    random = np.random.default_rng(3)
    blocks = [
        labelblock.encode(random.integers(0, n, (16, 16, 16), np.uint64)) for n in range(1, 6)
    ]
    stored = [storedblock.store(block) for block in blocks]
    lengths = [len(one) for one in stored]
    starts = [sum(lengths[:i]) for i in range(len(stored))]
    front, back = b"".join(stored[:cut]), b"".join(stored[cut:])
    batch = storedblock.StoredBatch(front, starts[::-1], lengths[::-1], back)
    whole = storedblock.StoredBatch.of(stored[::-1])
    assert batch.tables.tolist() == whole.tables.tolist()
    assert batch.gzip_stream() == whole.gzip_stream()


@pytest.mark.parametrize("room", [0, 5, 40, 300, 5000])
@pytest.mark.parametrize("gap", [0, 32])
def test_a_stream_written_over_its_blocks_is_the_one_written_elsewhere(room, gap):
    random = np.random.default_rng(room)
    blocks = [
        labelblock.encode(random.integers(0, n, (16, 16, 16), np.uint64)) for n in (3, 1, 700, 2, 1)
    ]
    stored = [storedblock.store(block) for block in blocks]
    lengths = [len(one) for one in stored]
    coords = np.arange(15, dtype=np.int32).reshape(5, 3)
    whole = storedblock.gzip_stream(stored, None, coords)
    # The solid ones are in another buffer, as small ones are in rows.
    front = bytearray(room) + bytes(gap).join(stored[place] for place in (0, 2, 3))
    back = stored[1] + stored[4]
    second = lengths[0] + gap
    end = len(front) - room
    starts = [0, end, second, second + lengths[2] + gap, end + lengths[1]]
    memory = memoryview(front)
    batch = storedblock.StoredBatch(memory[room:], starts, lengths, back, verified=True)
    tables = batch.tables[::-1].copy()
    stream = batch.gzip_stream(tables, coords, memory)
    assert isinstance(stream, memoryview) == (room >= 300)
    assert stream == storedblock.StoredBatch.of(stored).gzip_stream(tables, coords)
    assert len(stream) == len(whole)


def test_content_is_equal_whatever_compressor_made_the_rest():
    block = labelblock.encode(noise(1, 5))
    stored = storedblock.store(block)
    slow, prefix = zlib.compressobj(9, wbits=-15), 16 + 8 * 5
    other = stored[: 16 + prefix] + slow.compress(block[prefix:]) + slow.flush()
    assert other != stored
    assert storedblock.load(other) == block
    assert storedblock.content(other) == storedblock.content(stored)
    solid = storedblock.store(labelblock.solid(7, (64, 64, 64)))
    assert storedblock.content(solid) == solid


def test_content_differs_where_labels_do():
    block = labelblock.encode(noise(1, 5))
    table = np.frombuffer(block, np.uint64, int.from_bytes(block[12:16], "little"), 16).copy()
    table[0] += 1
    other = block[:16] + table.tobytes() + block[16 + table.nbytes :]
    contents = {storedblock.content(storedblock.store(one)) for one in (block, other)}
    assert len(contents) == 2


def joined(blocks):
    """Return arguments of `pass_stream`: solid blocks lie behind the others, as those in rows do."""
    stored = [storedblock.store(block) for block in blocks]
    lengths = np.array([len(one) for one in stored], np.int64)
    packed = lengths > 28
    front, back, starts = b"", b"", []
    for one, in_front in zip(stored, packed.tolist(), strict=True):
        starts.append(len(front) if in_front else len(back))
        front, back = (front + one + bytes(32), back) if in_front else (front, back + one)
    at = np.array(starts, np.int64)
    at[~packed] += len(front)
    room = storedblock.more_than_stored(lengths, packed)
    memory = memoryview(bytearray(room) + front)
    checksums = np.array([google_crc32c.value(one) for one in stored], np.int64)
    coords = np.arange(3 * len(stored), dtype=np.int32).reshape(-1, 3) - 7
    return stored, [memory, memory[room:], back, at, lengths, checksums, coords]


FEW_AND_MANY = (3, 1, 1, 700, 2, 1, 40, 4000)


@pytest.mark.skipif(not storedblock.FAST, reason="the processor has no CRC-32C")
@pytest.mark.parametrize("solid", ["none", "first", "all"])
def test_a_stream_that_is_verified_and_written_in_one_pass_is_the_one_written_elsewhere(solid):
    random = np.random.default_rng(4)
    blocks = [
        labelblock.encode(random.integers(0, n, (16, 16, 16), np.uint64)) for n in FEW_AND_MANY
    ]
    many = np.arange(64**3, dtype=np.uint64).reshape(64, 64, 64) % 9000
    blocks += [labelblock.encode(many), *blocks[1:3], blocks[0]]
    if solid != "none":
        blocks = [*[labelblock.solid(5, (64, 64, 64))] * 40, *(blocks if solid == "first" else [])]
    stored, given = joined(blocks)
    assert len(given[1]) or solid == "all", "without blocks in the packs there is nothing in front"
    damaged, stream = storedblock.pass_stream(*given)
    assert damaged == -1
    assert stream == storedblock.gzip_stream(stored, None, given[-1])


@pytest.mark.skipif(not storedblock.FAST, reason="the processor has no CRC-32C")
def test_the_first_block_that_is_not_what_was_stored_is_named_and_nothing_returned():
    random = np.random.default_rng(5)
    blocks = [
        labelblock.encode(random.integers(0, n, (16, 16, 16), np.uint64)) for n in FEW_AND_MANY
    ]
    _, (_, _, _, starts, lengths, *_) = joined(blocks)
    for place in (0, 3, 7):
        for at in (0, 1, 4, 20, int(lengths[place]) // 2, int(lengths[place]) - 1):
            _, given = joined(blocks)
            given[1][int(starts[place]) + at] ^= 1
            damaged, stream = storedblock.pass_stream(*given)
            assert (damaged, len(stream)) == (place, 0)
    _, given = joined(blocks)
    given[4][7] += 64  # more than there are
    assert storedblock.pass_stream(*given)[0] == 7


@pytest.mark.skipif(not storedblock.FAST, reason="the processor has no CRC-32C")
@pytest.mark.parametrize("place", [0, 1])
def test_values_that_are_what_was_written_and_no_blocks_are_damage(place):
    _, given = joined([labelblock.encode(noise(1, 5)), labelblock.solid(5, (64, 64, 64))])
    if place:
        given[2] = b"\x09" + given[2][1:]
    else:
        given[1][0] = 9
        given[5][0] = google_crc32c.value(bytes(given[1][: int(given[4][0])]))
    with pytest.raises(CorruptStore, match=f"value {place} of 2"):
        storedblock.pass_stream(*given)


@pytest.mark.skipif(not storedblock.FAST, reason="the processor has no CRC-32C")
def test_a_value_of_a_row_that_is_too_short_is_damage():
    _, given = joined([labelblock.encode(noise(1, 5)), labelblock.solid(5, (64, 64, 64))])
    given[2] = given[2][:-1]
    with pytest.raises(CorruptStore, match="value 1 of 2"):
        storedblock.pass_stream(*given)


@pytest.mark.parametrize("front", [b"", bytes(64)])
def test_blocks_of_rows_are_verified_whether_or_not_there_are_others(front):
    # Only what the packs hold has been verified by its checksum.
    stored = bytearray(storedblock.store(labelblock.solid(5, (64, 64, 64))))
    starts, lengths = np.array([len(front)]), np.array([len(stored)])
    storedblock.StoredBatch(front, starts, lengths, bytes(stored), verified=True)
    stored[-1] ^= 1
    with pytest.raises(CorruptStore):
        storedblock.StoredBatch(front, starts, lengths, bytes(stored), verified=True)
