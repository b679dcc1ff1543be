from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.replay.verify import verify
from dvid_es.settings import Settings
from tests.datatypes.labelmap.body_model import mapping_ops
from tests.datatypes.labelmap.edit_walk import Walk


@pytest.fixture
def served(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "served", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


def lineage(walk: Walk, uuid: str, label: int, **query: Any) -> Any:
    return walk.live.call("GET", f"{walk.node(uuid)}/lineage/{label}", **query)


def check_lineages(walk: Walk) -> None:
    for uuid, model in walk.models.items():
        truth = walk.lineages[uuid]
        for label in sorted(walk.ids | model.mapping.keys() | model.bodies.keys()):
            for supervoxels, expected in (
                (False, truth.of_body(label)),
                (True, truth.of_supervoxel(label)),
            ):
                query = {"supervoxels": "true"} if supervoxels else {}
                answer = lineage(walk, uuid, label, **query)
                if not expected:
                    assert answer.status == 404
                    continue
                found = [one["Sequence"] for one in answer.json()["mutations"]]
                assert found == sorted(expected, reverse=True), (label, supervoxels)
                assert answer.json()["next"] is None
                if not supervoxels:
                    assert answer.json()["exists"] == (label in model.bodies)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_lineages_are_those_of_a_model_after_random_edits_over_branches(
    served: Any, seed: int, tmp_path: Path
) -> None:
    walk = Walk(served, seed)
    walk.run(60)
    assert len(walk.models) > 2
    check_lineages(walk)
    engine = served.engine
    report = verify(
        engine.store, engine.streams.all(), engine.projector, row_kinds(), tmp_path / "scratch"
    )
    assert report.differences == []


def test_a_mutation_of_a_lineage_says_who_did_what_and_when(served: Any) -> None:
    walk = Walk(served, 7)
    node = walk.node(walk.root)
    query = {"u": "ana", "app": "neu3"}
    merged = served.ok("POST", f"{node}/merge", json_body=[1, 2, 3], **query).json()
    cleaved = served.ok("POST", f"{node}/cleave/1", json_body=[3, 2]).json()
    new = cleaved["CleavedLabel"]
    answer = lineage(walk, walk.root, new).json()
    assert {name: answer[name] for name in ("label", "supervoxel", "version", "exists")} == {
        "label": new, "supervoxel": False, "version": walk.root, "exists": True,
    }  # fmt: skip
    cleave, merge, write = answer["mutations"]
    records = served.ok("GET", f"{node}/mutations").json()
    for found, record, action in (
        (merge, records[0], "merge"),
        (cleave, records[1], "cleave"),
    ):
        assert found == {**record, "Action": action, "Sequence": found["Sequence"]}
    assert (merge["User"], merge["App"]) == ("ana", "neu3")
    assert merge["MutationID"] == merged["MutationID"]
    assert "User" not in cleave
    assert write["Action"] == "voxels"
    assert write["MutationID"] == 1_000_000_000
    assert write["UUID"] == walk.root


def test_a_lineage_comes_in_pages(served: Any) -> None:
    walk = Walk(served, 8)
    node = walk.node(walk.root)
    for body in (2, 3, 4, 6, 7):
        served.ok("POST", f"{node}/merge", json_body=[1, body])
    whole = lineage(walk, walk.root, 1).json()["mutations"]
    assert len(whole) == 6
    pages, before = [], None
    while True:
        query = {"limit": 4} if before is None else {"limit": 4, "before": before}
        page = lineage(walk, walk.root, 1, **query).json()
        pages.append(page["mutations"])
        before = page["next"]
        if before is None:
            break
    assert [len(page) for page in pages] == [4, 2]
    assert [*pages[0], *pages[1]] == whole
    for query in ({"limit": 0}, {"limit": 10_001}, {"limit": "x"}, {"before": "-1"}):
        assert lineage(walk, walk.root, 1, **query).status == 400
    assert lineage(walk, walk.root, 0).status == 400


def test_a_lineage_at_an_earlier_moment_ends_there(served: Any) -> None:
    walk = Walk(served, 9)
    node = walk.node(walk.root)
    first = served.ok("POST", f"{node}/merge", json_body=[1, 2]).json()["MutationID"]
    then = lineage(walk, walk.root, 1).json()
    served.ok("POST", f"{node}/merge", json_body=[3, 1])
    assert lineage(walk, walk.root, 1, at=first).json() == then
    assert not lineage(walk, walk.root, 1).json()["exists"]


def test_a_supervoxel_knows_the_long_mappings_that_it_was_in(served: Any) -> None:
    walk = Walk(served, 10)
    node = walk.node(walk.root)
    entries = {int(sv): 1 for sv in np.arange(1, mapruns.MIN_ENTRIES + 10)}
    sequences = [
        int(served.ok("POST", f"{node}/{path}", data).headers["x-dvid-es-seq"])
        for path, data in (
            ("mappings", mapping_ops({3: 9})),
            ("mappings", mapping_ops(entries)),
            ("mappings", mapping_ops({4: 9})),
            ("mappings", mapping_ops({3: 8})),
        )
    ]
    for sv, expected in ((3, [3, 1, 0]), (4, [2, 1]), (4000, [1])):
        found = lineage(walk, walk.root, sv, supervoxels="true").json()["mutations"]
        got = [one["Sequence"] for one in found if one["Action"] == "mappings"]
        assert got == [sequences[place] for place in expected]


def test_below_a_version_merge_the_parent_that_changed_a_body_tells_its_lineage(
    served: Any,
) -> None:
    walk = Walk(served, 11)
    served.commit(walk.root)
    sides = [
        served.ok("POST", f"/api/node/{walk.root}/branch", json_body={"branch": name}).json()
        for name in ("left", "right")
    ]
    merges = []
    for side, bodies in zip(sides, ([1, 2], [3, 4]), strict=True):
        made = served.ok("POST", f"{walk.node(side['child'])}/merge", json_body=bodies)
        merges.append(made.json()["MutationID"])
        served.commit(side["child"])
    request = {"mergeType": "conflict-free", "parents": [side["child"] for side in sides]}
    joined = served.ok("POST", f"/api/repo/{walk.root}/merge", json_body=request).json()["child"]
    last = served.ok("POST", f"{walk.node(joined)}/merge", json_body=[1, 3]).json()["MutationID"]
    found = lineage(walk, joined, 1).json()["mutations"]
    assert [one["MutationID"] for one in found] == [last, *merges[::-1], 1_000_000_000]


def test_the_history_of_a_body_is_its_lineage_in_the_log_of_those_versions(served: Any) -> None:
    walk = Walk(served, 12)
    walk.run(40)
    for uuid, model in walk.models.items():
        logged = served.ok("GET", f"{walk.node(uuid)}/mutations-range/{walk.root}/{uuid}").json()
        for body in model.bodies:
            whole = lineage(walk, uuid, body).json()["mutations"][::-1]
            ids = {one["MutationID"] for one in whole} - {0}
            path = f"{walk.node(uuid)}/history/{body}"
            found = served.ok("GET", f"{path}/{walk.root}/{uuid}").json()
            expected = [record for record in logged if record["MutationID"] in ids]
            assert found == sorted(expected, key=lambda record: record["MutationID"])
            own = served.ok("GET", f"{path}/{uuid}/{uuid}").json()
            assert own == [record for record in found if record["UUID"] == uuid]
