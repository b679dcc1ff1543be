"""Merges, cleaves and splits by eight clients at once, over three versions and two branches.

Readers look on. At the end numpy's model, the live projections, fsck and a rebuild say the same, and
undoing everything in reverse order brings the first state back.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dvid_es.bench.volume import Segmentation, load
from dvid_es.codecs.compression import lz4_block_decompress
from tests.datatypes.labelmap.body_model import mapping_ops
from tests.servers import ServerProcess, dvid_es

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "connectomics.npy.ckl.gz"
CLIENTS = 8
READERS = 2
CUBE = 256
REFUSED = 400
"""What an edit hears that came too late: somebody else has changed its bodies."""


class Edit(NamedTuple):
    """One edit as the server acknowledged it."""

    sequence: int
    version: str
    kind: str
    asked: Any
    answer: dict[str, int]


@dataclass
class Model:
    """Which body each supervoxel has at one version, and how supervoxels were split."""

    body_of: dict[int, int]
    members: dict[int, set[int]]
    splits: list[tuple[int, Any, int, int]] = field(default_factory=list)

    def copy(self) -> Model:
        members = {body: set(svs) for body, svs in self.members.items()}
        return Model(dict(self.body_of), members, list(self.splits))

    def move(self, svs: set[int], target: int) -> None:
        for sv in svs:
            old = self.body_of[sv]
            self.members[old].discard(sv)
            if not self.members[old]:
                del self.members[old]
            self.body_of[sv] = target
            self.members.setdefault(target, set()).add(sv)

    def play(self, edit: Edit) -> None:
        if edit.kind == "merge":
            target, *others = edit.asked
            for body in others:
                self.move(set(self.members[body]), target)
        elif edit.kind == "cleave":
            body, svs = edit.asked
            assert set(svs) < self.members[body]
            self.move(set(svs), edit.answer["CleavedLabel"])
        else:
            sv, runs = edit.asked
            body = self.body_of.pop(sv)
            new = edit.answer["SplitSupervoxel"], edit.answer["RemainSupervoxel"]
            self.members[body] = self.members[body] - {sv} | set(new)
            self.body_of |= dict.fromkeys(new, body)
            self.splits.append((sv, runs, *new))

    def voxels(self, supervoxels: Any) -> Any:
        """Return the supervoxels of all voxels after the splits: uint32[Z, Y, X]."""
        volume = supervoxels.astype(np.uint32)
        names = np.arange(max([int(volume.max()), *self.body_of]) + 1, dtype=np.uint32)
        for sv, runs, split, remain in self.splits:
            for x, y, z, length in runs.tolist():
                line = volume[z, y, x : x + length]
                assert (line == sv).all(), "runs of a split lie in its supervoxel"
                line[...] = split
            names[sv] = remain  # never split again here: clients choose among the first supervoxels
        return names[volume]


class Story:
    """One repository, and what was done to it."""

    def __init__(self, server: ServerProcess, truth: Segmentation) -> None:
        self.server, self.truth = server, truth
        self.edits: list[Edit] = []
        self.refused: Counter[str] = Counter()
        self.looks = 0
        self.root = self.json("POST", "/api/repos", {"alias": "day"})["root"]
        settings = {"typename": "labelmap", "dataname": "seg", "MaxDownresLevel": "1"}
        self.json("POST", f"/api/repo/{self.root}/instance", settings)
        owners = dict(enumerate(truth.body_of.tolist()))
        changed = {sv: body for sv, body in owners.items() if sv != body}
        self.ok("POST", f"{self.node(self.root)}/mappings", mapping_ops(changed))
        self.ok("POST", f"{self.node(self.root)}/blocks?downres=true", truth.stream)
        members = {body: set(svs) for body, svs in truth.members.items()}
        body_of = {sv: body for body, svs in members.items() for sv in svs}
        self.models = {self.root: Model(body_of, members)}

    def node(self, version: str) -> str:
        return f"/api/node/{version}/seg"

    def ok(self, method: str, path: str, body: bytes | None = None) -> tuple[bytes, dict[str, str]]:
        status, headers, data = self.server.call(method, path, body)
        assert status == 200, (method, path, status, data[:300])
        return data, headers

    def json(self, method: str, path: str, value: Any = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        return json.loads(self.ok(method, path, body)[0] or b"null")

    def child(self, parent: str, branch: str = "") -> str:
        word, more = ("branch", {"branch": branch}) if branch else ("newversion", {})
        made = self.json("POST", f"/api/node/{parent}/{word}", {"note": "", **more})
        uuid: str = made["child"]
        self.models[uuid] = self.models[parent].copy()
        return uuid

    def commit(self, version: str) -> None:
        self.json("POST", f"/api/node/{version}/commit", {"note": "done"})

    # -- clients ------------------------------------------------------------------------------

    def proofread(self, versions: list[str], edits: int, seed: int) -> None:
        """Edit with all clients at once, then bring the models up to what was acknowledged."""
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS + READERS) as pool:
            readers = [
                pool.submit(
                    self._look_on, versions, np.random.default_rng((seed, 99, number)), stop
                )
                for number in range(READERS)
            ]
            share = edits // CLIENTS
            clients = [
                pool.submit(self._client, versions, share, np.random.default_rng((seed, number)))
                for number in range(CLIENTS)
            ]
            try:
                made = [edit for client in clients for edit in client.result()]
            finally:
                stop.set()
            for reader in readers:
                self.looks += reader.result()
        made.sort()
        assert len({edit.sequence for edit in made}) == len(made) == share * CLIENTS
        for edit in made:
            self.models[edit.version].play(edit)
        self.edits += made

    def _client(self, versions: list[str], edits: int, rng: Any) -> list[Edit]:
        made: list[Edit] = []
        while len(made) < edits:
            version = str(rng.choice(versions))
            kind = str(rng.choice(["merge", "cleave", "split"], p=[0.45, 0.45, 0.1]))
            made += getattr(self, f"_{kind}")(version, rng)
        return made

    def _edit(self, version: str, kind: str, path: str, body: bytes, asked: Any) -> list[Edit]:
        status, headers, data = self.server.call("POST", f"{self.node(version)}/{path}", body)
        if status == REFUSED:
            self.refused[kind] += 1
            return []
        assert status == 200, (path, status, data[:300])
        answer = json.loads(data)
        return [Edit(int(headers["x-dvid-es-seq"]), version, kind, asked, answer)]

    def _bodies(self, version: str, svs: list[int]) -> list[int]:
        found: list[int] = self.json("GET", f"{self.node(version)}/mapping", svs)
        return found

    def _some(self, rng: Any, count: int) -> list[int]:
        chosen: list[int] = rng.choice(self.truth.present, count, replace=False).tolist()
        return chosen

    def _merge(self, version: str, rng: Any) -> list[Edit]:
        bodies = self._bodies(version, self._some(rng, int(rng.integers(2, 5))))
        distinct = [body for body in dict.fromkeys(bodies) if body]
        if len(distinct) < 2:
            return []
        # As proofreaders do: the small ones go to the large one.
        sizes = self.json("GET", f"{self.node(version)}/sizes", distinct)
        order = sorted(range(len(distinct)), key=lambda place: -sizes[place])
        distinct = [distinct[place] for place in order]
        return self._edit(version, "merge", "merge", json.dumps(distinct).encode(), distinct)

    def _cleave(self, version: str, rng: Any) -> list[Edit]:
        body = self._bodies(version, self._some(rng, 1))[0]
        status, _, data = self.server.call("GET", f"{self.node(version)}/supervoxels/{body}")
        svs = json.loads(data) if status == 200 else []
        if len(svs) < 2:
            return []
        most = min(len(svs), 30)
        moved = rng.choice(svs, int(rng.integers(1, most)), replace=False).tolist()
        text = json.dumps(moved).encode()
        return self._edit(version, "cleave", f"cleave/{body}", text, (body, moved))

    def _split(self, version: str, rng: Any) -> list[Edit]:
        sv = self._some(rng, 1)[0]
        path = f"{self.node(version)}/sparsevol/{sv}?supervoxels=true"
        status, _, data = self.server.call("GET", path)
        if status != 200:
            return []  # somebody has split it
        runs = np.frombuffer(data, "<i4", offset=12).reshape(-1, 4)
        runs = runs[: len(runs) // 2]
        if not len(runs):
            return []
        payload = data[:8] + len(runs).to_bytes(4, "little") + runs.tobytes()
        return self._edit(version, "split", f"split-supervoxel/{sv}", payload, (sv, runs))

    def _look_on(self, versions: list[str], rng: Any, stop: threading.Event) -> int:
        """Read as of one sequence while others write: bodies must be supervoxels, mapped."""
        looks = 0
        while not stop.is_set() or not looks:
            node = self.node(str(rng.choice(versions)))
            headers = self.ok("GET", f"{node}/maxlabel")[1]
            at = headers["x-dvid-es-seq"]
            corner = (rng.integers(0, np.array(self.truth.shape_zyx[::-1]) // 64) * 64).tolist()
            box = "raw/0_1_2/64_64_64/" + "_".join(map(str, corner))
            svs = np.frombuffer(self.ok("GET", f"{node}/{box}?supervoxels=true&at={at}")[0], "<u8")
            bodies = np.frombuffer(self.ok("GET", f"{node}/{box}?at={at}")[0], "<u8")
            distinct, places = np.unique(svs, return_inverse=True)
            mapped = self.json("GET", f"{node}/mapping?at={at}", distinct.tolist())
            assert np.array_equal(np.array(mapped, np.uint64)[places], bodies), (node, box, at)
            looks += 1
        return looks

    # -- checks -------------------------------------------------------------------------------

    def check(self, version: str, model: Model) -> None:
        """Compare bodies, their supervoxels and sizes, and every voxel both ways."""
        node = self.node(version)
        volume = model.voxels(self.truth.supervoxels)
        counts = np.bincount(volume.ravel(), minlength=max(model.body_of, default=0) + 1)
        assert set(np.flatnonzero(counts).tolist()) - {0} == set(model.body_of)
        bodies = sorted(model.members)
        assert self.json("GET", f"{node}/existing-labels") == bodies
        sizes = [int(counts[sorted(model.members[body])].sum()) for body in bodies]
        assert self.json("GET", f"{node}/sizes", bodies) == sizes
        several = [body for body in bodies if len(model.members[body]) > 1]
        for body in several[:: max(1, len(several) // 50)]:
            assert set(self.json("GET", f"{node}/supervoxels/{body}")) == model.members[body]
        table = np.zeros(len(counts), np.uint64)
        table[list(model.body_of)] = list(model.body_of.values())
        for start in np.ndindex(*(-(-side // CUBE) for side in volume.shape)):
            part = volume[tuple(slice(CUBE * at, CUBE * at + CUBE) for at in start)]
            size = "_".join(map(str, part.shape[::-1]))
            box = f"raw/0_1_2/{size}/" + "_".join(str(CUBE * at) for at in start[::-1])
            for query, expected in (("supervoxels=true&", part), ("", table[part])):
                data = self.ok("GET", f"{node}/{box}?{query}compression=lz4")[0]
                got = np.frombuffer(lz4_block_decompress(data, 8 * part.size), "<u8")
                assert np.array_equal(got.reshape(part.shape), expected), (version, box, query)


def play(tmp_path: Path, truth: Segmentation, edits: int) -> Story:
    data = tmp_path / "data"
    server = ServerProcess(data)
    try:
        story = Story(server, truth)
        story.commit(story.root)
        first = story.child(story.root)
        side = story.child(story.root, "side")
        story.proofread([first, side], edits // 2, 1)
        story.commit(first)
        second = story.child(first)
        story.proofread([second, side], edits - edits // 2, 2)
        for version in (story.root, first, second, side):
            story.check(version, story.models[version])
            done = dvid_es("fsck", version, "seg", "--deep", "--server", server.url, "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            found = json.loads(done.stdout)
            assert (found["errors"], found["warnings"]) == (0, 0), found["findings"][:5]
        undo_all(story, second, first)
        undo_all(story, side, story.root)
    finally:
        server.stop()
    done = dvid_es("verify", "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout
    return story


def undo_all(story: Story, version: str, like: str) -> None:
    """Undo the edits of an open version, the last one first: it is what its parent was."""
    made = [edit for edit in story.edits if edit.version == version]
    assert made
    for edit in reversed(made):
        story.json("POST", f"{story.node(version)}/undo", {"mutation": edit.answer["MutationID"]})
    story.check(version, story.models[like])


def test_a_small_day_of_proofreading(tmp_path: Path) -> None:
    story = play(tmp_path, load("synthetic", 192), 400)
    kinds = Counter(edit.kind for edit in story.edits)
    assert sum(kinds.values()) == 400
    assert min(kinds[kind] for kind in ("merge", "cleave", "split")) >= 10
    assert story.looks >= READERS


@pytest.mark.skipif(not REAL.exists(), reason="the real segmentation is not beside this checkout")
def test_ten_thousand_edits_of_a_real_segmentation(tmp_path: Path) -> None:
    pytest.importorskip("crackle", reason="crackle-codec reads the file")
    story = play(tmp_path, load(str(REAL), 512), 10_000)
    assert len(story.edits) == 10_000
    assert story.looks >= READERS
