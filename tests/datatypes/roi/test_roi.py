"""roi: regions over versions beside a plain set of blocks."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.roi import reads
from dvid_es.projections.regions import EMPTY_LAYERS
from dvid_es.settings import Settings
from tests.conftest import Live
from tests.datatypes.labelarray.label_model import check_rebuilt

Spans = list[list[int]]
SIDE = (8, 4, 2)
"""Block size X, Y, Z: small, so that boxes of few voxels have many blocks."""


def made(live: Live, **config: str) -> tuple[str, str]:
    """Root and path of a region."""
    root = live.new_repo()
    return root, live.new_instance(root, "roi", "area", BlockSize="8,4,2", **config)


def blocks_of(spans: Spans) -> set[tuple[int, int, int]]:
    return {(z, y, x) for z, y, x0, x1 in spans for x in range(x0, x1 + 1)}


def masked(spans: Spans, size: tuple[int, ...], offset: tuple[int, ...]) -> np.ndarray:
    """The mask voxel by voxel."""
    blocks = blocks_of(spans)
    shape = size[::-1]
    expected = np.zeros(shape, np.uint8)
    for z, y, x in np.ndindex(shape):
        point = (x + offset[0], y + offset[1], z + offset[2])
        block = tuple(c // side for c, side in zip(point, SIDE, strict=True))
        expected[z, y, x] = block[::-1] in blocks
    return expected


def check(live: Live, node: str, spans: Spans, dice: random.Random, at: int | None = None) -> None:
    """All reads of a region show these spans."""
    more = {} if at is None else {"at": at}
    assert live.ok("GET", f"{node}/roi", **more).json() == sorted(map(list, set(map(tuple, spans))))
    shown = live.ok("GET", f"{node}/info", **more).json()["Extended"]
    layers = [z for z, _, _, _ in spans]
    lowest, highest = (min(layers), max(layers)) if layers else EMPTY_LAYERS
    assert shown == {"BlockSize": list(SIDE), "MinZ": lowest, "MaxZ": highest}
    points = [[dice.randint(-40, 60) for _ in range(3)] for _ in range(40)]
    blocks = blocks_of(spans)
    inside = [(z // 2, y // 4, x // 8) in blocks for x, y, z in points]
    assert live.ok("POST", f"{node}/ptquery", json_body=points, **more).json() == inside
    size = tuple(dice.randint(1, 24) for _ in range(3))
    offset = tuple(dice.randint(-20, 20) for _ in range(3))
    path = f"mask/0_1_2/{'_'.join(map(str, size))}/{'_'.join(map(str, offset))}"
    got = np.frombuffer(live.ok("GET", f"{node}/{path}", **more).body, np.uint8)
    assert np.array_equal(got.reshape(size[::-1]), masked(spans, size, offset))


def some_spans(dice: random.Random) -> Spans:
    """Any number of spans, also overlapping and equal ones."""
    found = []
    for _ in range(dice.choice((0, 1, 5, 60))):
        x = dice.randint(-5, 7)
        found.append([dice.randint(-9, 12), dice.randint(-6, 9), x, x + dice.choice((0, 0, 2, 5))])
    return found + found[:3]


class Walk:
    """Random replacements, deletions, branches and version merges, beside what must come of them."""

    def __init__(self, live: Live, seed: int) -> None:
        self.live = live
        self.dice = random.Random(seed)
        self.root, _ = made(live)
        self.spans: dict[str, Spans] = {self.root: []}
        self.merged = 0
        self.open = [self.root]
        self.past: list[tuple[int, str, Spans]] = []

    def node(self, uuid: str) -> str:
        return f"/api/node/{uuid}/area"

    def step(self) -> None:
        kinds = (self.write, self.write, self.write, self.clear, self.branch, self.merge)
        self.dice.choice(kinds)(self.dice.choice(self.open))

    def note(self, uuid: str, answer: Any, spans: Spans) -> None:
        self.spans[uuid] = spans
        self.past.append((int(answer.headers["x-dvid-es-seq"]), uuid, spans))

    def write(self, uuid: str) -> None:
        spans = some_spans(self.dice)
        self.note(uuid, self.live.ok("POST", f"{self.node(uuid)}/roi", json_body=spans), spans)

    def clear(self, uuid: str) -> None:
        self.note(uuid, self.live.ok("DELETE", f"{self.node(uuid)}/roi"), [])

    def branch(self, uuid: str) -> None:
        self.live.commit(uuid)
        self.open.remove(uuid)
        for place in range(2):
            body = {"branch": f"b{len(self.spans)}-{place}"}
            path = f"/api/node/{uuid}/branch"
            child = self.live.ok("POST", path, json_body=body).json()["child"]
            self.spans[child] = self.spans[uuid]
            self.open.append(child)

    def merge(self, _: str) -> None:
        # Only versions that each have a region of their own: how lines of descent count is for
        # tests of views.
        if len(self.open) < 3:
            return
        pair = self.dice.sample(self.open, 2)
        for uuid in pair:
            self.write(uuid)
            self.live.commit(uuid)
            self.open.remove(uuid)
        body = {"mergeType": "conflict-free", "parents": pair, "note": "both"}
        answer = self.live.ok("POST", f"/api/repo/{self.root}/merge", json_body=body).json()
        assert "conflicts" not in answer
        self.spans[answer["child"]] = [*self.spans[pair[0]], *self.spans[pair[1]]]
        self.open.append(answer["child"])
        self.merged += 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_read_follows_random_regions_over_versions_and_moments(
    live: Live, seed: int, tmp_path: Path
) -> None:
    walk = Walk(live, seed)
    for _ in range(40):
        walk.step()
    assert len(walk.spans) > 4
    assert walk.merged
    for uuid, spans in walk.spans.items():
        check(live, walk.node(uuid), spans, walk.dice)
    for at, uuid, spans in walk.dice.sample(walk.past, 8):
        check(live, walk.node(uuid), spans, walk.dice, at)
    check_rebuilt(live, tmp_path)


def test_more_spans_than_fit_into_an_event_come_back_in_order(live: Live, tmp_path: Path) -> None:
    _, node = made(live)
    many = [[z, y, x, x + 1] for z in range(-5, 15) for y in range(40) for x in range(0, 90, 3)]
    assert len(many) > 2 * reads.SPANS_PER_PIECE
    live.ok("POST", f"{node}/roi", json_body=many[::-1])
    assert live.ok("GET", f"{node}/roi").json() == many
    check_rebuilt(live, tmp_path)


def test_answers_are_written_as_dvid_writes_them(live: Live) -> None:
    _, node = made(live)
    live.ok("POST", f"{node}/roi", b" [[0,0,0,1], [ -1,0,3,3],[6,1]] ")
    answer = live.ok("GET", f"{node}/roi")
    assert answer.body == b"[[-1,0,3,3],[0,0,0,1],[6,1,0,0]]"
    assert answer.headers["content-type"] == "application/json"
    answer = live.ok("POST", f"{node}/ptquery", b"[[0,0,0],[16,0,0]]")
    assert answer.body == b"[true,false]"
    assert answer.headers["content-type"] == "application/json"
    answer = live.ok("GET", f"{node}/mask/vol/3_1_1/14_0_0")
    assert answer.body == b"\1\1\0"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert live.ok("GET", f"{node}/mask/0_1_2/0_5_5/0_0_0").body == b""
    head = live.call("HEAD", f"{node}/roi")
    assert (head.status, head.body) == (200, b"")
    live.ok("POST", f"{node}/roi", b"null")
    assert live.ok("GET", f"{node}/roi").body == b"[]"
    assert live.ok("POST", f"{node}/ptquery", b"null").body == b"[]"


@pytest.mark.parametrize("plane", [4, 40])
def test_masks_larger_than_a_plane_at_once_are_the_same(
    live: Live, monkeypatch: pytest.MonkeyPatch, plane: int
) -> None:
    monkeypatch.setattr(reads, "PLANE_BYTES", plane)
    dice = random.Random(7)
    _, node = made(live)
    spans = some_spans(dice) + [[z, 0, -1, 2] for z in range(-3, 4)]
    live.ok("POST", f"{node}/roi", json_body=spans)
    for _ in range(4):
        check(live, node, spans, dice)


def test_a_large_mask_is_streamed(live: Live) -> None:
    _, node = made(live)
    live.ok("POST", f"{node}/roi", json_body=[[z, 0, 0, 0] for z in range(50)])
    body = live.ok("GET", f"{node}/mask/0_1_2/200_300_100/0_0_0").body
    voxels = np.frombuffer(body, np.uint8).reshape(100, 300, 200)
    assert voxels[:, :4, :8].all()
    assert voxels.sum() == 100 * 4 * 8


BAD = [
    ("POST", "roi", b""), ("POST", "roi", b"{}"), ("POST", "roi", b"[1,2,3,4]"),
    ("POST", "roi", b"[[1,2,3.5,4]]"), ("POST", "roi", b'[["1",2,3,4]]'),
    ("POST", "roi", b"[[1,2,3,4]"), ("POST", "roi", b"[[1,2,3,4]] x"),
    ("POST", "roi", b"[[1,2,3,2147483648]]"), ("POST", "roi", b"[[1,2,3,true]]"),
    ("POST", "roi", b"[[0,0,0,1],[1,1,9,3]]"), ("POST", "roi", b"[[1,2,3]]"),
    ("PUT", "roi", b"[[0,0,0,0]]"), ("PATCH", "roi", b"[]"),
    ("GET", "ptquery", None), ("PUT", "ptquery", b"[]"), ("DELETE", "ptquery", None),
    ("POST", "ptquery", b""), ("POST", "ptquery", b"{}"), ("POST", "ptquery", b"[1,2,3]"),
    ("POST", "ptquery", b"[[1.5,2,3]]"), ("POST", "ptquery", b"[[1,2,99999999999]]"),
    ("POST", "mask/0_1_2/1_1_1/0_0_0", b""), ("GET", "mask", None),
    ("GET", "mask/0_1_2/8_8_8", None), ("GET", "mask/xy/8_8/0_0_0", None),
    ("GET", "mask/0_1_2/8_8/0_0_0", None), ("GET", "mask/0_1_2/8_-8_8/0_0_0", None),
    ("GET", "mask/0_1_2/a_8_8/0_0_0", None), ("GET", "mask/cube/8_8_8/0_0_0", None),
    ("GET", "mask/0_1_2/2_1_1/2147483647_0_0", None),
    ("GET", "mask/0_1_2/4096_4096_4096/0_0_0", None),
    ("POST", "partition?batchsize=4", b""), ("DELETE", "partition?batchsize=4", None),
    ("GET", "partition?batchsize=0", None), ("GET", "partition?batchsize=-3", None),
    ("GET", "partition?batchsize=eight", None), ("GET", "partition?batchsize=", None),
    ("GET", "partition?batchsize=65537", None), ("GET", "partition?batchsize=99999999999", None),
    ("GET", "tags", None), ("POST", "tags", b'{"a": "b"}'), ("POST", "sync", b'{"sync": "area"}'),
    ("GET", "spans", None), ("GET", "mutations", None),
]  # fmt: skip


def test_what_is_refused_changes_nothing(live: Live) -> None:
    root, node = made(live)
    live.ok("POST", f"{node}/roi", json_body=[[1, 1, 1, 1]])
    events = live.ok("GET", f"/api/repo/{root}/info").headers["x-dvid-es-seq"]
    for method, path, body in BAD:
        answer = live.call(method, f"{node}/{path}", body)
        assert answer.status == 400, (method, path, body, answer)
        assert answer.text.strip(), (method, path, body)
    assert live.ok("GET", f"{node}/roi").json() == [[1, 1, 1, 1]]
    assert live.ok("GET", f"/api/repo/{root}/info").headers["x-dvid-es-seq"] == events
    for sides in ("32,32", "a,b,c", "", "0,1,1", "-1,2,3", "1,2,3,4", "99999999999,1,1"):
        body = {"typename": "roi", "dataname": "bad", "BlockSize": sides}
        assert live.call("POST", f"/api/repo/{root}/instance", json_body=body).status == 400, sides


def test_a_locked_version_answers_questions_and_takes_no_spans(live: Live) -> None:
    root, node = made(live)
    live.ok("POST", f"{node}/roi", json_body=[[0, 0, 0, 0]])
    live.commit(root)
    for method, body in (("POST", b"[]"), ("DELETE", None), ("PUT", b"[]")):
        assert live.call(method, f"{node}/roi", body).status == 400
    assert live.ok("POST", f"{node}/ptquery", b"[[0,0,0]]").json() == [True]
    assert live.ok("GET", f"{node}/roi").json() == [[0, 0, 0, 0]]


def test_an_unversioned_region_is_the_same_at_all_versions(live: Live) -> None:
    root, node = made(live, versioned="false")
    live.commit(root)
    child = live.new_version(root)
    live.ok("POST", f"{node}/roi", json_body=[[0, 0, 0, 0]])
    live.ok("POST", f"/api/node/{child}/area/roi", json_body=[[1, 1, 1, 1]])
    assert live.ok("GET", f"{node}/roi").json() == [[1, 1, 1, 1]]


def test_spans_to_the_ends_of_32_bits_are_kept(live: Live) -> None:
    _, node = made(live)
    low, high = -(2**31), 2**31 - 1
    spans = [[low, low, low, high], [high, high, high, high]]
    live.ok("POST", f"{node}/roi", json_body=spans)
    assert live.ok("GET", f"{node}/roi").json() == spans
    assert live.ok("POST", f"{node}/ptquery", json_body=[[0, 0, 0]]).json() == [False]
    assert live.call("GET", f"{node}/partition?batchsize=1").status == 400
    assert live.call("GET", f"{node}/partition?batchsize=1&optimized=on").status == 400
    made_of = live.ok("GET", f"{node}/partition?batchsize=65536").json()
    assert made_of["NumActiveBlocks"] == 2**32 + 1


def test_a_dry_run_writes_nothing_and_a_repeated_key_writes_once(live: Live) -> None:
    _, node = made(live)
    first = live.ok("POST", f"{node}/roi", json_body=[[1, 1, 1, 1]])
    assert live.call("POST", f"{node}/roi", b"[[5,5,5,5]]", dryrun="true").status == 200
    assert live.call("DELETE", f"{node}/roi", dryrun="true").status == 200
    assert live.ok("GET", f"{node}/roi").json() == [[1, 1, 1, 1]]
    keyed = {"Idempotency-Key": "once"}
    second = live.ok("POST", f"{node}/roi", b"[[2,2,2,2]]", headers=keyed)
    live.ok("DELETE", f"{node}/roi")
    again = live.ok("POST", f"{node}/roi", b"[[2,2,2,2]]", headers=keyed)
    assert again.headers["x-dvid-es-seq"] == second.headers["x-dvid-es-seq"]
    assert live.ok("GET", f"{node}/roi").json() == []
    at = first.headers["x-dvid-es-seq"]
    assert live.ok("GET", f"{node}/roi", at=at).json() == [[1, 1, 1, 1]]


def test_followers_hear_of_regions_in_a_box(live: Live) -> None:
    root, node = made(live)
    many = [[z, 5, -3, 90] for z in range(200, 300)]  # in packs
    wrote = [
        int(live.ok("POST", f"{node}/roi", json_body=spans).headers["x-dvid-es-seq"])
        for spans in ([[1, 1, -2, 3]], many, [])
    ]
    # Blocks are 8 x 4 x 2 voxels.
    for box, expected in {
        "-16,4,2,-15,5,3": wrote[:1], "31,7,3,32,8,4": wrote[:1], "32,4,2,33,5,3": [],
        "-17,4,2,-16,5,3": [], "0,8,2,99,9,4": [], "727,20,598,728,21,599": wrote[1:2],
        "-999,-999,-999,999,999,999": wrote[:2],
    }.items():  # fmt: skip
        lines = live.ok(
            "GET", f"/api/repo/{root}/events?box={box}", headers={"Accept": "application/x-ndjson"}
        ).body.splitlines()
        assert [json.loads(line)["sequence"] for line in lines if line] == expected, box


def test_a_region_survives_a_restart(run_server: Any, settings: Settings) -> None:
    with run_server(settings) as live:
        root, node = made(live)
        live.ok("POST", f"{node}/roi", json_body=[[3, 2, 1, 4]])
    with run_server(settings) as live:
        check(live, f"/api/node/{root}/area", [[3, 2, 1, 4]], random.Random(1))


def test_a_merged_version_with_both_regions_can_be_resolved_or_written_anew(live: Live) -> None:
    root, node = made(live)
    live.ok("POST", f"{node}/roi", json_body=[[0, 0, 0, 0], [9, 9, 9, 9]])
    live.commit(root)
    parents = []
    for name, spans in (("a", [[1, 1, 1, 1], [5, 5, 5, 5]]), ("b", [[2, 2, 2, 2], [5, 5, 5, 5]])):
        body = {"branch": name}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        live.ok("POST", f"/api/node/{uuid}/area/roi", json_body=spans)
        live.commit(uuid)
        parents.append(uuid)
    both = [[1, 1, 1, 1], [2, 2, 2, 2], [5, 5, 5, 5]]
    body = {"parents": parents, "note": "both", "data": ["area"]}
    child = live.ok("POST", f"/api/repo/{root}/resolve", json_body=body).json()["child"]
    path = f"/api/node/{child}/area"
    assert live.ok("GET", f"{path}/roi").json() == both
    live.ok("POST", f"{path}/roi", json_body=[[7, 7, 7, 7]])
    assert live.ok("GET", f"{path}/roi").json() == [[7, 7, 7, 7]]


def test_a_body_in_chunks_is_read_whole(live: Live) -> None:
    _, node = made(live)
    spans = [[z, 0, 0, 0] for z in range(3000)]
    text = json.dumps(spans).encode()
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    try:
        parts = (text[start : start + 1000] for start in range(0, len(text), 1000))
        connection.request("POST", f"{node}/roi", body=parts, encode_chunked=True)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    assert live.ok("GET", f"{node}/roi").json() == spans
