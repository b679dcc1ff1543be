"""tarsupervoxels: blobs of supervoxels, and of bodies as a labelmap has them at each version."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.tarsupervoxels.touched import TABLES
from dvid_es.settings import Settings
from tests.conftest import Live
from tests.datatypes.labelarray.label_model import check_rebuilt

NODE = "/api/node"
COUNT = 12
INLINE = 1800


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def files_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return {one.name: found.extractfile(one).read() for one in found}  # type: ignore[union-attr]


def slabs() -> bytes:
    """Labels 1 to COUNT, each four voxels thick."""
    return np.repeat(np.arange(64, dtype=np.uint64) // 4 % COUNT + 1, 64 * 64).tobytes()


def made(live: Live, extension: str = "drc") -> str:
    """Root of a repository with a labelmap and its meshes."""
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", MaxDownresLevel="0")
    live.ok("POST", f"{NODE}/{root}/seg/raw/0_1_2/64_64_64/0_0_0", slabs())
    live.new_instance(root, "tarsupervoxels", "meshes", Extension=extension)
    live.ok("POST", f"{NODE}/{root}/meshes/sync", json_body={"sync": "seg"})
    return root


class Walk:
    """Random blobs, deletions, merges, cleaves and versions, beside what must come of them."""

    def __init__(self, live: Live, seed: int) -> None:
        self.live = live
        self.dice = random.Random(seed)
        self.root = made(live)
        self.bodies = {self.root: {n: {n} for n in range(1, COUNT + 1)}}
        self.open = [self.root]
        self.blobs: dict[int, bytes] = {}

    def step(self) -> None:
        uuid = self.dice.choice(self.open)
        kinds = [self.post, self.load, self.load, self.delete, self.merge, self.merge, self.cleave]
        self.dice.choice([*kinds, self.version])(uuid)

    def one(self) -> int:
        return self.dice.randrange(1, COUNT + 1)

    def blob(self) -> bytes:
        return self.dice.randbytes(self.dice.choice((0, 7, INLINE, INLINE + 1, 9000)))

    def post(self, uuid: str) -> None:
        supervoxel, blob = self.one(), self.blob()
        self.live.ok("POST", f"{NODE}/{uuid}/meshes/supervoxel/{supervoxel}", blob)
        self.blobs[supervoxel] = blob

    def load(self, uuid: str) -> None:
        new = {self.one(): self.blob() for _ in range(4)}
        files = {f"{supervoxel}.drc": blob for supervoxel, blob in new.items()}
        self.live.ok("POST", f"{NODE}/{uuid}/meshes/load", archive(files))
        self.blobs |= new

    def delete(self, uuid: str) -> None:
        supervoxel = self.one()
        self.live.ok("DELETE", f"{NODE}/{uuid}/meshes/supervoxel/{supervoxel}")
        self.blobs.pop(supervoxel, None)

    def merge(self, uuid: str) -> None:
        bodies = self.bodies[uuid]
        if len(bodies) > 1:
            target, other = self.dice.sample(sorted(bodies), 2)
            self.live.ok("POST", f"{NODE}/{uuid}/seg/merge", json_body=[target, other])
            bodies[target] = bodies[target] | bodies.pop(other)

    def cleave(self, uuid: str) -> None:
        bodies = self.bodies[uuid]
        large = [label for label, svs in sorted(bodies.items()) if len(svs) > 1]
        if large:
            label = self.dice.choice(large)
            some = set(self.dice.sample(sorted(bodies[label]), 1))
            answer = self.live.ok(
                "POST", f"{NODE}/{uuid}/seg/cleave/{label}", json_body=sorted(some)
            )
            bodies[label] = bodies[label] - some
            bodies[answer.json()["CleavedLabel"]] = some

    def version(self, uuid: str) -> None:
        if len(self.bodies) < 4:
            self.live.commit(uuid)
            self.open.remove(uuid)
            for number in range(2):
                body = {"branch": f"b{len(self.bodies)}-{number}"}
                answer = self.live.ok("POST", f"{NODE}/{uuid}/branch", json_body=body).json()
                self.bodies[answer["child"]] = dict(self.bodies[uuid])
                self.open.append(answer["child"])

    def check(self) -> None:
        for uuid, bodies in self.bodies.items():
            node = f"{NODE}/{uuid}/meshes"
            asked = [*range(1, COUNT + 3), 3]
            answer = self.live.ok("GET", f"{node}/exists", json_body=asked)
            assert answer.json() == [one in self.blobs for one in asked]
            for supervoxel in range(1, COUNT + 1):
                answer = self.live.call("GET", f"{node}/supervoxel/{supervoxel}")
                found = answer.body if answer.status == 200 else None
                assert found == self.blobs.get(supervoxel)
            for label in range(1, max(bodies) + 2):
                self.check_body(node, label, bodies.get(label))

    def check_body(self, node: str, label: int, supervoxels: set[int] | None) -> None:
        call = self.live.call
        if supervoxels is None:
            for method, path in (("GET", "tarfile"), ("HEAD", "tarfile"), ("GET", "missing")):
                assert call(method, f"{node}/{path}/{label}").status == 400
            return
        missing = sorted(supervoxels - self.blobs.keys())
        assert call("GET", f"{node}/missing/{label}").json() == missing
        assert call("HEAD", f"{node}/tarfile/{label}").status == (400 if missing else 200)
        answer = call("GET", f"{node}/tarfile/{label}")
        assert answer.headers["content-type"] == "application/tar"
        found = files_of(answer.body)
        wanted = {
            f"{one}.drc" if one in self.blobs else f"{one}.missing": self.blobs.get(one, b"")
            for one in sorted(supervoxels)
        }
        assert list(found.items()) == list(wanted.items())


@pytest.mark.parametrize("seed", [1, 2])
def test_every_read_follows_random_edits_over_versions(
    live: Live, seed: int, tmp_path: Path
) -> None:
    walk = Walk(live, seed)
    for number in range(60):
        walk.step()
        if number % 20 == 19:
            walk.check()
    assert len(walk.bodies) > 1
    check_rebuilt(live, tmp_path)


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = tmp_path_factory.mktemp("tarsupervoxels") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture(scope="module")
def meshes(server: Live) -> str:
    return f"{NODE}/{made(server)}/meshes"


def test_many_and_large_blobs_come_as_they_were_sent(server: Live, meshes: str) -> None:
    dice = random.Random(3)
    files = {f"{number}.drc": dice.randbytes(700_000) for number in range(1, COUNT)}
    files |= {f"{number}.drc": b"%d" % number for number in range(1000, 4000)}
    server.ok("POST", f"{meshes}/load", archive(files))
    for number in (1, 5, 11, 1000, 2500, 3999):
        answer = server.ok("GET", f"{meshes}/supervoxel/{number}")
        assert answer.body == files[f"{number}.drc"]
        assert answer.headers["content-type"] == "application/octet-stream"
    seg = meshes.replace("meshes", "seg")
    server.ok("POST", f"{seg}/merge", json_body=list(range(1, COUNT)))
    found = files_of(server.ok("GET", f"{meshes}/tarfile/1").body)
    assert found == {f"{number}.drc": files[f"{number}.drc"] for number in range(1, COUNT)}


def test_earlier_moments_show_earlier_blobs_and_bodies(server: Live) -> None:
    meshes = f"{NODE}/{made(server)}/meshes"
    server.ok("POST", f"{meshes}/supervoxel/1", b"old")
    then = server.ok("GET", f"{meshes}/supervoxel/1").headers["x-dvid-es-seq"]
    server.ok("POST", f"{meshes.replace('meshes', 'seg')}/merge", json_body=[1, 2])
    server.ok("POST", f"{meshes}/supervoxel/1", b"new")
    server.ok("DELETE", f"{meshes}/supervoxel/1")
    assert server.call("GET", f"{meshes}/supervoxel/1").status == 404
    assert server.ok("GET", f"{meshes}/supervoxel/1", at=then).body == b"old"
    assert files_of(server.ok("GET", f"{meshes}/tarfile/1", at=then).body) == {"1.drc": b"old"}
    assert server.ok("GET", f"{meshes}/missing/1").json() == [1, 2]
    assert server.ok("GET", f"{meshes}/missing/1", at=then).json() == []


def test_another_extension_hides_blobs_until_it_is_set_back(server: Live) -> None:
    meshes = f"{NODE}/{made(server)}/meshes"
    server.ok("POST", f"{meshes}/supervoxel/1", b"a draco")
    answer = server.ok(
        "POST", f"{meshes}/info", json_body={"Extension": "obj", "Compression": "none"}
    )
    assert answer.text == (
        "Changed 'meshes' based on received configuration:\n{map[compression:none extension:obj]}\n"
    )
    info = server.ok("GET", f"{meshes}/info").json()
    assert info["Extended"] == {"Extension": "obj"}
    assert info["Base"]["Compression"] == "No compression, level -1"
    assert server.call("GET", f"{meshes}/supervoxel/1").status == 404
    server.ok("POST", f"{meshes}/load", archive({"1.obj": b"an obj"}))
    assert files_of(server.ok("GET", f"{meshes}/tarfile/1").body) == {"1.obj": b"an obj"}
    server.ok("POST", f"{meshes}/info", json_body={"extension": "drc"})
    assert server.ok("GET", f"{meshes}/supervoxel/1").body == b"a draco"
    assert server.ok("POST", f"{meshes}/info", b"").text.endswith("{map[]}\n")


def test_blobs_of_a_labelmap_without_versions_and_of_other_partners(server: Live) -> None:
    root = server.new_repo()
    server.new_instance(root, "labelmap", "seg", MaxDownresLevel="0", versioned="false")
    server.new_instance(root, "keyvalue", "kv")
    meshes = server.new_instance(root, "tarsupervoxels", "meshes", Extension="")
    server.ok("POST", f"{meshes}/sync", json_body={"sync": "kv"})
    refused = server.call("GET", f"{meshes}/missing/1")
    assert (refused.status, "not synced" in refused.text) == (400, True)
    server.ok("POST", f"{meshes}/sync", json_body={"sync": "seg"})
    server.commit(root)
    child = server.new_version(root)
    server.ok("POST", f"{NODE}/{child}/seg/raw/0_1_2/64_64_64/0_0_0", slabs())
    server.ok("POST", f"{NODE}/{child}/meshes/supervoxel/3", b"three")
    assert files_of(server.ok("GET", f"{meshes}/tarfile/3").body) == {"3.": b"three"}
    gone = f"/api/repo/{root}/seg"
    server.ok("DELETE", gone, imsure="true", admintoken="secret")
    assert server.call("GET", f"{meshes}/tarfile/3").status == 400


def test_merged_versions_see_the_same_blobs_and_never_disagree(server: Live) -> None:
    root = made(server)
    server.commit(root)
    branches = []
    for name in ("a", "b"):
        answer = server.ok("POST", f"{NODE}/{root}/branch", json_body={"branch": name}).json()
        server.ok("POST", f"{NODE}/{answer['child']}/meshes/supervoxel/1", name.encode())
        server.commit(answer["child"])
        branches.append(answer["child"])
    body = {"mergeType": "conflict-free", "parents": branches, "note": ""}
    merged = server.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()
    assert "conflicts" not in merged
    assert server.ok("GET", f"{NODE}/{merged['child']}/meshes/supervoxel/1").body == b"b"
    body = {"data": ["meshes"], "parents": branches, "note": ""}
    assert server.call("POST", f"/api/repo/{root}/resolve", json_body=body).status == 200


BAD: list[tuple[str, str, bytes | None]] = [
    ("POST", "supervoxel/0", b"x"), ("POST", "supervoxel/x", b"x"), ("POST", "supervoxel", b"x"),
    ("POST", "supervoxel/18446744073709551616", b"x"), ("POST", "supervoxel/-1", b"x"),
    ("PUT", "supervoxel/1", b"x"), ("HEAD", "supervoxel/1", None), ("DELETE", "supervoxel/0", None),
    ("DELETE", "supervoxel/1_0", None), ("PUT", "load", b""), ("GET", "load", None),
    ("POST", "load", b"no tar"), ("POST", "load", b"x" * 2000),
    ("POST", "load", archive({"5.drc": b"good", "6.obj": b"bad"})),
    ("POST", "load", archive({"5.drc": b"good", "0.drc": b"bad"})),
    ("POST", "load", archive({"5.drc": b"good", "./6.drc": b"bad"})),
    ("POST", "load", archive({"5.drc": b"good", "99999999999999999999.drc": b"bad"})),
    ("POST", "load", archive({"5.drc": b"good", "6.drc": b"x" * 3000})[:3000]),
    ("GET", "exists", b""), ("GET", "exists", b"[1,"), ("GET", "exists", b"{}"),
    ("GET", "exists", b"[1.0]"), ("GET", "exists", b"[-1]"), ("GET", "exists?hash=00", b"[1]"),
    ("POST", "exists", b"[1]"), ("GET", "tarfile", None), ("GET", "tarfile/0", None),
    ("GET", "tarfile/x", None), ("POST", "tarfile/1", b""), ("GET", "missing/0", None),
    ("GET", "missing", None), ("POST", "info", b"[]"), ("POST", "info", b'{"Extension":3}'),
    ("POST", "info", b'{"Extension":"a/b"}'), ("POST", "info", b'{"Compression":"zip"}'),
    ("POST", "info", json.dumps({"Extension": "x" * 256}).encode()),
    ("POST", "sync", b'{"sync":"meshes"}'), ("POST", "sync", b'{"sync":"none"}'),
    ("POST", "sync", b"{}"), ("GET", "nothing", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), BAD)
def test_bad_requests_change_nothing(
    server: Live, meshes: str, method: str, path: str, body: bytes | None
) -> None:
    before = sequence(server, meshes)
    answer = server.call(method, f"{meshes}/{path}", body)
    assert answer.status == 400, answer
    assert sequence(server, meshes) == before


def sequence(server: Live, meshes: str) -> str:
    return server.ok("GET", f"{meshes}/info").headers["x-dvid-es-seq"]


def test_locked_versions_take_no_blobs_and_give_them(server: Live) -> None:
    root = made(server)
    meshes = f"{NODE}/{root}/meshes"
    server.ok("POST", f"{meshes}/supervoxel/1", b"x")
    server.commit(root)
    before = sequence(server, meshes)
    for method, path, body in (
        ("POST", "supervoxel/1", b"y"), ("DELETE", "supervoxel/1", None),
        ("POST", "load", archive({"1.drc": b"y"})), ("POST", "info", b'{"Extension":"obj"}'),
    ):  # fmt: skip
        assert server.call(method, f"{meshes}/{path}", body).status == 400
    assert sequence(server, meshes) == before
    assert server.ok("GET", f"{meshes}/supervoxel/1").body == b"x"
    server.ok("POST", f"{meshes}/supervoxel/1", b"z", admintoken="secret")


def test_an_extension_is_needed_and_must_fit_into_a_file_name(server: Live) -> None:
    root = server.new_repo()
    for config in ({}, {"Extension": "a/b"}, {"Extension": "ä" * 128}, {"Extension": 3}):
        body = {"typename": "tarsupervoxels", "dataname": "bad", **config}
        answer = server.call("POST", f"/api/repo/{root}/instance", json_body=body)
        assert answer.status == 400


def test_deleting_what_is_not_there_writes_nothing(server: Live, meshes: str) -> None:
    before = sequence(server, meshes)
    server.ok("DELETE", f"{meshes}/supervoxel/77")
    server.ok("POST", f"{meshes}/load", archive({}))
    server.ok("POST", f"{meshes}/info", json_body={"Extension": "drc"})
    assert sequence(server, meshes) == before


def test_the_hash_of_a_list_is_checked(server: Live, meshes: str) -> None:
    body = b"[1, 77]"
    digest = hashlib.md5(body).hexdigest()
    assert server.ok("GET", f"{meshes}/exists", body, hash=digest).json()[1] is False
    assert server.ok("GET", f"{meshes}/exists", b"null").json() == []


def test_the_feed_and_tables_tell_of_supervoxels(server: Live) -> None:
    root = made(server)
    meshes = f"{NODE}/{root}/meshes"
    server.ok("POST", f"{meshes}/load", archive({"7.drc": b"seven", "9.drc": b"x" * 5000}))
    server.ok("DELETE", f"{meshes}/supervoxel/7")
    path = f"/api/repo/{root}/events?type=tarsupervoxels.put,tarsupervoxels.deleted"
    lines = server.ok("GET", path, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    told = [json.loads(line) for line in lines if line]
    assert [(one["type"], one["labels"]) for one in told] == [
        ("tarsupervoxels.put", {"stored": [7, 9]}),
        ("tarsupervoxels.deleted", {"deleted": [7]}),
    ]
    engine = server.engine
    stream, repo, _ = engine.resolve(root)
    with engine.store.read(root, stream.packs) as txn:
        instance = repo.names["meshes"]
        (page,) = TABLES["blobs"].read(txn, instance, txn.view(1))
        assert [part.tolist() for part in page] == [[9], [5000]]
