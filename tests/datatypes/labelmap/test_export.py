"""Exports as jobs: TensorStore and pyarrow read the files; interrupted ones are taken up again."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.datatypes.labelmap.export import folders, precomputed, sharding, shards
from dvid_es.datatypes.labelmap.export.source import Source
from dvid_es.datatypes.labelmap.precomputed.volume import Scale
from dvid_es.geometry import Box
from dvid_es.jobs import Job
from dvid_es.logs.disk import DISK, Disk
from dvid_es.settings import Settings
from tests.datatypes.labelmap.export_cases import (
    begin,
    check_volume,
    ended,
    everything,
    finished,
    opened,
    refused,
)
from tests.datatypes.labelmap.voxel_oracle import Segmentation, cells, decoded, joined, packed

SHAPE = (96, 128, 160)
OFFSET = (-32, 0, 64)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    made = cells(SHAPE, 12, 3)
    made[:32, :64, :] = 0
    return made


@pytest.fixture
def seg(live: Any, volume: np.ndarray) -> Segmentation:
    return filled(live, volume)


@pytest.fixture(scope="module")
def still(run_server: Any, tmp_path_factory: Any, volume: np.ndarray) -> Iterator[Segmentation]:
    """A segmentation that no test changes, with its server."""
    with run_server(Settings(data=tmp_path_factory.mktemp("still") / "data")) as live:
        yield filled(live, volume)


def filled(live: Any, volume: np.ndarray) -> Segmentation:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    made = Segmentation(live, root)
    made.post(volume, OFFSET)
    live.ok("POST", f"{made.node}/merge", json_body=[5, 6, 7, 8])
    return made


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "PRESHIFT_BITS", 2)
    monkeypatch.setattr(sharding, "MINISHARD_BITS", 1)


# -- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coords", "code"), [((0, 1, 0), 2), ((2, 0, 1), 12), ((2, 3, 0), 26), ((9, 2, 1), 85)]
)
def test_compressed_morton_codes_of_four_two_and_one_bits(
    coords: tuple[int, ...], code: int
) -> None:
    assert sharding.encode_morton(np.array([coords]), (4, 2, 1)).tolist() == [code]


@given(grid=st.tuples(*[st.integers(1, 40)] * 3))
def test_every_chunk_of_a_grid_has_a_number_of_its_own(grid: tuple[int, int, int]) -> None:
    bits = sharding.bits_of(grid)
    coords = np.indices(grid).reshape(3, -1).T
    codes = sharding.encode_morton(coords, bits)
    assert len(np.unique(codes)) == len(codes)
    assert int(codes.max()) < 1 << sum(bits)
    assert np.array_equal(sharding.decode_morton(codes, bits), coords)
    made = sharding.Sharding.of_grid(grid)
    assert made.preshift + made.minishard + made.shard == sum(bits)
    assert made.files * made.minishards * made.chunks_per_minishard == 1 << sum(bits)


# -- precomputed -----------------------------------------------------------------------------


@pytest.mark.parametrize("supervoxels", [False, True])
@pytest.mark.usefixtures("small_shards")
def test_tensorstore_reads_the_sharded_volume_at_every_scale(
    live: Any, seg: Segmentation, supervoxels: bool
) -> None:
    folder = finished(live, begin(live, seg, "precomputed", supervoxels=supervoxels))
    assert len(list(folder.glob("s0/*.shard"))) > 8
    check_volume(folder, seg, supervoxels="true" if supervoxels else "false")
    part = opened(folder, 0)[-10:90, 33:99, 70:130]
    whole = seg.read((60, 66, 100), (-10, 33, 70), supervoxels="true" if supervoxels else "false")
    assert np.array_equal(everything(part), whole)


def test_one_file_for_a_small_volume_and_only_the_scales_that_were_asked_for(
    live: Any, seg: Segmentation
) -> None:
    folder = finished(live, begin(live, seg, "precomputed", scales=1, folder="some/where"))
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["export.json", "info", "s0/0.shard"]
    assert folder.parts[-3:] == ("exports", "some", "where")
    check_volume(folder, seg, scales=1)


@pytest.mark.usefixtures("small_shards")
def test_files_of_background_only_are_not_made(live: Any, volume: np.ndarray) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    seg = Segmentation(live, root)
    seg.post(np.zeros((64, 64, 128), np.uint64))
    seg.post(volume[:32, :32, :32] + 1, (96, 32, 32))
    folder = finished(live, begin(live, seg, "precomputed"))
    assert len(list(folder.rglob("*.shard"))) == 1
    check_volume(folder, seg, scales=1)


class Gate:
    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, job: Job) -> Mapping[str, Any]:
        self.begun.set()
        assert self.go_on.wait(30)
        return {}


@pytest.mark.parametrize("kind", ["precomputed", "shards"])
def test_an_export_shows_the_moment_of_its_request_whatever_is_written_until_it_runs(
    live: Any, seg: Segmentation, kind: str, volume: np.ndarray
) -> None:
    before = seg.read(SHAPE, OFFSET)
    gate = Gate()
    live.engine.jobs.submit("gate", {}, gate)
    path = begin(live, seg, kind)
    live.ok("POST", f"{seg.node}/merge", json_body=[2, 3])
    seg.post(np.full((32, 32, 32), 4321, np.uint64), (0, 0, 96))
    gate.go_on.set()
    folder = finished(live, path)
    if kind == "precomputed":
        assert np.array_equal(everything(opened(folder, 0)), before)
    else:
        assert np.array_equal(assembled(folder), before)
    assert not np.array_equal(seg.read(SHAPE, OFFSET), before)


def test_an_export_as_of_an_earlier_event(live: Any, seg: Segmentation) -> None:
    before = seg.read(SHAPE, OFFSET)
    sequence = live.ok("GET", f"{seg.node}/extents").headers["x-dvid-es-seq"]
    live.ok("POST", f"{seg.node}/merge", json_body=[2, 3])
    answer = live.call("POST", f"{seg.node}/export/precomputed?at={sequence}")
    folder = finished(live, answer.headers["location"])
    assert np.array_equal(everything(opened(folder, 0)), before)
    assert json.loads((folder / "export.json").read_bytes())["sequence"] == int(sequence)


def test_a_committed_version_can_be_exported(live: Any, seg: Segmentation) -> None:
    live.commit(seg.node.split("/")[3])
    check_volume(finished(live, begin(live, seg, "precomputed")), seg)


def test_below_a_version_merge_what_both_parents_say_is_exported(
    live: Any, seg: Segmentation
) -> None:
    root = seg.node.split("/")[3]
    live.commit(root)
    parents = []
    for name, labels in (("a", [2, 3]), ("b", [9, 10])):
        made = live.ok("POST", f"/api/node/{root}/branch", json_body={"branch": name}).json()
        live.ok("POST", f"/api/node/{made['child']}/seg/merge", json_body=labels)
        live.commit(made["child"])
        parents.append(made["child"])
    body = {"mergeType": "conflict-free", "parents": parents, "note": ""}
    child = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    both = Segmentation(live, child)
    folder = finished(live, begin(live, both, "precomputed"))
    check_volume(folder, both)
    assert not np.isin(everything(opened(folder, 0)), [3, 10]).any()


# -- interrupted -----------------------------------------------------------------------------


def cancelling(
    live: Any, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: int
) -> None:
    """Let the `after`-th call of a function cancel the job that makes it."""
    real: Callable[..., Any] = getattr(module, name)
    calls = [0]

    def counted(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == after:
            (running,) = [job for job in live.engine.jobs.all() if job.state == "running"]
            assert live.call("DELETE", f"/api/server/jobs/{running.id}").status == 200
        return real(*args)

    monkeypatch.setattr(module, name, counted)


@pytest.mark.usefixtures("small_shards")
def test_a_cancelled_export_leaves_whole_files_and_goes_on_as_of_its_first_event(
    live: Any, seg: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seg.read(SHAPE, OFFSET)
    with monkeypatch.context() as patched:
        cancelling(live, patched, precomputed, "gzip_compress", 30)
        first = ended(live, begin(live, seg, "precomputed", folder="x"))
    assert first["state"] == "cancelled"
    assert 0 < first["done"] < first["total"]
    folder = Path(first["about"]["folder"])
    whole = {path: path.stat().st_mtime_ns for path in folder.rglob("*.shard")}
    assert whole
    assert not list(folder.rglob("*.new"))
    assert not (folder / "info").exists()
    assert not json.loads((folder / "export.json").read_bytes())["finished"]
    (folder / "s0" / "rest.shard.new").write_bytes(b"of a process that was killed")
    live.ok("POST", f"{seg.node}/merge", json_body=[2, 3])
    again = begin(live, seg, "precomputed", folder="x")
    assert finished(live, again) == folder
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert np.array_equal(everything(opened(folder, 0)), before)


@pytest.mark.usefixtures("small_shards")
def test_a_cancelled_export_of_shards_goes_on_too(
    live: Any, seg: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        cancelling(live, patched, shards.arrow, "batch_message", 30)
        first = ended(live, begin(live, seg, "shards", folder="x"))
    assert first["state"] == "cancelled"
    folder = Path(first["about"]["folder"])
    assert not list(folder.rglob("*.new"))
    arrows = {path.stem for path in folder.glob("s0/*.arrow")}
    assert arrows
    assert {path.stem for path in folder.glob("s0/*.csv")} == arrows
    finished(live, begin(live, seg, "shards", folder="x"))
    assert np.array_equal(assembled(folder), seg.read(SHAPE, OFFSET))


def test_a_cancelled_grid_leaves_no_file(
    live: Any, seg: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvid_es.datatypes.labelmap.export import bodygrid

    with monkeypatch.context() as patched:
        cancelling(live, patched, bodygrid, "fill", 1)
        job = ended(live, begin(live, seg, "nanovdb", label=5, folder="x"))
    assert job["state"] == "cancelled"
    folder = Path(job["about"]["folder"])
    assert [path.name for path in folder.iterdir()] == ["export.json"]
    finished(live, begin(live, seg, "nanovdb", label=5, folder="x"))


class FullDisk(Disk):
    def __init__(self) -> None:
        self.writes = 20

    def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.ENOSPC, "planted")
        return super().pwritev(fd, buffers, offset)


@pytest.mark.parametrize("kind", ["precomputed", "shards", "nanovdb"])
def test_a_full_disk_fails_the_job_and_leaves_nothing_half_named(
    live: Any, seg: Segmentation, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    body = {"label": 5} if kind == "nanovdb" else {}
    with monkeypatch.context() as patched:
        disk = FullDisk()
        disk.writes = 4 if kind == "nanovdb" else 20
        patched.setattr(folders, "DISK", disk)
        job = ended(live, begin(live, seg, kind, folder="x", **body))
    assert job["state"] == "failed"
    assert "no space" in job["error"]
    folder = Path(job["about"]["folder"])
    assert not list(folder.rglob("*.new"))
    assert not (folder / "info").exists()
    live.ok("POST", f"{seg.node}/merge", json_body=[2, 3])
    finished(live, begin(live, seg, kind, folder="x", **body))
    assert folders.DISK is DISK


def test_an_export_leaves_as_much_free_as_the_setting_says(tmp_path: Path, run_server: Any) -> None:
    given = Settings(data=tmp_path / "data", export_keep_free_bytes=1 << 60)
    with run_server(given) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
        seg = Segmentation(live, root)
        seg.post(cells((32, 32, 32), 3, 1))
        job = ended(live, begin(live, seg, "precomputed"))
        assert job["state"] == "failed"
        assert "exportKeepFreeBytes" in job["error"]
        assert not list(Path(job["about"]["folder"]).iterdir())


def test_an_instance_that_is_deleted_meanwhile_fails_the_job(live: Any, seg: Segmentation) -> None:
    gate = Gate()
    live.engine.jobs.submit("gate", {}, gate)
    path = begin(live, seg, "precomputed")
    root = seg.node.split("/")[3]
    live.ok("DELETE", f"/api/repo/{root}/seg?imsure=true&admintoken=secret")
    gate.go_on.set()
    job = ended(live, path)
    assert job["state"] == "failed"
    assert "deleted" in job["error"]


# -- where -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    ["", "..", "../x", "a/../../x", "/tmp/x", "a//b", ".hidden", "a/.b", "x.new", "a b", "a\n",
     "a\0b", "x" * 200, "a/b/c/d/e/f/g/h/i", 7, None, ["x"]],
)  # fmt: skip
def test_a_folder_that_could_lie_outside_of_the_root_is_refused(
    still: Segmentation, folder: Any
) -> None:
    refused(still, "precomputed", {"folder": folder})


def test_a_link_that_leads_out_of_the_root_is_refused(
    live: Any, seg: Segmentation, settings: Settings, tmp_path: Path
) -> None:
    (settings.data / "exports").mkdir()
    (tmp_path / "outside").mkdir()
    (settings.data / "exports" / "link").symlink_to(tmp_path / "outside")
    for name in ("link", "link/x"):
        answer = live.call("POST", f"{seg.node}/export/precomputed", json_body={"folder": name})
        assert answer.status == 400
    assert not list((tmp_path / "outside").iterdir())


def test_the_root_is_a_setting(tmp_path: Path, run_server: Any) -> None:
    with run_server(Settings(data=tmp_path / "data", export_root=tmp_path / "big")) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
        seg = Segmentation(live, root)
        seg.post(cells((32, 32, 32), 3, 1))
        folder = finished(live, begin(live, seg, "precomputed", folder="x"))
        assert folder == tmp_path / "big" / "x"
        check_volume(folder, seg, scales=1)


def test_a_folder_that_holds_something_else_is_left_alone(
    live: Any, seg: Segmentation, settings: Settings
) -> None:
    finished(live, begin(live, seg, "precomputed", folder="done"))
    exports = settings.data / "exports"
    (exports / "alien").mkdir()
    (exports / "alien" / "thesis.tex").write_text("all of it")
    (exports / "torn").mkdir()
    (exports / "torn" / "export.json").write_text("{")
    (exports / "other").mkdir()
    manifest = json.loads((exports / "done" / "export.json").read_bytes())
    manifest |= {"finished": False, "version": "0" * 32}
    (exports / "other" / "export.json").write_text(json.dumps(manifest))
    for name, reason in (
        ("done", "finished"), ("alien", "no export"), ("torn", "cannot be read"),
        ("other", "something else"),
    ):  # fmt: skip
        body = {"folder": name}
        answer = live.call("POST", f"{seg.node}/export/precomputed", json_body=body)
        assert answer.status == 400, name
        assert reason in answer.text
    assert (exports / "alien" / "thesis.tex").read_text() == "all of it"


def test_two_exports_into_one_folder_at_a_time_are_refused(live: Any, seg: Segmentation) -> None:
    gate = Gate()
    live.engine.jobs.submit("gate", {}, gate)
    path = begin(live, seg, "precomputed", folder="x")
    answer = live.call("POST", f"{seg.node}/export/shards", json_body={"folder": "x"})
    assert answer.status == 400
    gate.go_on.set()
    finished(live, path)


# -- what ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("", {}), ("tiff", {}), ("precomputed/more", {}), ("precomputed", []), ("precomputed", "x"),
        ("precomputed", {"scales": 0}), ("precomputed", {"scales": "2"}),
        ("precomputed", {"scales": True}), ("precomputed", {"scales": 257}),
        ("precomputed", {"supervoxels": "true"}), ("precomputed", {"label": 1}),
        ("precomputed", {"scales": 1.5}),
        ("shards", {"batch_size": 0}), ("shards", {"batch_size": 5000}), ("shards", {"spec": 7}),
        ("shards", {"spec": {}}), ("shards", {"spec": {"scales": []}}),
        ("shards", {"spec": {"scales": [7]}}), ("shards", {"supervoxels": True}),
        ("nanovdb", {}), ("nanovdb", {"label": 0}), ("nanovdb", {"label": -1}),
        ("nanovdb", {"label": 1 << 64}), ("nanovdb", {"label": "5"}),
        ("nanovdb", {"label": 5, "name": "../x"}), ("nanovdb", {"label": 5, "name": ""}),
        ("nanovdb", {"label": 5, "scale": 256}), ("nanovdb", {"label": 5, "layout": "dvid"}),
    ],
)  # fmt: skip
def test_requests_that_are_wrong_begin_no_job(still: Segmentation, kind: str, body: Any) -> None:
    refused(still, kind, body)


def test_what_is_not_there_cannot_be_exported(live: Any, seg: Segmentation) -> None:
    missing = live.call("POST", f"{seg.node}/export/nanovdb", json_body={"label": 123456})
    assert missing.status == 404
    empty = live.new_instance(live.new_repo(), "labelmap", "empty")
    assert live.call("POST", f"{empty}/export/precomputed").status == 404
    assert live.call("POST", f"{seg.node}/export/precomputed", b"{").status == 400


def test_extents_without_end_are_no_reason_to_search_for_ever(live: Any, seg: Segmentation) -> None:
    far = (1 << 31) - 1
    body = {"MinPoint": [-far] * 3, "MaxPoint": [far] * 3}
    live.ok("POST", f"{seg.node}/extents", json_body=body)
    for kind in ("precomputed", "shards"):
        answer = live.call("POST", f"{seg.node}/export/{kind}")
        assert answer.status == 400
        assert "extents" in answer.text


# -- shards ----------------------------------------------------------------------------------


def blocks_of(folder: Path, scale: int = 0) -> dict[tuple[int, int, int], Any]:
    """All rows of all files of a scale, by block; each also read alone, as its .csv says."""
    found: dict[tuple[int, int, int], Any] = {}
    for file in folder.glob(f"s{scale}/*.arrow"):
        data = file.read_bytes()
        schema, head, *lines = file.with_suffix(".csv").read_text().splitlines()
        size = int(schema.removeprefix("# schema_size="))
        assert head == "x,y,z,offset,size,batch_idx"
        rows = {}
        for row in pa.ipc.open_stream(data).read_all().to_pylist():
            block = pa.decompress(
                row["dvid_compressed_block"], row["uncompressed_size"], codec="zstd", asbytes=True
            )
            at = row["chunk_x"], row["chunk_y"], row["chunk_z"]
            rows[at] = (row["labels"], row["supervoxels"], block)
        assert len(rows) == len(lines)
        for line in lines:
            x, y, z, offset, length, place = map(int, line.split(","))
            message = data[:size] + data[offset : offset + length]
            alone = pa.ipc.open_stream(message).read_next_batch().to_pylist()[place]
            assert (alone["chunk_x"], alone["chunk_y"], alone["chunk_z"]) == (x, y, z)
            assert alone["labels"] == rows[x, y, z][0]
        assert not found.keys() & rows.keys()
        found |= rows
    return found


def assembled(folder: Path) -> np.ndarray:
    out = np.zeros(SHAPE, np.uint64)
    for (x, y, z), (bodies, svs, block) in blocks_of(folder).items():
        voxels = decoded(block)
        known = dict(zip(svs, bodies, strict=True))
        mapped = np.vectorize(known.__getitem__, otypes=[np.uint64])(voxels)
        a, b, c = 32 * z - OFFSET[2], 32 * y - OFFSET[1], 32 * x - OFFSET[0]
        out[a : a + 32, b : b + 32, c : c + 32] = mapped
    return out


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.usefixtures("small_shards")
def test_blocks_as_arrow_hold_voxels_supervoxels_and_bodies(
    live: Any, seg: Segmentation, volume: np.ndarray, batch: int
) -> None:
    folder = finished(live, begin(live, seg, "shards", batch_size=batch))
    assert np.array_equal(assembled(folder), seg.read(SHAPE, OFFSET))
    found = blocks_of(folder)
    for (x, y, z), (_, svs, block) in found.items():
        a, b, c = 32 * z - OFFSET[2], 32 * y - OFFSET[1], 32 * x - OFFSET[0]
        assert np.array_equal(decoded(block), volume[a : a + 32, b : b + 32, c : c + 32])
        assert set(svs) == set(np.unique(volume[a : a + 32, b : b + 32, c : c + 32]).tolist())
    # The blocks that are background only are left out.
    assert len(found) == 3 * 4 * 5 - 2 * 5
    assert blocks_of(folder, 1)
    names = [tuple(map(int, path.stem.split("_"))) for path in folder.glob("s0/*.arrow")]
    assert all(
        (at - first) % 64 == 0 for name in names for at, first in zip(name, OFFSET, strict=True)
    )


def spec_of(**more: Any) -> dict[str, Any]:
    scale = {
        "chunk_sizes": [[32, 32, 32]], "size": [256] * 3, "voxel_offset": [-64, -64, 0],
        "sharding": {
            "@type": sharding.FORMAT, "hash": "identity",
            "preshift_bits": 3, "minishard_bits": 0, "shard_bits": 6,
        },
    }  # fmt: skip
    return {"scales": [{**scale, **more}]}


def test_a_spec_says_how_blocks_are_spread(live: Any, seg: Segmentation) -> None:
    folder = finished(live, begin(live, seg, "shards", spec=spec_of()))
    assert np.array_equal(assembled(folder), seg.read(SHAPE, OFFSET))
    assert not (folder / "s1").exists()
    for path in folder.glob("s0/*.arrow"):
        x, y, z = map(int, path.stem.split("_"))
        assert ((x + 64) % 64, (y + 64) % 64, z % 64) == (0, 0, 0)
        lines = path.with_suffix(".csv").read_text().splitlines()[2:]
        for line in lines:
            block = [int(number) for number in line.split(",")[:3]]
            assert all(0 <= 32 * b - a < 64 for a, b in zip((x, y, z), block, strict=True))


@pytest.mark.parametrize(
    "more",
    [
        {"size": [128, 256, 256]}, {"size": [0, 256, 256]}, {"size": [256, 256]}, {"size": None},
        {"voxel_offset": [0, 0, 0]}, {"voxel_offset": [-63, 0, 0]}, {"voxel_offset": "0"},
        {"chunk_sizes": [[64, 64, 64]]}, {"chunk_sizes": []}, {"sharding": None},
        {"sharding": {"@type": "other"}}, {"size": [1 << 40] * 3}, {"size": [256.0] * 3},
        {"sharding": {"@type": sharding.FORMAT, "hash": "murmurhash3_x86_128"}},
        {"sharding": {"@type": sharding.FORMAT, "hash": "identity", "preshift_bits": 1,
                      "minishard_bits": 1, "shard_bits": 1}},
        {"sharding": {"@type": sharding.FORMAT, "hash": "identity", "preshift_bits": -1,
                      "minishard_bits": 1, "shard_bits": 40}},
    ],
)  # fmt: skip
def test_a_spec_that_does_not_suit_the_data_is_refused(
    still: Segmentation, more: dict[str, Any]
) -> None:
    text = refused(still, "shards", {"spec": spec_of(**more)})
    assert "spec" in text or "sharding" in text


def test_a_box_is_empty_when_no_block_lies_in_it(live: Any) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    random = np.random.default_rng(6)
    there = np.unique(random.integers(-4, 5, (40, 3)), axis=0)
    one = packed(np.ones((16, 16, 16), np.uint64))
    body = joined([((x, y, z), one) for z, y, x in there.tolist()])
    live.ok("POST", f"{node}/blocks", body)
    stream, repo, version = live.engine.resolve(root)
    source = Source(live.engine, stream, repo, repo.names["seg"], version.id, repo.sequence)
    seen = set()
    for _ in range(400):
        low = random.integers(-5, 5, 3)
        high = low + random.integers(0, 5, 3)
        inside = ((there >= low) & (there < high)).all(axis=1).any()
        box = Box(tuple(low.tolist()), tuple(high.tolist()))
        assert source.is_empty(0, box) == (not inside), box
        assert source.is_empty(1, box)
        seen.add(bool(inside))
    assert seen == {True, False}


@given(grid=st.tuples(*[st.integers(1, 90)] * 3), data=st.data())
def test_the_chunks_of_a_file_fill_the_box_that_it_is_said_to_have(
    grid: tuple[int, int, int], data: Any
) -> None:
    start = data.draw(st.tuples(*[st.integers(-50, 50)] * 3))
    blocks = Box(start, tuple(a + n for a, n in zip(start, grid[::-1], strict=True)))
    level = precomputed.levels_of([Scale(0, blocks, (16, 16, 16), (8, 8, 8))])[0]
    file = data.draw(st.integers(0, level.sharding.files - 1))
    firsts = (level.sharding.first_chunk(file, m) for m in range(level.sharding.minishards))
    found = np.concatenate([level.blocks_of(first) for first in firsts])
    box = level.box_of(file)
    assert len(found) == box.volume
    if len(found):
        assert tuple(found.min(axis=0)) == box.start_zyx
        assert tuple(found.max(axis=0) + 1) == box.stop_zyx
