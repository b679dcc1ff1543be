"""Highest and next labels: per version, per instance, with a ceiling, and never one that is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import izyx, messages_pb2

ADMIN = "admintoken=secret"


@pytest.fixture
def root(live: Any) -> str:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    return root


def seg(uuid: str) -> str:
    return f"/api/node/{uuid}/seg"


def raise_max(live: Any, uuid: str, label: int) -> None:
    live.ok("POST", f"{seg(uuid)}/maxlabel/{label}?{ADMIN}")


def maxlabel(live: Any, uuid: str) -> int:
    return live.ok("GET", f"{seg(uuid)}/maxlabel").json()["maxlabel"]


def nextlabel(live: Any, uuid: str) -> int:
    return live.ok("GET", f"{seg(uuid)}/nextlabel").json()["nextlabel"]


def branch(live: Any, uuid: str, name: str) -> str:
    body = {"branch": name}
    return live.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()["child"]


def test_a_fresh_instance_has_no_highest_label_and_begins_with_1(live: Any, root: str) -> None:
    answer = live.call("GET", f"{seg(root)}/maxlabel")
    assert answer.status == 400
    assert "No maximum label" in answer.text
    assert nextlabel(live, root) == 1
    answer = live.ok("POST", f"{seg(root)}/nextlabel/3")
    assert answer.text == '{"start": 1, "end": 3}'
    assert (maxlabel(live, root), nextlabel(live, root)) == (3, 4)


def test_the_highest_label_is_inherited_and_new_labels_are_new_everywhere(
    live: Any, root: str
) -> None:
    raise_max(live, root, 1000)
    live.commit(root)
    left, right = branch(live, root, "left"), branch(live, root, "right")
    raise_max(live, left, 2000)
    raise_max(live, right, 500)
    assert [maxlabel(live, uuid) for uuid in (root, left, right)] == [1000, 2000, 1000]
    assert nextlabel(live, right) == 2001
    live.commit(left)
    live.commit(right)
    merge = {"mergeType": "conflict-free", "parents": [left, right], "note": ""}
    both = live.ok("POST", f"/api/repo/{root}/merge", json_body=merge).json()["child"]
    assert maxlabel(live, both) == 2000
    live.ok("POST", f"{seg(both)}/set-nextlabel/500?{ADMIN}")
    answer = live.ok("POST", f"{seg(both)}/nextlabel/5").json()
    assert answer == {"start": 501, "end": 505}
    assert maxlabel(live, both) == 2000


def test_a_ceiling_is_kept_until_it_is_removed(live: Any, root: str) -> None:
    live.ok("POST", f"{seg(root)}/set-nextlabel/100?{ADMIN}&ceiling=110")
    assert live.ok("POST", f"{seg(root)}/nextlabel/10").json() == {"start": 101, "end": 110}
    assert live.call("POST", f"{seg(root)}/nextlabel/1").status == 400
    assert nextlabel(live, root) == 111
    assert live.call("POST", f"{seg(root)}/set-nextlabel/200?{ADMIN}").status == 400
    live.ok("POST", f"{seg(root)}/set-nextlabel/200?{ADMIN}&ceiling=0")
    assert live.ok("POST", f"{seg(root)}/nextlabel/1").json() == {"start": 201, "end": 201}


def test_the_last_word_of_64_bits_is_never_given(live: Any, root: str) -> None:
    live.ok("POST", f"{seg(root)}/set-nextlabel/{2**64 - 4}?{ADMIN}")
    assert live.call("POST", f"{seg(root)}/nextlabel/3").status == 400
    answer = live.ok("POST", f"{seg(root)}/nextlabel/2").json()
    assert answer == {"start": 2**64 - 3, "end": 2**64 - 2}
    assert live.call("POST", f"{seg(root)}/nextlabel/1").status == 400
    assert live.call("POST", f"{seg(root)}/nextlabel/{2**64 - 1}").status == 400


def test_labels_in_use_are_passed_over(live: Any, root: str) -> None:
    volume = np.zeros((32, 32, 32), np.uint64)
    volume[:4], volume[4:8] = 1, 2
    live.ok("POST", f"{seg(root)}/raw/0_1_2/32_32_32/0_0_0", volume.tobytes())
    index = messages_pb2.LabelIndex(label=2)
    for sv in (2, 3, 4):
        index.blocks[izyx.pack_key((0, 0, 0))].counts[sv] = 7
    live.ok("POST", f"{seg(root)}/index/2", index.SerializeToString())
    assert maxlabel(live, root) == 2, "supervoxels inside of an index do not raise it"
    assert nextlabel(live, root) == 5
    made = live.ok("POST", f"{seg(root)}/cleave/2", json_body=[3]).json()
    assert made["CleavedLabel"] == 5
    live.ok("POST", f"{seg(root)}/set-nextlabel/1?{ADMIN}")
    assert live.ok("POST", f"{seg(root)}/nextlabel/2").json() == {"start": 6, "end": 7}


def test_counters_are_the_same_after_a_restart(settings: Any, run_server: Any) -> None:
    with run_server(settings) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
        live.new_instance(root, "labelmap", "unused")
        raise_max(live, root, 42)
        live.ok("POST", f"{seg(root)}/set-nextlabel/70?{ADMIN}&ceiling=90")
    with run_server(settings) as live:
        assert (maxlabel(live, root), nextlabel(live, root)) == (42, 71)
        assert live.call("POST", f"{seg(root)}/nextlabel/21").status == 400
        assert live.ok("GET", f"/api/node/{root}/unused/nextlabel").json() == {"nextlabel": 1}
