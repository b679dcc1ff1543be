from __future__ import annotations

from typing import Any

import numpy as np
import pytest

ANY = {
    "labelmap": (
        *("metadata", "size/1", "supervoxels/1", "supervoxel-sizes/1", "lastmod/1"),
        *("sparsevol-by-point/1_1_1", "sparsevol-coarse/1", "sparsevols-coarse/1/3"),
    ),
    "labelarray": ("metadata", "sparsevol-by-point/1_1_1", "sparsevol-coarse/1"),
}
NO_HEAD = {
    "labelmap": (
        *("raw/0_1_2/32_32_32/0_0_0", "blocks/32_32_32/0_0_0", "maxlabel", "index/1", "mutations"),
        *("existing-labels", "mappings", "sparsevol-size/1"),
    ),
    "labelarray": ("raw/0_1_2/32_32_32/0_0_0", "sparsevol-size/1", "maxlabel"),
    "labelblk": ("info", "metadata", "label/1_1_1", "blocks/32_32_32/0_0_0"),
    "annotation": ("all-elements", "elements/8_8_8/0_0_0", "label/1", "tag/a", "scan"),
    "labelsz": ("count/1/PreSyn", "top/3/PreSyn"),
    "roi": ("mask/0_1_2/32_32_32/0_0_0", "partition"),
}
HEAD = {
    "labelmap": ("info", "metadata", "size/1", "label/1_1_1", "sparsevol/1", "extents"),
    "labelarray": ("info", "label/1_1_1", "sparsevol/1"),
    "roi": ("roi",),
}
VOXELS = np.ones((32, 32, 32), "<u8").tobytes()


def node(live: Any) -> str:
    uuid: str = live.new_repo()
    for name in {*ANY, *NO_HEAD, *HEAD}:
        live.new_instance(uuid, name, name, BlockSize="32,32,32")
    for name in ("labelmap", "labelarray"):
        live.ok("POST", f"/api/node/{uuid}/{name}/raw/0_1_2/32_32_32/0_0_0", VOXELS)
    return uuid


def test_words_for_which_dvid_looks_at_no_method_answer_all_of_them(live: Any) -> None:
    uuid = node(live)
    for name, paths in ANY.items():
        for path in paths:
            expected = live.ok("GET", f"/api/node/{uuid}/{name}/{path}").body
            for method in ("POST", "PUT", "DELETE"):
                found = live.ok(method, f"/api/node/{uuid}/{name}/{path}").body
                assert (path, found) == (path, expected)
    live.ok("POST", f"/api/node/{uuid}/commit", b'{"note": ""}')
    for method in ("POST", "PUT", "DELETE"):
        for path in ("size/1", "label/1_1_1"):
            assert live.call(method, f"/api/node/{uuid}/labelmap/{path}").status == 400
    expected = live.ok("GET", f"/api/node/{uuid}/labelmap/size/1").body
    assert live.ok("PATCH", f"/api/node/{uuid}/labelmap/size/1").body == expected
    for path in ("merge", "raw/0_1_2/32_32_32/0_0_0", "cleave/1", "renumber"):
        assert live.call("PATCH", f"/api/node/{uuid}/labelmap/{path}", b"[1, 2]").status == 400


def test_head_is_refused_where_dvid_refuses_it(live: Any) -> None:
    uuid = node(live)
    refused = [f"{name}/{path}" for name, paths in NO_HEAD.items() for path in paths]
    answered = [f"{name}/{path}" for name, paths in HEAD.items() for path in paths]
    assert [x for x in refused if live.call("HEAD", f"/api/node/{uuid}/{x}").status != 400] == []
    assert [x for x in answered if live.call("HEAD", f"/api/node/{uuid}/{x}").status != 200] == []


@pytest.mark.parametrize("typename", ["labelarray", "labelblk", "labelvol", "tarsupervoxels"])
def test_types_without_tags_of_their_own_have_no_tags(live: Any, typename: str) -> None:
    uuid = live.new_repo()
    live.new_instance(uuid, typename, "x", Extension="dat")
    for method in ("GET", "POST"):
        assert live.call(method, f"/api/node/{uuid}/x/tags", b"{}").status == 400


def test_what_has_no_body_has_no_content_type_and_no_such_body_is_html(live: Any) -> None:
    uuid = live.new_repo()
    live.new_instance(uuid, "labelmap", "seg")
    answer = live.ok("POST", f"/api/node/{uuid}/seg/tags", b'{"a": "1"}')
    assert (answer.body, answer.headers.get("content-type")) == (b"", None)
    answer = live.call("HEAD", f"/api/node/{uuid}/seg/sparsevol/7")
    assert (answer.status, answer.headers["content-type"]) == (204, "text/html")


def test_a_picture_of_any_orientation_is_answered_to_a_post_too(live: Any) -> None:
    uuid = live.new_repo()
    grey = live.new_instance(uuid, "uint8blk", "grey")
    live.ok("POST", f"{grey}/raw/0_1_2/32_32_32/0_0_0", bytes(range(256)) * 128)
    path = f"{grey}/arb/0_0_0/8_0_0/0_8_0/1"
    assert live.ok("POST", path).body == live.ok("GET", path).body
    for method in ("PUT", "DELETE", "HEAD"):
        assert live.call(method, path).status == 400
