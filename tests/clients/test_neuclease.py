"""neuclease: requests with its JSON, block streams, binary mappings, indices and mutation records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import messages_pb2
from tests.clients.wire import (
    SIDE,
    Session,
    Volume,
    block_counts,
    block_stream,
    blocks_of,
    boxed,
    index_of,
    inflated,
    mask_of_runs,
    pyramid,
    rle_payload,
    underscored,
)
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import Model

HEADERS = {
    "User-Agent": "python-requests/2.32.3", "Accept-Encoding": "gzip, deflate", "Accept": "*/*",
    "Connection": "keep-alive",
}  # fmt: skip
TIMESTAMP = re.compile(r"(\d\d\d\d-\d\d-\d\d) (\d\d:\d\d:\d\d.\d+) (.\d\d\d\d) .*")
SHAPE = (128, 64, 128)
WHOLE = ((0, 0, 0), SHAPE)


@pytest.fixture(scope="module")
def volume() -> Volume:
    found = oracle.cells(SHAPE, 20, seed=11, first=1000)
    found[found % 7 == 0] = 0
    return found


@pytest.fixture
def dvid(live: Any) -> Iterator[Session]:
    with Session(live.port, HEADERS, u="annotator", app="Neuclease") as session:
        yield session


def create(dvid: Session, uuid: str, name: str = "segmentation") -> str:
    settings = {
        "dataname": name, "typename": "labelmap", "BlockSize": "64,64,64", "VoxelSize": "8.0,8.0,8.0",
        "VoxelUnits": "nanometers,nanometers,nanometers", "IndexedLabels": "true",
        "CountLabels": "true", "MaxDownresLevel": "2",
    }  # fmt: skip
    dvid.json("POST", f"/api/repo/{uuid}/instance", settings)
    dvid.json("POST", f"/api/node/{uuid}/{name}/tags", {"type": "labelmap"})
    return f"/api/node/{uuid}/{name}"


@pytest.fixture
def node(dvid: Session, volume: Volume) -> str:
    info = dvid.ok("GET", "/api/server/info").json()
    parts = re.split(r"[.-]", info["DVID Version"][1:])[:4]
    assert tuple(map(int, parts)) >= (0, 8, 24, 15), "selects the binary mappings"
    repo = {"alias": "hemibrain", "description": "a test"}
    node = create(dvid, dvid.json("POST", "/api/repos", repo).json()["root"])
    reply = dvid.send("GET", f"{node}/maxlabel")
    assert reply.status == 400
    assert b"No maximum label" in reply.content
    dvid.ok("POST", f"{node}/blocks", block_stream(volume), scale="0", downres="true")
    return node


def test_posted_voxels_are_fetched_at_every_scale_and_in_boxes_that_are_not_aligned(
    dvid: Session, node: str, volume: Volume
) -> None:
    for scale, truth in enumerate(pyramid(volume, 2)):
        asked = {"compression": "blocks", **({"scale": scale} if scale else {})}
        for supervoxels in ({}, {"supervoxels": "true"}):
            box = ((0, 0, 0), truth.shape)
            content = dvid.ok("GET", f"{node}/blocks/{boxed(box)}", **asked, **supervoxels).content
            assert np.array_equal(inflated(content, box), truth)
    corners = np.array([[0, 0, 0], [64, 0, 64], [0, 640, 0]])
    ids = ",".join(map(str, (corners[:, ::-1] // 64).ravel()))
    content = dvid.ok("GET", f"{node}/specificblocks", blocks=ids).content
    assert np.array_equal(
        inflated(content, WHOLE),
        np.where(inflated(content, WHOLE) > 0, volume, 0),
    )
    assert sorted(xyz for xyz, _ in oracle.split(content)) == [(0, 0, 0), (1, 0, 1)]
    points = np.random.default_rng(2).integers(0, SHAPE, (200, 3))
    found = dvid.json("GET", f"{node}/labels", points[:, ::-1].tolist()).json()
    assert found == volume[tuple(points.T)].tolist()
    z, y, x = points[0]
    one = dvid.ok("GET", f"{node}/label/{underscored((x, y, z))}").json()["Label"]
    assert one == volume[z, y, x]


def test_blocks_posted_without_the_empty_ones_leave_these_as_they_are(
    dvid: Session, node: str, volume: Volume
) -> None:
    second = np.zeros(SHAPE, np.uint64)
    second[:64, :, 64:][8:40, 3:50, 1:9] = 77
    body = block_stream(second, skip_empty=True)
    assert len(oracle.split(body)) == 1
    dvid.ok("POST", f"{node}/blocks", body, scale="0", throttle="true")
    truth = volume.copy()
    truth[:64, :, 64:] = second[:64, :, 64:]
    content = dvid.ok("GET", f"{node}/blocks/{boxed(WHOLE)}", compression="blocks").content
    assert np.array_equal(inflated(content, WHOLE), truth)
    labels = sorted(oracle.sizes(volume).keys() | {77})
    truths = [oracle.sizes(truth).get(label, 0) for label in labels]
    assert dvid.json("GET", f"{node}/sizes", labels).json() == truths, "posted twice, counted once"
    assert dvid.ok("GET", f"{node}/maxlabel").json()["maxlabel"] == max(labels)


def test_bodies_listed_and_sized_page_by_page(dvid: Session, node: str, volume: Volume) -> None:
    sizes = oracle.sizes(volume)
    pages: list[Any] = []
    start = 0
    while True:
        reply = dvid.ok("GET", f"{node}/listlabels", start=start, number=7, sizes="true")
        page = np.frombuffer(reply.content, "<u8").reshape(-1, 2).tolist()
        pages += page
        if len(page) < 7:
            break
        start = page[-1][0] + 1
    assert dict(pages) == sizes
    assert len(pages) == len(sizes)
    asked = [*sizes, 5, 0]
    assert dvid.json("GET", f"{node}/sizes", asked).json() == [*sizes.values(), 0, 0]
    assert (
        dvid.json("GET", f"{node}/sizes", asked, supervoxels="true").json()[:2]
        == list(sizes.values())[:2]
    )
    first = dvid.ok("POST", f"{node}/nextlabel/5").json()
    then = dvid.ok("POST", f"{node}/nextlabel/1").json()
    assert first == {"start": max(sizes) + 1, "end": max(sizes) + 5}
    assert then["start"] == then["end"] == first["end"] + 1
    assert dvid.ok("GET", f"{node}/nextlabel").json() == {"nextlabel": then["end"] + 1}
    reply = dvid.send("POST", f"{node}/maxlabel/5000")
    assert reply.status == 400
    dvid.ok("POST", f"{node}/maxlabel/5000", admintoken="secret")
    assert dvid.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 5000}


def test_sparse_volumes_of_bodies_and_supervoxels_in_boxes(
    dvid: Session, node: str, volume: Volume
) -> None:
    a, b = list(oracle.sizes(volume))[:2]
    dvid.json("POST", f"{node}/merge", [a, b])
    scales = pyramid(volume, 2)
    for scale in range(3):
        content = dvid.ok("GET", f"{node}/sparsevol/{a}", scale=str(scale)).content
        truth = np.isin(scales[scale], [a, b])
        assert np.array_equal(mask_of_runs(content, truth.shape), truth)
    bounds = {"minz": 10, "miny": 5, "minx": 30, "maxz": 90, "maxy": 60, "maxx": 101}
    content = dvid.ok(
        "GET", f"{node}/sparsevol/{b}", scale="0", supervoxels="true", **bounds
    ).content
    truth = np.zeros(SHAPE, bool)
    truth[10:91, 5:61, 30:102] = volume[10:91, 5:61, 30:102] == b
    assert np.array_equal(mask_of_runs(content, SHAPE), truth)
    reply = dvid.ok("GET", f"{node}/sparsevol-coarse/{a}?supervoxels=false")
    coarse = np.zeros([side // SIDE for side in SHAPE], bool)
    coarse[tuple(np.array(list(block_counts(volume, [a, b]))).T)] = True
    assert np.array_equal(mask_of_runs(reply.content, coarse.shape), coarse)
    codes = [
        dvid.send("HEAD", f"{node}/sparsevol/{label}?supervoxels={flag}").status
        for label, flag in ((a, "false"), (b, "false"), (b, "true"), (123, "false"))
    ]
    assert codes == [200, 204, 200, 204]


def mutation_records(dvid: Session, node: str, **query: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = dvid.ok("GET", f"{node}/mutations", **query).json()
    stamps = [TIMESTAMP.search(record["Timestamp"]) for record in records]
    assert all(stamps), "neuclease cannot parse a timestamp"
    assert all(record["UUID"] in node for record in records)
    found = [m.groups() for m in stamps if m]
    assert found == sorted(found)
    return records


def test_a_session_of_edits_agrees_with_numpy_and_its_log(
    dvid: Session, node: str, volume: Volume
) -> None:
    model = Model(volume)
    a, b, c, d, e = list(oracle.sizes(volume))[:5]

    def last(body: int) -> int:
        lastmod = dvid.ok("GET", f"{node}/lastmod/{body}").json()
        assert (lastmod["last mod user"], lastmod["last mod app"]) == ("annotator", "Neuclease")
        return int(lastmod["mutation id"])

    merged = dvid.json("POST", f"{node}/merge", [a, b, c]).json()["MutationID"]
    model.merge(a, [b, c], merged)
    assert last(a) == merged
    cleaved = dvid.json("POST", f"{node}/cleave/{a}", [b]).json()
    model.cleave(a, [b], cleaved["CleavedLabel"], cleaved["MutationID"])
    assert last(cleaved["CleavedLabel"]) == last(a) == cleaved["MutationID"]
    dvid.json("POST", f"{node}/renumber", [90_000, d])
    model.renumber(90_000, d)
    mask = (volume == e) & (np.indices(SHAPE)[2] % 16 < 9)
    split = dvid.ok("POST", f"{node}/split-supervoxel/{e}", rle_payload(mask)).json()
    new, rest = split["SplitSupervoxel"], split["RemainSupervoxel"]
    model.volume[volume == e] = rest
    model.volume[mask] = new
    model.bodies[e] = {new, rest}
    model.mapping |= {e: 0, new: e, rest: e}
    labels = list(model.bodies)
    sizes = dvid.json("GET", f"{node}/sizes", labels).json()
    assert sizes == [model.size(label) for label in labels]
    asked = [*oracle.sizes(volume), new, rest, 90_000, cleaved["CleavedLabel"], 31]
    for nolookup in ({}, {"nolookup": "true"}):
        got = dvid.json("GET", f"{node}/mapping", asked, **nolookup).json()
        assert got == [model.mapped(sv, not nolookup) for sv in asked]
    pairs = np.frombuffer(dvid.ok("GET", f"{node}/mappings", format="binary").content, "<u8")
    entries = {sv: body for sv, body in model.mapping.items() if sv != body}
    assert dict(pairs.reshape(-1, 2).tolist()) == entries
    text = dvid.ok("GET", f"{node}/mappings").content.decode()
    assert {int(sv): int(body) for sv, body in map(str.split, text.splitlines())} == entries
    content = dvid.ok("GET", f"{node}/blocks/{boxed(WHOLE)}", compression="blocks").content
    assert np.array_equal(inflated(content, WHOLE), model.as_bodies())
    for scale, truth in enumerate(pyramid(model.volume, 2)):
        box = ((0, 0, 0), truth.shape)
        content = dvid.ok(
            "GET", f"{node}/blocks/{boxed(box)}", compression="blocks", scale=scale,
            supervoxels="true",
        ).content  # fmt: skip
        assert np.array_equal(inflated(content, box), truth)
    records = mutation_records(dvid, node)
    assert [record["Action"] for record in records] == [
        "merge-complete", "cleave-complete", "renumber-complete", "split-supervoxel-complete",
    ]  # fmt: skip
    assert {record["User"] for record in records} == {"annotator"}
    one, two, three, four = records
    assert (one["Target"], sorted(one["Labels"]), one["MutationID"]) == (a, sorted([b, c]), merged)
    assert (two["OrigLabel"], two["CleavedLabel"]) == (a, cleaved["CleavedLabel"])
    assert two["CleavedSupervoxels"] == [b]
    assert (three["OrigLabel"], three["NewLabel"]) == (d, 90_000)
    assert (four["Supervoxel"], four["Body"]) == (e, e)
    assert (four["SplitSupervoxel"], four["RemainSupervoxel"]) == (new, rest)
    assert mutation_records(dvid, node, userid="annotator") == records
    assert mutation_records(dvid, node, userid="somebody") == []
    uuid = node.split("/")[3]
    splits = dvid.ok("GET", f"{node}/supervoxel-splits").json()
    assert splits == [uuid, [[split["MutationID"], e, rest, new]]]
    history = dvid.ok("GET", f"{node}/history/{a}/{uuid}/{uuid}").json()
    assert [record["Action"].removesuffix("-complete") for record in history] == ["merge", "cleave"]
    assert [record["MutationID"] for record in history] == [merged, cleaved["MutationID"]]


def test_explicit_ids_of_a_split_and_refused_edits(
    dvid: Session, node: str, volume: Volume
) -> None:
    sv = next(iter(oracle.sizes(volume)))
    mask = (volume == sv) & (np.indices(SHAPE)[0] % 2 == 0)
    ids = {"split": "70001", "remain": "70002", "downres": "false"}
    split = dvid.ok("POST", f"{node}/split-supervoxel/{sv}", rle_payload(mask), **ids).json()
    assert (split["SplitSupervoxel"], split["RemainSupervoxel"]) == (70_001, 70_002)
    sizes = dvid.json("GET", f"{node}/sizes", [70_001, 70_002, sv], supervoxels="true").json()
    assert sizes == [int(mask.sum()), int((volume == sv).sum() - mask.sum()), 0]
    for path, body in (
        ("merge", [sv]),
        ("merge", [sv, 4]),
        (f"cleave/{sv}", [4]),
        ("merge", [4, sv]),
    ):
        reply = dvid.send("POST", f"{node}/{path}", json.dumps(body).encode())
        assert reply.status == 400
        assert reply.content.endswith(b").\n")
    assert len(mutation_records(dvid, node)) == 1


def test_mappings_in_batches_and_indices_copied_to_another_instance(
    dvid: Session, node: str, volume: Volume
) -> None:
    svs = sorted(oracle.sizes(volume))
    dvid.json("POST", f"{node}/merge", svs[:4])
    dvid.json("POST", f"{node}/merge", svs[4:6])
    bodies = [svs[0], svs[4], *svs[6:]]
    fetched = messages_pb2.LabelIndices.FromString(
        dvid.json("GET", f"{node}/indices", [*bodies, 4]).content
    )
    sets = {body: [body] for body in bodies} | {svs[0]: svs[:4], svs[4]: svs[4:6], 4: []}
    assert [index.label for index in fetched.indices] == [*bodies, 4]
    for index in fetched.indices:
        assert blocks_of(index) == block_counts(volume, sets[index.label])
    single = messages_pb2.LabelIndex.FromString(dvid.ok("GET", f"{node}/index/{svs[0]}").content)
    assert single == fetched.indices[0]
    assert dvid.send("GET", f"{node}/index/4").status == 404

    copy = create(dvid, node.split("/")[3], "copy")
    for scale, voxels in enumerate(pyramid(volume, 2)):
        dvid.ok("POST", f"{copy}/ingest-supervoxels", block_stream(voxels), scale=str(scale))
    del fetched.indices[-1]
    dvid.ok("POST", f"{copy}/indices", fetched.SerializeToString())
    for batch in ((svs[0], svs[1:4]), (svs[4], svs[5:6])):
        ops = messages_pb2.MappingOps()
        ops.mappings.add(mutid=17, mapped=batch[0], original=batch[1])
        dvid.ok("POST", f"{copy}/mappings", ops.SerializeToString())
    for what in ("mappings?format=binary", "listlabels?sizes=true"):
        assert dvid.ok("GET", f"{copy}/{what}").content == dvid.ok("GET", f"{node}/{what}").content
    for scale in range(3):
        path = f"blocks/{boxed(((0, 0, 0), (64, 64, 64)))}?scale={scale}&compression=blocks"
        box = ((0, 0, 0), (64, 64, 64))
        one, two = (inflated(dvid.ok("GET", f"{at}/{path}").content, box) for at in (node, copy))
        assert np.array_equal(one, two)
    gone = messages_pb2.LabelIndices()
    gone.indices.add(label=bodies[-1])
    dvid.ok("POST", f"{copy}/indices", gone.SerializeToString())
    assert dvid.send("GET", f"{copy}/index/{bodies[-1]}").status == 404
    whole = index_of(volume, bodies[-1], [bodies[-1]], last_mod_user="annotator")
    dvid.ok("POST", f"{copy}/index/{bodies[-1]}", whole.SerializeToString())
    again = messages_pb2.LabelIndex.FromString(dvid.ok("GET", f"{copy}/index/{bodies[-1]}").content)
    assert blocks_of(again) == blocks_of(whole)


def ranges_of(mask: Volume) -> list[list[int]]:
    """Runs of blocks along X, as neuclease makes them of a mask of blocks: z, y, x0, x1."""
    found = []
    for z, y in np.ndindex(mask.shape[:2]):
        edges = np.flatnonzero(np.diff(np.pad(mask[z, y].astype(int), 1)))
        found += [[z, y, int(a), int(b) - 1] for a, b in edges.reshape(-1, 2)]
    return found


def test_regions_are_posted_as_ranges_and_mask_the_segmentation(
    dvid: Session, node: str, volume: Volume
) -> None:
    uuid = node.split("/")[3]
    settings = {"dataname": "EB", "typename": "roi", "BlockSize": "64,64,64"}
    dvid.json("POST", f"/api/repo/{uuid}/instance", settings)
    mask = np.array([[[True, False]], [[False, True]]])
    dvid.json("POST", f"/api/node/{uuid}/EB/roi", ranges_of(mask))
    ranges = np.array(dvid.ok("GET", f"/api/node/{uuid}/EB/roi").json(), np.int32)
    assert ranges.tolist() == [[0, 0, 0, 0], [1, 0, 1, 1]]
    inside = mask.repeat(64, 0).repeat(64, 1).repeat(64, 2)
    path = f"{node}/raw/0_1_2/{boxed(WHOLE)}"
    content = dvid.ok("GET", path, roi="EB", compression="lz4").content
    got = oracle.unpacked(content, "lz4", SHAPE)
    assert np.array_equal(got, np.where(inside, volume, 0))


def test_counts_of_synapses_by_body_are_ranked_and_paged(
    dvid: Session, node: str, volume: Volume
) -> None:
    uuid = node.split("/")[3]
    for name, typename in (("synapses", "annotation"), ("synapses_labelsz", "labelsz")):
        settings = {"dataname": name, "typename": typename}
        dvid.json("POST", f"/api/repo/{uuid}/instance", settings)
    counts = f"/api/node/{uuid}/synapses_labelsz"
    dvid.json("POST", f"/api/node/{uuid}/synapses/sync", {"sync": "segmentation"})
    rng = np.random.default_rng(5)
    points = np.unique(rng.integers(0, SHAPE, (500, 3)), axis=0)
    kinds = rng.choice(["PreSyn", "PostSyn"], len(points))
    elements = [
        {"Pos": point[::-1].tolist(), "Kind": str(kind), "Tags": [], "Prop": {"conf": "0.9"}}
        for point, kind in zip(points, kinds, strict=True)
    ]
    dvid.json("POST", f"/api/node/{uuid}/synapses/elements", elements)
    dvid.json("POST", f"{counts}/sync", {"sync": "synapses"})
    dvid.ok("POST", f"{counts}/reload")
    for kind in ("PreSyn", "PostSyn", "AllSyn"):
        chosen = points if kind == "AllSyn" else points[kinds == kind]
        labels, sizes = np.unique(volume[tuple(chosen.T)], return_counts=True)
        expected = {int(b): int(n) for b, n in zip(labels, sizes, strict=True) if b}
        asked = [*expected, 424242]
        got = dvid.json("GET", f"{counts}/counts/{kind}", asked).json()
        assert got == [{"Label": body, kind: expected.get(body, 0)} for body in asked]
        ranked = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
        pages = []
        while len(pages) < len(ranked):
            path = f"{counts}/threshold/1/{kind}"
            pages += dvid.ok("GET", path, offset=len(pages), n=7).json()
        assert [(page["Label"], page["Size"]) for page in pages] == ranked
        top = dvid.ok("GET", f"{counts}/top/3/{kind}").json()
        assert [(one["Label"], one["Size"]) for one in top] == ranked[:3]
        one = dvid.ok("GET", f"{counts}/count/{ranked[0][0]}/{kind}").json()
        assert one[kind] == ranked[0][1]
