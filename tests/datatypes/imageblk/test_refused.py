"""Requests that are refused: what they say, and that they change nothing."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from dvid_es.datatypes.imageblk import prepare
from dvid_es.settings import Settings
from tests.datatypes.imageblk import volume_model as model
from tests.datatypes.labelarray.label_model import check_rebuilt

BLOCK = bytes(8**3)


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: Any) -> Any:
    data = tmp_path_factory.mktemp("refused") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture(scope="module")
def node(server: Any) -> str:
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    server.new_instance(root, "roi", "fine", BlockSize="4,4,4")
    path = server.new_instance(root, "uint8blk", "grey", BlockSize="8,8,8", VoxelSize="2,2,10")
    model.post(server, path, model.noise((16, 16, 16), "u1", 1))
    return path


def state(server: Any, node: str) -> tuple[Any, ...]:
    stream = server.ok("GET", f"{node}/subvolblocks/80_80_80/-40_-40_-40")
    info = server.ok("GET", f"{node}/info")
    return stream.body, info.json(), info.headers["x-dvid-es-seq"]


WRITES = [
    ("raw/0_1_2/8_8_8/1_0_0", BLOCK, "multiples of the block size"),
    ("raw/0_1_2/8_8_9/0_0_0", BLOCK, "multiples of the block size"),
    ("raw/0_1_2/8_8_8/0_0_0", BLOCK[1:], "512 bytes, but 511 were sent"),
    ("raw/0_1_2/8_8_8/0_0_0", BLOCK + b"x", "512 bytes, but 513 were sent"),
    ("raw/0_1_2/8_8_8/0_0_0", b"", "512 bytes, but 0 were sent"),
    ("raw/0_1_2/8_8/0_0_0", BLOCK, "3 numbers"),
    ("raw/0_1_2/8_8_8", BLOCK, "shape/size/offset"),
    ("raw/0_1_2/8_8_-8/0_0_0", BLOCK, "at least 1"),
    ("raw/0_1_2/8_8_8/2147483640_0_8", BLOCK[:-1], "but 511"),
    ("raw/0_1_2/16_8_8/2147483640_0_0", BLOCK * 2, "32 bits"),
    ("raw/0_1_2/2147483640_2147483640_2147483640/0_0_0", BLOCK, "ask in parts"),
    ("raw/0_1_2/1024_1024_1024/0_0_0", BLOCK, "but 512 were sent"),
    ("raw/xy/8_8/0_0_0", BLOCK[:64], "2d mutations"),
    ("raw/0_1_2/8_8_8/0_0_0?roi=none", BLOCK, "none"),
    ("raw/0_1_2/8_8_8/0_0_0?roi=kv", BLOCK, "ROI is needed"),
    ("raw/0_1_2/8_8_8/0_0_0?roi=fine", BLOCK, "blocks of the same size"),
    ("raw/0_1_2/8_8_8/0_0_0?roi=fine&attenuation=9", BLOCK, "1 to 7"),
    ("isotropic/0_1_2/8_8_8/0_0_0", BLOCK, "GET"),
    ("blocks/0_0_0/2", BLOCK + b"half", "1024 bytes, but 516 were sent"),
    ("blocks/0_0_0/0", BLOCK, "0 blocks"),
    ("blocks/0_0_0/-1", BLOCK, "-1 blocks"),
    ("blocks/0_0_0/2147483647", BLOCK, "were sent"),
    ("blocks/2147483647_0_0/2", BLOCK * 2, "32 bits"),
    ("blocks/0_0/1", BLOCK, "3 numbers"),
    ("blocks/0_0_0", BLOCK, "span-x"),
    ("blocks/0_0_0/99999999999", BLOCK, "32-bit"),
    ("subvolblocks/8_8_8/0_0_0", b"", "GET"),
    ("specificblocks?blocks=0,0,0", b"", "GET"),
    ("extents", b"", "JSON"),
    ("extents", b"[]", "cannot unmarshal array"),
    ("extents", b'{"MinPoint": 5}', "MinPoint"),
    ("extents", b'{"MaxPoint": [1, 2, 2147483648]}', "2147483648"),
    ("extents", b'{"MaxPoint": [1, true, 2]}', "bool"),
    ("resolution", b"[1, 2]", "three numbers"),
    ("resolution", b"[1, 2, 0]", "above 0"),
    ("resolution", b"[1, 2, -4]", "above 0"),
    ("resolution", b"[1, 2, 1e300]", "above 0"),
    ("resolution", b"[1, 2, null]", "number"),
    ("resolution", b'{"x": 1}', "cannot unmarshal object"),
    ("info", b"{}", "GET"),
    ("tags", b'{"a": "b"}', "Bad API call"),
    ("sync", b'{"sync": "kv"}', "Bad API call"),
    ("rawkey", b"", "GET"),
]


@pytest.mark.parametrize(("path", "body", "says"), WRITES)
def test_a_refused_write_says_why_and_changes_nothing(
    server: Any, node: str, path: str, body: bytes, says: str
) -> None:
    before = state(server, node)
    answer = server.call("POST", f"{node}/{path}", body)
    assert answer.status == 400, answer
    assert says in answer.text
    assert state(server, node) == before


READS = [
    ("raw", "shape/size/offset"),
    ("raw/0_1_2/0_4_4/0_0_0", "at least 1"),
    ("raw/0_1_2/4_4_4/99999999999_0_0", "32-bit"),
    ("raw/0_1_2/4000_4000_4000/0_0_0", "ask in parts"),
    ("raw/0_1_2/9_4_4/2147483640_0_0", "32 bits"),
    ("raw/0_1_2/2000_2000_40/0_0_0/jpg", "65500"),
    ("raw/xyz/4_4_4/0_0_0", "no shape"),
    ("raw/xy/20_20/0_0_0/gif", "image format"),
    ("raw/xy/20_20/0_0_0/jpg:high", "quality"),
    ("raw/xy/70000_2/0_0_0/jpg", "65500"),
    ("raw/xy/20000_20000/0_0_0", "pixels"),
    ("raw/xy/20_20_20/0_0_0", "2 numbers"),
    ("raw/xy/9_1/2147483640_0_0", "32 bits"),
    ("isotropic/xz/20_1/0_0_0", "one voxel"),
    ("arb/0_0_0/9_0_0/0_9_0", "top-left"),
    ("arb/0_0_0/9_0_0/0_9_0/0", "above 0"),
    ("arb/0_0_0/9_0_0/0_9_0/-1", "above 0"),
    ("arb/0_0_0/9_0_0/0_9_0/nan", "not a number"),
    ("arb/0_0_0/inf_0_0/0_9_0/1", "not a number"),
    ("arb/0_0/9_0_0/0_9_0/1", "3 numbers"),
    ("arb/0_0_0/1e300_0_0/0_9_0/1", "pixels"),
    ("arb/0_0_0/1e12_0_0/0_9_0/1e11", "32 bits"),
    ("arb/0_0_0/9_0_0/0_9_0/1e-9", "pixels"),
    ("arb/0_0_0/9_0_0/0_9_0/1/gif", "image format"),
    ("blocks/0_0_0/-1", "-1 blocks"),
    ("blocks/0_0_0/99999999", "ask in parts"),
    ("subvolblocks/8_8_8", "size/offset"),
    ("subvolblocks", "size/offset"),
    ("subvolblocks/8_8_8/1_0_0", "multiples"),
    ("subvolblocks/8_8_8/0_0_0?compression=gzip", "compression"),
    ("subvolblocks/800_8_8/800_0_0?compression=zip", "compression"),
    ("specificblocks?blocks=0,0", "three numbers"),
    ("specificblocks?blocks=0,0,x", "32-bit"),
    ("specificblocks?blocks=0,0,0&compression=jpeg", "JPEG"),
    ("extents", "POST"),
    ("resolution", "POST"),
    ("rawkey?x=0&y=0&z=0", "not applicable"),
    ("raw/0_1_2/8_8_8/0_0_0?roi=none", "none"),
    ("raw/xy/8_8/0_0_0?roi=kv", "ROI is needed"),
]


@pytest.mark.parametrize(("path", "says"), READS)
def test_a_refused_read_says_why(server: Any, node: str, path: str, says: str) -> None:
    answer = server.call("GET", f"{node}/{path}")
    assert answer.status == 400, answer
    assert says in answer.text


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("word", ["raw/0_1_2/8_8_8/0_0_0", "blocks/0_0_0/1", "info", "extents"])
def test_only_get_and_post_are_known(server: Any, node: str, method: str, word: str) -> None:
    before = state(server, node)
    assert server.call(method, f"{node}/{word}", BLOCK).status == 400
    assert state(server, node) == before


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"BlockSize": "0,32,32"}, "at least 1"),
        ({"BlockSize": "-32,32,32"}, "at least 1"),
        ({"BlockSize": "32,32"}, "three values"),
        ({"BlockSize": "2048,2048,2048"}, "smaller BlockSize"),
        ({"BlockSize": "8,300,300", "Compression": "jpeg"}, "JPEG"),
        ({"VoxelSize": "8"}, "three values"),
        ({"VoxelSize": "8,8,nan"}, "above 0"),
        ({"VoxelSize": "8,8,x"}, "three numbers"),
        ({"Background": "300"}, "0 to 255"),
        ({"Background": "-1"}, "0 to 255"),
        ({"MinPoint": "1,2"}, "three values"),
        ({"MaxPoint": "1,2,9999999999"}, "32 bits"),
        ({"ScaleLevel": "x"}, "whole number"),
        ({"GridStore": "nowhere"}, "GridStore"),
        ({"Compression": "zstd"}, "compression"),
        ({"BlockSize": [8, 8, 8]}, "not a string"),
    ],
)
def test_an_instance_with_settings_that_cannot_be_is_not_made(
    server: Any, node: str, config: dict[str, Any], says: str
) -> None:
    root = node.split("/")[3]
    body = {"typename": "uint8blk", "dataname": "bad", **config}
    answer = server.call("POST", f"/api/repo/{root}/instance", json_body=body)
    assert answer.status == 400
    assert says in answer.text
    assert server.call("GET", f"/api/node/{root}/bad/info").status == 400


def test_too_many_blocks_are_sent_in_parts(
    server: Any, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvid_es.datatypes.imageblk.prepare.BLOCKS_MAX", 7)
    before = state(server, node)
    answer = server.call("POST", f"{node}/raw/0_1_2/16_16_16/0_0_0", bytes(16**3))
    assert answer.status == 400
    assert "in parts" in answer.text
    assert server.call("POST", f"{node}/blocks/0_0_0/8", BLOCK * 8).status == 400
    assert state(server, node) == before
    monkeypatch.setattr("dvid_es.datatypes.imageblk.arbitrary.BLOCKS_MAX", 3)
    answer = server.call("GET", f"{node}/arb/0_0_0/30_0_0/0_30_0/1")
    assert answer.status == 400
    assert "in parts" in answer.text


def test_a_locked_version_takes_no_voxels_and_an_unversioned_volume_all(server: Any) -> None:
    root = server.new_repo()
    locked = server.new_instance(root, "uint8blk", "grey", BlockSize="8,8,8")
    free = server.new_instance(root, "uint8blk", "free", BlockSize="8,8,8", versioned="false")
    server.commit(root)
    for path in ("raw/0_1_2/8_8_8/0_0_0", "blocks/0_0_0/1"):
        assert server.call("POST", f"{locked}/{path}", BLOCK).status == 400
        server.ok("POST", f"{free}/{path}", b"\7" * 512)
    assert server.call("POST", f"{locked}/resolution", b"[1,2,3]").status == 400
    child = server.new_version(root)
    assert (model.read(server, f"/api/node/{child}/free", (8, 8, 8), (0, 0, 0)) == 7).all()


def test_a_dry_run_writes_nothing_and_a_repeated_request_once(server: Any) -> None:
    node = server.new_instance(server.new_repo(), "uint8blk", "grey", BlockSize="8,8,8")
    path = f"{node}/raw/0_1_2/8_8_8/0_0_0"
    shown = server.ok("POST", path, b"\7" * 512, dryrun="true").json()
    assert [event["event"] for event in shown["events"]] == ["imageblk.blocks-put"]
    assert server.ok("GET", f"{node}/specificblocks?blocks=0,0,0").body == b""
    key = {"Idempotency-Key": "once"}
    first = server.ok("POST", path, b"\7" * 512, headers=key)
    again = server.ok("POST", path, b"\7" * 512, headers=key)
    assert again.headers["x-dvid-es-seq"] == first.headers["x-dvid-es-seq"]


def test_settings_that_are_the_same_already_are_no_events(server: Any) -> None:
    node = server.new_instance(server.new_repo(), "uint8blk", "grey")
    box = {"MinPoint": [5, 5, 5], "MaxPoint": [1, 2]}
    for word, body in (("resolution", [8, 4.25, 33.3]), ("extents", box)):
        first = server.ok("POST", f"{node}/{word}", json_body=body)
        again = server.ok("POST", f"{node}/{word}", json_body=body)
        assert again.headers["x-dvid-es-seq"] == first.headers["x-dvid-es-seq"]
    info = server.ok("GET", f"{node}/info").json()
    assert info["Extended"]["VoxelSize"] == [8, 4.25, 33.3]
    assert info["Extents"] == {"MinPoint": [5, 5, 5], "MaxPoint": [1, 2, 0]}


WORDS = [
    *("raw", "isotropic", "arb", "blocks", "subvolblocks", "specificblocks", "extents"),
    *(
        "0_1_2",
        "xy",
        "vol",
        "8_8_8",
        "16_8",
        "0_0_0",
        "-8_8_0",
        "1_2_3",
        "2",
        "0",
        "1e3",
        "jpg",
        "png",
    ),
    *("2147483647_0_0", "%00", "é", "_", "8_8", "nan", "-1", "", "9" * 30),
]


def test_a_region_that_changes_while_a_write_is_prepared_refuses_it(
    server: Any, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = node.split("/")[3]
    server.new_instance(root, "roi", "area", BlockSize="8,8,8")
    area = f"/api/node/{root}/area/roi"
    server.ok("POST", area, json_body=[[0, 0, 0, 1]])
    before = state(server, node)[0]
    places_of = prepare.places_of

    def slowly(*given: Any) -> Any:
        other = threading.Thread(
            target=server.ok, args=("POST", area), kwargs={"json_body": [[0, 0, 0, 0]]}
        )
        other.start()
        other.join()
        return places_of(*given)

    monkeypatch.setattr(prepare, "places_of", slowly)
    path = f"{node}/raw/0_1_2/16_8_8/0_0_0"
    answer = server.call("POST", path, 2 * BLOCK, roi="area")
    assert answer.status == 400
    assert "send the request again" in answer.text
    assert state(server, node)[0] == before
    monkeypatch.undo()
    server.ok("POST", path, 2 * BLOCK, roi="area")
    got = model.read(server, node, (16, 8, 8), (0, 0, 0))
    assert not got[:, :, :8].any()
    assert got[:, :, 8:].any(), "only the region of now was written"


def test_damaged_requests_are_answered_and_leave_what_can_be_rebuilt(
    server: Any, node: str, tmp_path: Path
) -> None:
    dice = random.Random(4)
    child = server.new_instance(node.split("/")[3], "uint16blk", "damaged", BlockSize="8,8,8")
    server.ok("POST", f"{child}/blocks/0_0_0/1", BLOCK * 2)
    statuses = set()
    for _ in range(600):
        path = "/".join(dice.choice(WORDS) for _ in range(dice.randrange(1, 7)))
        if dice.random() < 0.3:
            path += f"?{dice.choice(('roi', 'compression', 'blocks', 'throttle', 'attenuation'))}="
            path += dice.choice(("fine", "jpeg", "0,0,0", "true", "9", "%ff"))
        method = dice.choice(("GET", "GET", "POST"))
        body = dice.randbytes(dice.choice((0, 64, 1024))) if method == "POST" else None
        path = path.replace("é", "%C3%A9")
        answer = server.call(method, f"{child}/{path}", body)
        assert answer.status in (200, 307, 400, 404), (method, path, answer)
        statuses.add(answer.status)
    assert {200, 400} <= statuses
    check_rebuilt(server, tmp_path)
