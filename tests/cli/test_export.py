from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dvid_es.cli import main
from dvid_es.settings import Settings
from tests.datatypes.labelmap.nanovdb_reader import read
from tests.datatypes.labelmap.voxel_oracle import Segmentation


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def seg(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmentation]:
    with run_server(Settings(data=tmp_path_factory.mktemp("export") / "data")) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
        made = Segmentation(live, root)
        volume = np.ones((32, 32, 64), np.uint64)
        volume[3:9, 4:5, 6:40] = 7
        made.post(volume)
        yield made


def words(seg: Segmentation, kind: str, *more: object) -> list[object]:
    uuid = seg.node.split("/")[3]
    return ["export", kind, uuid, "seg", "--server", seg.live.base, *more]


def test_each_export_is_followed_to_its_end_and_says_what_it_wrote(seg: Segmentation) -> None:
    for kind, options, file in (
        ("precomputed", ["--scales", 1, "--supervoxels"], "s0/0.shard"),
        ("shards", ["--batch-size", 2], "s0/0_0_0.arrow"),
        ("nanovdb", ["--label", 7, "--name", "seven"], "seven.nvdb"),
    ):
        done = run(*words(seg, kind, *options, "--folder", f"cli/{kind}", "--json"))
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert (Path(result["folder"]) / file).exists()
        again = run(*words(seg, kind, *options, "--folder", f"cli/{kind}"))
        assert again.exit_code == 4
        assert "finished export" in again.output
    grid = read((Path(result["folder"]) / "seven.nvdb").read_bytes())
    assert len(grid.voxels) == 6 * 1 * 34


def test_an_export_as_of_an_earlier_event_with_a_spec_of_its_own(
    seg: Segmentation, tmp_path: Path
) -> None:
    spec = {
        "scales": [
            {
                "chunk_sizes": [[32, 32, 32]], "size": [128, 128, 128],
                "sharding": {
                    "@type": "neuroglancer_uint64_sharded_v1", "hash": "identity",
                    "preshift_bits": 0, "minishard_bits": 0, "shard_bits": 6,
                },
            }
        ]
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    at = seg.live.ok("GET", f"{seg.node}/extents").headers["x-dvid-es-seq"]
    done = run(
        *words(seg, "shards", "--spec", tmp_path / "spec.json", "--at", at, "--folder", "spec")
    )
    assert done.exit_code == 0, done.output
    folder = Path(done.output.split("folder ")[1].strip())
    assert sorted(path.name for path in folder.glob("s0/*.arrow")) == [
        "0_0_0.arrow", "32_0_0.arrow",
    ]  # fmt: skip
    assert json.loads((folder / "export.json").read_text())["sequence"] == int(at)
    (tmp_path / "spec.json").write_text("{")
    assert run(*words(seg, "shards", "--spec", tmp_path / "spec.json")).exit_code == 2


def test_a_job_is_left_alone_listed_followed_and_cancelled(seg: Segmentation) -> None:
    begun = run(*words(seg, "precomputed", "--detach", "--folder", "detached"))
    assert begun.exit_code == 0, begun.output
    number = begun.output.strip()
    at = ("--server", seg.live.base)
    followed = run("job", "follow", number, *at)
    assert followed.exit_code == 0, followed.output
    assert "detached" in followed.output
    listed = json.loads(run("job", "list", *at, "--json").stdout)
    (one,) = [job for job in listed if job["id"] == number]
    assert (one["kind"], one["state"]) == ("export precomputed", "done")
    assert number in run("job", "list", *at).output
    assert run("job", "cancel", number, *at).output.strip() == "done"
    assert run("job", "cancel", "none", *at).exit_code == 4
    assert run("job", "follow", "none", *at).exit_code == 4


def test_what_is_refused_is_exit_code_4_and_what_is_wrong_2(seg: Segmentation) -> None:
    refused = run(*words(seg, "nanovdb", "--label", 12345))
    assert refused.exit_code == 4
    assert "no body 12345" in refused.output
    assert run(*words(seg, "precomputed", "--folder", "../x")).exit_code == 4
    assert run(*words(seg, "nanovdb")).exit_code == 2
    assert run("export", "precomputed", "u", "seg", "--server", "http://127.0.0.1:9").exit_code == 6
