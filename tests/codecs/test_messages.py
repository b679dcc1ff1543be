import subprocess
import sys

import pytest

from dvid_es.codecs import messages_pb2

FIELDS = {
    "SVCount": {"counts": (1, "map"), "surface_mutid": (2, "uint64")},
    "LabelIndex": {
        "blocks": (1, "map"),
        "label": (2, "uint64"),
        "last_mutid": (3, "uint64"),
        "last_mod_time": (4, "string"),
        "last_mod_user": (5, "string"),
        "last_mod_app": (6, "string"),
    },
    "LabelIndices": {"indices": (1, "repeated")},
    "MappingOp": {"mutid": (1, "uint64"), "mapped": (2, "uint64"), "original": (3, "repeated")},
    "MappingOps": {"mappings": (1, "repeated")},
    "MergeOp": {"mutid": (1, "uint64"), "target": (2, "uint64"), "merged": (3, "repeated")},
    "CleaveOp": {
        "mutid": (1, "uint64"),
        "target": (2, "uint64"),
        "cleavedlabel": (3, "uint64"),
        "cleaved": (4, "repeated"),
    },
    "RenumberOp": {"mutid": (1, "uint64"), "target": (2, "uint64"), "newlabel": (3, "uint64")},
    "SplitOp": {
        "mutid": (1, "uint64"),
        "target": (2, "uint64"),
        "newlabel": (3, "uint64"),
        "coarse": (4, "bool"),
        "rles": (5, "bytes"),
        "svsplits": (6, "map"),
    },
    "SVSplit": {"splitlabel": (1, "uint64"), "remainlabel": (2, "uint64")},
    "SupervoxelSplitOp": {
        "mutid": (1, "uint64"),
        "supervoxel": (2, "uint64"),
        "splitlabel": (3, "uint64"),
        "remainlabel": (4, "uint64"),
    },
    "OpCompleted": {"mutid": (1, "uint64"), "stage": (2, "string")},
    "Affinity": {"label1": (1, "uint64"), "label2": (2, "uint64"), "value": (3, "float")},
    "Affinities": {"labels": (1, "repeated"), "affinities": (2, "repeated")},
    "AffinityTable": {"table": (1, "map")},
    "KeyValue": {"key": (1, "string"), "value": (2, "bytes")},
    "KeyRange": {"key": (1, "string"), "byte_start": (2, "uint64"), "byte_end": (3, "uint64")},
    "Keys": {"keys": (1, "repeated"), "key_ranges": (2, "repeated")},
    "KeyValues": {"kvs": (1, "repeated")},
}

SCALARS = {"uint64": 4, "string": 9, "bool": 8, "bytes": 12, "float": 2}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_have_the_numbers_and_types_of_dvid(name):
    fields = messages_pb2.DESCRIPTOR.message_types_by_name[name].fields_by_name
    assert {f: d.number for f, d in fields.items()} == {f: n for f, (n, _) in FIELDS[name].items()}
    for field, (_, kind) in FIELDS[name].items():
        if kind in SCALARS:
            assert fields[field].type == SCALARS[kind]


def test_messages_survive_the_wire():
    message = messages_pb2.CleaveOp(mutid=1, target=2, cleavedlabel=3, cleaved=[4, 2**64 - 1])
    assert messages_pb2.CleaveOp.FromString(message.SerializeToString()) == message


def test_lists_of_labels_are_packed():
    op = messages_pb2.MappingOp(mutid=0, mapped=7, original=[1, 2])
    assert op.SerializeToString() == b"\x10\x07\x1a\x02\x01\x02"


def test_every_message_is_checked_here():
    assert set(messages_pb2.DESCRIPTOR.message_types_by_name) == set(FIELDS)


def test_importing_warns_of_nothing():
    # protoc's own check of versions is a warning, and a year later an error.
    code = "import dvid_es.codecs.messages_pb2"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
