"""Clio's back end and neuclease: requests for annotations and meshes, in the forms that they send."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import messages_pb2 as messages
from tests.clients.wire import Session

HEADERS = {
    "User-Agent": "python-requests/2.32.3", "Accept-Encoding": "gzip, deflate", "Accept": "*/*",
    "Connection": "keep-alive",
}  # fmt: skip


@pytest.fixture
def dvid(live: Any) -> Iterator[Session]:
    with Session(live.port, HEADERS, u="annotator", app="Neuclease") as session:
        yield session


@pytest.fixture
def root(live: Any) -> str:
    found: str = live.new_repo()
    live.new_instance(found, "neuronjson", "segmentation_annotations", versioned="true")
    return found


def test_clio_annotates_the_newest_version_of_the_main_branch(live: Any, root: str) -> None:
    node = f"/api/node/{root}:master/segmentation_annotations"
    with Session(live.port, HEADERS, app="clio", u="who@janelia.org") as clio:
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {}}
        clio.json("POST", "/api/node/:master/segmentation_annotations/json_schema", schema)
        assert clio.ok("GET", f"{node}/json_schema").content == json.dumps(schema).encode()
        value = {"bodyid": 10477, "status": "Anchor", "type": "KCg-m", "group": 10477}
        clio.json("POST", f"{node}/key/10477", value, conditional="status,type")
        value = {"bodyid": 10477, "status": "Traced", "somaSide": "L"}
        clio.json("POST", f"{node}/key/10477", value, conditional="status,type")
        live.commit(root)
        live.new_version(root)
        value = {"bodyid": 10477, "type": "KCab", "group": None}
        clio.json("POST", f"{node}/key/10477", value, replace="false", conditional="")
        found = json.loads(clio.ok("GET", f"{node}/key/10477", show="user").content)
        assert found == {
            "bodyid": 10477, "status": "Anchor", "status_user": "who@janelia.org", "type": "KCab",
            "type_user": "who@janelia.org", "somaSide": "L", "somaSide_user": "who@janelia.org",
            "group_user": "who@janelia.org",
        }  # fmt: skip
        by_ids = clio.json("GET", f"{node}/keyvalues", [10477, 1], json="true", show="all")
        assert list(json.loads(by_ids.content)) == ["10477"]
        query = [{"bodyid": [10477]}, {"type": "re/^KC"}]
        answer = clio.json("POST", f"{node}/query", query, onlyid="false", show="")
        assert [one["bodyid"] for one in json.loads(answer.content)] == [10477]
        whole = clio.ok("GET", f"{node}/all", show="all", fields="type,group")
        (one,) = json.loads(gzip.decompress(whole.content))
        assert sorted(one) == [
            "bodyid", "group_time", "group_user", "type", "type_time", "type_user",
        ]  # fmt: skip
        assert "somaSide" in json.loads(clio.ok("GET", f"{node}/fields").content)
        assert clio.send("GET", f"{node}/key/1").status == 404


def test_neuclease_writes_batches_and_reads_open_ranges(dvid: Session, root: str) -> None:
    node = f"/api/node/{root}/segmentation_annotations"
    assert dvid.ok("GET", f"{node}/keys").content == b"[]"
    message = messages.KeyValues()
    for body in (1000, 200, 30):
        value = json.dumps({"bodyid": body, "status": "Traced"})
        message.kvs.add(key=str(body), value=value.encode())
    dvid.ok("POST", f"{node}/keyvalues", message.SerializeToString(), replace="true")
    assert json.loads(dvid.ok("GET", f"{node}/keyrange/%20/%7F").content) == ["30", "200", "1000"]
    answer = dvid.ok(
        "GET", f"{node}/keyrangevalues/%20/%7F", json="true", check="false", show="all"
    )
    assert [one["status_user"] for one in json.loads(answer.content).values()] == ["annotator"] * 3
    answer = dvid.ok("GET", f"{node}/keyrangevalues/%20/%7F", tar="true")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as found:
        assert found.getnames() == ["30", "200", "1000"]
    asked = messages.Keys(keys=["200", "5"]).SerializeToString()
    answer = dvid.ok("GET", f"{node}/keyvalues", asked)
    pairs = messages.KeyValues.FromString(answer.content).kvs
    assert [(pair.key, len(pair.value) > 0) for pair in pairs] == [("200", True), ("5", False)]
    # curl --data calls a body a form, which it is not.
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = dvid.ok("GET", f"{node}/query", b'{"status": "Traced"}', headers=form, onlyid="true")
    assert answer.content == b"[30,200,1000]"
    dvid.ok("DELETE", f"{node}/key/200")
    assert dvid.send("HEAD", f"{node}/key/200").status == 404
    assert dvid.send("HEAD", f"{node}/key/30").status == 200


def test_neuclease_uploads_meshes_and_fetches_those_of_bodies(live: Any, dvid: Session) -> None:
    root = live.new_repo()
    node = f"/api/node/{root}"
    live.new_instance(root, "labelmap", "segmentation", MaxDownresLevel="0")
    volume = np.repeat(np.arange(1, 65, dtype=np.uint64) // 16 + 100, 64 * 64)
    dvid.ok("POST", f"{node}/segmentation/raw/0_1_2/64_64_64/0_0_0", volume.tobytes())
    settings = {
        "typename": "tarsupervoxels",
        "dataname": "segmentation_sv_meshes",
        "Extension": "drc",
    }
    dvid.json("POST", f"/api/repo/{root}/instance", settings)
    meshes = f"{node}/segmentation_sv_meshes"
    dvid.json("POST", f"{meshes}/sync", {"sync": "segmentation"}, replace="true")
    dvid.json("POST", f"{node}/segmentation/merge", [100, 101, 102])
    buffer = io.BytesIO()
    with tarfile.open(None, "w", buffer) as made:
        for supervoxel in (100, 102, 103):
            entry = tarfile.TarInfo(f"{supervoxel}.drc")
            entry.size = 5000
            entry.mtime = 1.5  # as of a file, which takes an extended header
            made.addfile(entry, io.BytesIO(b"%d" % supervoxel + b"x" * 4997))
    dvid.ok("POST", f"{meshes}/load", buffer.getvalue())
    body = json.dumps([100, 101, 104]).encode()
    digest = hashlib.md5(body).hexdigest()
    assert json.loads(dvid.ok("GET", f"{meshes}/exists", body, hash=digest).content) == [
        True, False, False,
    ]  # fmt: skip
    assert dvid.send("HEAD", f"{meshes}/tarfile/100").status == 400
    assert json.loads(dvid.ok("GET", f"{meshes}/missing/100").content) == [101]
    dvid.ok("POST", f"{meshes}/supervoxel/101", b"101")
    assert dvid.send("HEAD", f"{meshes}/tarfile/100").status == 200
    answer = dvid.ok("GET", f"{meshes}/tarfile/100")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as found:
        sizes = {one.name: one.size for one in found}
    assert sizes == {"100.drc": 5000, "101.drc": 3, "102.drc": 5000}
    assert dvid.send("HEAD", f"{meshes}/tarfile/101").status == 400
