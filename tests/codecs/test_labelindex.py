import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.codecs import izyx, labelindex, messages_pb2
from dvid_es.errors import InvalidRequest

ARRAYS = ("blocks", "starts", "supervoxels", "counts", "surface_mutids")
TEXTS = ("label", "last_mutid", "last_mod_time", "last_mod_user", "last_mod_app")

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
counts = st.dictionaries(u64, u32, max_size=5)
blocks = st.dictionaries(st.integers(0, 2**63 - 1), st.tuples(counts, u64), max_size=6)


def message_of(label, blocks, mutid=0, time="", user="", app=""):
    message = messages_pb2.LabelIndex(
        label=label, last_mutid=mutid, last_mod_time=time, last_mod_user=user, last_mod_app=app
    )
    for key, (rows, surface) in blocks.items():
        message.blocks[key].surface_mutid = surface
        message.blocks[key].counts.update(rows)
    return message


def assert_same(index, message):
    for field in TEXTS:
        assert getattr(index, field) == getattr(message, field)
    assert index.blocks.tolist() == sorted(message.blocks)
    for i, key in enumerate(index.blocks.tolist()):
        rows = slice(index.starts[i], index.starts[i + 1])
        block = message.blocks[key]
        assert index.supervoxels[rows].tolist() == sorted(block.counts)
        pairs = zip(index.supervoxels[rows].tolist(), index.counts[rows].tolist(), strict=True)
        assert dict(pairs) == dict(block.counts)
        assert int(index.surface_mutids[i]) == block.surface_mutid
    assert [getattr(index, a).dtype.str for a in ARRAYS] == ["<u8", "<i8", "<u8", "<u4", "<u8"]


@given(u64, blocks, u64, st.text(max_size=4), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_messages_are_read_and_written_as_protobuf_does(label, blocks, mutid, time, user):
    message = message_of(label, blocks, mutid, time, user, "app")
    index = labelindex.decode(message.SerializeToString())
    assert_same(index, message)
    written = labelindex.encode(index)
    assert messages_pb2.LabelIndex.FromString(written) == message
    assert len(written) == message.ByteSize()
    assert_same(labelindex.decode(written), message)
    assert index.voxels == sum(sum(rows.values()) for rows, _ in blocks.values())


def test_rows_in_any_order_make_an_index():
    rng = np.random.default_rng(1)
    keys = izyx.pack_keys(rng.integers(-3, 3, (200, 3)))
    supervoxels = np.arange(1, 201, dtype=np.uint64)
    voxels = rng.integers(1, 2**18, 200).astype(np.uint32)
    mutids = rng.integers(0, 9, 200).astype(np.uint64)
    index = labelindex.from_rows(
        5, keys, supervoxels, voxels, mutids, last_mutid=3, last_mod_user="u"
    )
    message = messages_pb2.LabelIndex(label=5, last_mutid=3, last_mod_user="u")
    for i in range(200):
        block = message.blocks[int(keys[i])]
        block.counts[int(supervoxels[i])] = int(voxels[i])
        block.surface_mutid = max(block.surface_mutid, int(mutids[i]))
    assert_same(index, message)
    assert sorted(index.row_blocks.tolist()) == sorted(keys.tolist())
    assert_same(labelindex.decode(labelindex.encode(index)), message)


def test_an_index_without_rows():
    none = np.empty(0, np.uint64)
    index = labelindex.from_rows(9, none, none, none.astype(np.uint32))
    assert labelindex.encode(index) == b"\x10\x09"
    assert_same(labelindex.decode(b"\x10\x09"), messages_pb2.LabelIndex(label=9))
    assert_same(labelindex.decode(b""), messages_pb2.LabelIndex())
    assert labelindex.encode(labelindex.LabelIndex(9)) == b"\x10\x09"


def test_many_messages_are_one():
    messages = [
        message_of(1, {5: ({1: 2}, 3)}),
        message_of(2, {}),
        message_of(3, {2**40: ({9: 2**32 - 1}, 0)}, user="x" * 300),
    ]
    data = labelindex.encode_all(m.SerializeToString() for m in messages)
    assert list(messages_pb2.LabelIndices.FromString(data).indices) == messages
    for index, message in zip(labelindex.decode_all(data), messages, strict=True):
        assert_same(index, message)
    assert labelindex.decode_all(b"") == []


def entry(field, payload):
    assert len(payload) < 128
    return bytes([field << 3 | 2, len(payload)]) + payload


@pytest.mark.parametrize(
    "data",
    [
        entry(1, b"\x12\x00\x08\x05"),  # value before key
        entry(1, b"\x08\x05"),  # no value
        entry(1, b"\x12\x00"),  # no key
        entry(1, b"\x08\x05" + entry(2, entry(1, b"\x10\x02\x08\x01"))),
        entry(1, b"\x08\x05" + entry(2, entry(1, b"\x08\x01\x10\x02") * 2)),  # a supervoxel twice
        entry(1, b"\x08\x05" + entry(2, b"\x10\x01")) * 2,  # a block twice
        entry(1, b"\x08\x05" + entry(2, b"\x10\x01") + entry(2, b"\x10\x02")),
        b"\x10\x05" + b"\x98\x06\x01",  # an unknown field 99
        b"\x10\x05\x10\x06",  # a number twice
        entry(5, b"first") + entry(5, b"second"),
        b"\x10\x80\x00",  # a varint longer than it needs to be
        entry(1, b"\x08\x05" + entry(2, entry(1, b"\x08\x01\x10\xff\xff\xff\xff\x7f"))),
    ],
)
def test_odd_but_legal_messages_are_read_as_protobuf_does(data):
    message = messages_pb2.LabelIndex.FromString(data)
    assert_same(labelindex.decode(data), message)
    both = entry(1, data) + b"\x10\x01"
    assert_same(
        labelindex.decode_all(both)[0], messages_pb2.LabelIndices.FromString(both).indices[0]
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05\x08",
        b"\x10",
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01",
        entry(5, b"\xff\xfe"),
        entry(1, b"\x08\x05" + entry(2, entry(1, b"\x08"))),
        b"\xff" * 30,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_malformed_messages_are_refused(data):
    with pytest.raises(InvalidRequest, match="not a LabelInd"):
        labelindex.decode(data)
    with pytest.raises(InvalidRequest, match="not a LabelInd"):
        labelindex.decode_all(entry(1, data)[:-1] if len(data) < 100 else data)


def test_mutated_messages_are_read_as_protobuf_does_or_refused():
    rng = np.random.default_rng(4)
    base = message_of(
        7, {5: ({1: 2, 300: 4}, 9), 2**50: ({2**63: 70000}, 0)}, 8, "t", "user", "a"
    ).SerializeToString()
    refused = 0
    for _ in range(4000):
        data = bytearray(base)
        for _ in range(int(rng.integers(1, 3))):
            data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        if rng.random() < 0.2:
            del data[int(rng.integers(0, len(data))) :]
        try:
            message = messages_pb2.LabelIndex.FromString(bytes(data))
        except Exception:  # protobuf's own class
            refused += 1
            with pytest.raises(InvalidRequest):
                labelindex.decode(bytes(data))
            continue
        assert_same(labelindex.decode(bytes(data)), message)
    assert 500 < refused < 3900
