"""Requests that are refused change nothing: no row, no label, no mutation id."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.codecs import messages_pb2
from dvid_es.replay.digest import digests

BIG = 2**64


@pytest.fixture
def node(live: Any) -> str:
    """Bodies 1 (of 1, 2, 3), 4, 5; supervoxel 9999 is a ghost of 1, 8888 is retired."""
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    node = f"/api/node/{root}/seg"
    volume = np.zeros((32, 32, 64), np.uint64)
    for sv in range(1, 6):
        volume[:8, :8, 10 * sv : 10 * sv + 8] = sv
    live.ok("POST", f"{node}/raw/0_1_2/64_32_32/0_0_0", volume.tobytes())
    live.ok("POST", f"{node}/merge", json_body=[1, 2, 3])
    ops = messages_pb2.MappingOps()
    ops.mappings.add(mapped=1, original=[9999])
    ops.mappings.add(mapped=0, original=[8888])
    live.ok("POST", f"{node}/mappings", ops.SerializeToString())
    return node


REFUSED = [
    ("merge", b"[]"), ("merge", b"[1]"), ("merge", b"[1, 1]"), ("merge", b"[1, 4, 1]"),
    ("merge", b"[1, 0]"), ("merge", b"[0, 1]"), ("merge", b"[1, 77]"), ("merge", b"[77, 1]"),
    ("merge", b"[4, 2]"), ("merge", b"[2, 4]"), ("merge", b"null"), ("merge", b"{}"),
    ("merge", b""), ("merge", b"[4, 5.0]"), ("merge", b"[4, -5]"), ("merge", b'["4", "5"]'),
    ("merge", b"[4, 5"), ("merge", b"[4, 18446744073709551616]"), ("merge", b"[4, true]"),
    ("cleave/1", b"[]"), ("cleave/1", b""), ("cleave/1", b"null"), ("cleave/1", b"[1, 2, 3]"),
    ("cleave/1", b"[4]"), ("cleave/1", b"[2, 4]"), ("cleave/1", b"[2, 77]"), ("cleave/1", b"[0]"),
    ("cleave/1", b"[8888]"), ("cleave/4", b"[4]"), ("cleave/77", b"[1]"), ("cleave/0", b"[1]"),
    ("cleave/2", b"[2]"), ("cleave/x", b"[2]"), ("cleave", b"[2]"), ("cleave/1", b"[2, 1.5]"),
    ("cleave/4", b"[9999]"), (f"cleave/{BIG}", b"[2]"),
    ("renumber", b"[4]"), ("renumber", b"[0, 4]"), ("renumber", b"[50, 0]"),
    ("renumber", b"[4, 4]"), ("renumber", b"[5, 4]"), ("renumber", b"[50, 77]"),
    ("renumber", b"[50, 4, 51, 4]"), ("renumber", b"[50, 4, 50, 5]"), ("renumber", b"[50, 2]"),
    ("renumber", b"[50, 4, 51, 77]"),
    ("mappings", b"\x0a\xff\x01"), ("index/7", b"\xff"), ("index/0", b""), ("index/x", b""),
    ("index", b""), ("indices", b"\xff\xff"),
    ("nextlabel/0", b""), ("nextlabel/-1", b""), ("nextlabel", b""), ("nextlabel/x", b""),
    (f"nextlabel/{BIG - 1}", b""), ("maxlabel/9", b""), ("set-nextlabel/9", b""),
    ("maxlabel/0?admintoken=secret", b""), (f"maxlabel/{2**48 + 1}?admintoken=secret", b""),
    ("set-nextlabel/0?admintoken=secret", b""), ("set-nextlabel?admintoken=secret", b""),
    (f"set-nextlabel/{BIG - 1}?admintoken=secret", b""),
    ("set-nextlabel/9?admintoken=secret&ceiling=8", b""),
    ("set-nextlabel/9?admintoken=secret&ceiling=x", b""),
    ("sparsevol/1", b""), ("size", b"[1]"), ("sizes", b"[1]"), ("mapping", b"[1]"),
    ("existing-labels", b""), ("listlabels", b""), ("mutations", b""),
]  # fmt: skip


def test_refused_writes_leave_everything_as_it_was(live: Any, node: str) -> None:
    def state() -> tuple[Any, Any]:
        stream = live.engine.streams.all()[0]
        return digests(live.engine.store, row_kinds()), stream.log.end

    before = state()
    for path, body in REFUSED:
        answer = live.call("POST", f"{node}/{path}", body)
        assert answer.status == 400, f"{path} {body!r}: {answer.status} {answer.body[:200]!r}"
        assert answer.body.endswith(b").\n"), "a message with the path"
        assert state() == before, f"{path} {body!r} changed something"
    label = live.ok("GET", f"{node}/nextlabel").json()["nextlabel"]
    made = live.ok("POST", f"{node}/cleave/1", json_body=[3, 3, 9999]).json()
    assert made == {"CleavedLabel": label, "MutationID": 1_000_000_002}, "no id was spent"


@pytest.mark.parametrize(
    "path",
    [
        "size/0", "size/x", "size", "size/+3", "size/1_0", "supervoxels/0", "lastmod/0", "index/0",
        "sparsevol/0", "sparsevol/x", "sparsevol", "sparsevol/1?scale=x", "sparsevol/1?scale=256",
        "sparsevol/1?minx=a", "sparsevol/1?compression=zip", "sparsevol/1?compression=none",
        "sparsevol-coarse/0",
        "sparsevol-by-point/1_2", "sparsevol-by-point/0_20_20", "sparsevol-size/x",
        "size/8888?supervoxels=true", "sparsevol/8888?supervoxels=true", "listlabels?start=x",
        "listlabels?number=-1", "index", "index-version/77", "mutations-range/x/y",
        "mutations-range", "history/1", "history/0/a/b",
    ],
)  # fmt: skip
def test_wrong_reads_are_refused_with_a_message(live: Any, node: str, path: str) -> None:
    answer = live.call("GET", f"{node}/{path}")
    assert answer.status == 400, answer.body
    assert answer.body.endswith(b").\n")


@pytest.mark.parametrize("path", ["mapping", "sizes", "indices", "indices-compressed"])
@pytest.mark.parametrize("body", [b"", b"{}", b"[1,", b'["1"]', b"[-1]", b"[1.0]", b"7"])
def test_lists_that_are_none_are_refused(live: Any, node: str, path: str, body: bytes) -> None:
    assert live.call("GET", f"{node}/{path}", body).status == 400


def test_a_list_that_does_not_match_its_checksum_is_refused(live: Any, node: str) -> None:
    for path in ("mapping", "sizes"):
        assert live.call("GET", f"{node}/{path}?hash=00", b"[1]").status == 400


def test_too_many_indices_are_refused(live: Any, node: str) -> None:
    body = json.dumps(list(range(1, 50_002))).encode()
    for path in ("indices", "indices-compressed"):
        assert live.call("GET", f"{node}/{path}", body).status == 400


def test_instances_without_indices_refuse_what_needs_them(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", IndexedLabels="false")
    node = f"/api/node/{root}/seg"
    for method, path in (
        ("GET", "sparsevol/1"), ("GET", "sparsevol-coarse/1"), ("GET", "sparsevol-by-point/1_1_1"),
        ("GET", "maxlabel"), ("GET", "nextlabel"), ("POST", "merge"), ("POST", "cleave/1"),
    ):  # fmt: skip
        assert live.call(method, f"{node}/{path}", b"[1,2]").status == 400


def test_damaged_messages_are_taken_or_refused_and_never_fail(live: Any, node: str) -> None:
    """Bytes of real messages, changed at random: 200 or 400, and the server goes on."""
    rng = np.random.default_rng(0)
    index = messages_pb2.LabelIndex(label=4, last_mutid=7, last_mod_user="ann")
    for cell in range(3):
        for sv in (4, 9999, 2**63):
            index.blocks[cell].counts[sv] = 5
    ops = messages_pb2.MappingOps()
    ops.mappings.add(mapped=1, original=[9999, 2**64 - 1])
    good = {
        "index/4": index.SerializeToString(),
        "indices": messages_pb2.LabelIndices(indices=[index]).SerializeToString(),
        "mappings": ops.SerializeToString(),
    }
    statuses = set()
    for _ in range(150):
        for path, message in good.items():
            data = bytearray(message)
            for _ in range(int(rng.integers(1, 4))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
            data = data[: int(rng.integers(len(data) + 1))] if rng.random() < 0.3 else data
            answer = live.call("POST", f"{node}/{path}", bytes(data))
            statuses.add(answer.status)
            assert answer.status in (200, 400), (path, bytes(data), answer.body)
    assert statuses == {200, 400}
    for path in ("existing-labels", "mappings", "listlabels?sizes=true", "index/4", "mutations"):
        assert live.call("GET", f"{node}/{path}").status in (200, 404)
    labels = live.ok("GET", f"{node}/existing-labels").json()
    assert live.ok("GET", f"{node}/indices", json_body=labels).body
