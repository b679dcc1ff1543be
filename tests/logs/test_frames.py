import tracemalloc

import pytest

from dvid_es.errors import CorruptLog
from dvid_es.logs import Entry, FileLog
from dvid_es.logs.checksums import crc32c, crc32c_extend
from dvid_es.logs.frames import (
    CHECKSUM,
    HEAD,
    MAGIC,
    MARK,
    MAX_FRAME_BYTES,
    MORE,
    OVERHEAD,
    RECORD,
    BadFrame,
    encode_control,
    encode_records,
    walk,
)
from tests.contracts.log_contract import entry


def frame(kind=RECORD, flags=0, length=None, sequence=0, split=0, body=b"", seed=1, magic=MAGIC):
    """Return a frame with a right checksum, whatever else is wrong with it."""
    real = OVERHEAD + len(body)
    head = HEAD.pack(
        magic, kind, flags, real if length is None else length, sequence, 0, 0, 0, 0, split
    )
    return head + body + CHECKSUM.pack(crc32c_extend(seed, head + body))


def walk_bytes(data: bytes, sequence: int = 0):
    return list(walk(lambda n, at: data[at : at + n], 0, len(data), 1, sequence))


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283


def test_encoded_records_are_walked_back():
    data, chain = encode_records([entry(5), entry(6), entry(7)], 5, 1, 3)
    frames = walk_bytes(data, 5)
    assert [item.sequence for item in frames] == [5, 6, 7]
    assert [item.flags for item in frames] == [MORE, MORE, 0]
    assert {item.synced_upto for item in frames} == {3}
    assert (frames[-1].stop, frames[-1].chain) == (len(data), chain)
    assert [Entry(*item[5:7], item[3], *item[7:9]) for item in frames] == [
        entry(5),
        entry(6),
        entry(7),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (frame(magic=0x1234), "no frame starts here"),
        (frame(kind=0), "unknown type 0"),
        (frame(kind=4), "unknown type 4"),
        (frame(length=OVERHEAD - 1), "impossible length"),
        (frame(length=0), "impossible length"),
        (frame(length=MAX_FRAME_BYTES + 1), "impossible length"),
        (frame(body=b"abc", split=4), "impossible length"),
        (frame(length=OVERHEAD + 1), "cut short"),
        (frame()[:-1], "cut short"),
        (frame(sequence=3), "numbered 3 where 0 must follow"),
        (frame(seed=2), "checksum"),
    ],
)
def test_a_bad_frame_is_told_by_its_problem(data, problem):
    with pytest.raises(BadFrame, match=problem) as caught:
        walk_bytes(data)
    assert caught.value.position == 0


def test_a_file_shorter_than_it_was_is_told():
    data = frame(body=b"x" * 100)
    with pytest.raises(BadFrame, match="the file ends"):
        list(walk(lambda n, at: data[at : at + min(n, 50)], 0, len(data), 1, 0))


def test_a_claimed_length_is_not_allocated(tmp_path):
    log = FileLog(tmp_path, "stream")
    log.append([entry(0)])
    log.close()
    path = tmp_path / "00000000000000000000.log"
    with path.open("ab") as file:
        file.write(frame(length=MAX_FRAME_BYTES, sequence=1))
    tracemalloc.start()
    log = FileLog(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log.end == 1
    assert peak < 4 << 20
    log.close()


def chained(path):
    """Return the bytes of a segment and the checksum of its last frame."""
    data = path.read_bytes()
    return data, CHECKSUM.unpack(data[-4:])[0]


def test_a_valid_frame_after_a_footer_is_damage(tmp_path):
    log = FileLog(tmp_path, "stream", segment_bytes=200)
    for number in range(4):
        log.append([entry(number)])
    log.close()
    first, *others = sorted(tmp_path.glob("*.log"))
    for path in others:
        path.unlink()
    data, chain = chained(first)
    end = int(others[0].stem)
    for tail in (encode_control(MARK, end, chain, end, b"", b"")[0], b"x" * 50):
        first.write_bytes(data + tail)
        with pytest.raises(CorruptLog, match=r"bytes follow|no frame starts"):
            FileLog(tmp_path)


def test_an_append_that_never_ends_before_a_valid_mark_is_damage(tmp_path):
    log = FileLog(tmp_path, "stream")
    log.append([entry(0)])
    log.close()
    path = tmp_path / "00000000000000000000.log"
    data, chain = chained(path)
    open_end = frame(flags=MORE, sequence=1, seed=chain)
    mark, _ = encode_control(MARK, 2, CHECKSUM.unpack(open_end[-4:])[0], 2, b"", b"")
    path.write_bytes(data + open_end + mark)
    with pytest.raises(CorruptLog, match="an append has no end"):
        FileLog(tmp_path)
