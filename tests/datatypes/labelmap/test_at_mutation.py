from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes import DATATYPES
from dvid_es.settings import Settings
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap.body_model import mapping_ops, volume_of

SHAPE = (32, 64, 64)
PRESENT_ONLY = {
    "nextlabel": "new labels must be new in every version and at every moment",
    "map-stats": "of all instances of the server",
    "help": "text",
}


@pytest.fixture
def served(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "served", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


LISTED = [1, 2, 3, 4, 5, 6, 7, 8, 25, 26, 27, 28, 29, 30, 31, 1001]
LABELMAP_READS: list[tuple[str, Any]] = [
    ("raw/0_1_2/64_64_32/0_0_0", None),
    ("raw/0_1_2/64_64_32/0_0_0?supervoxels=true", None),
    ("raw/0_1_2/32_32_16/0_0_0?scale=1", None),
    ("raw/0_1/64_64/0_0_7", None),
    ("isotropic/0_1/64_64/0_0_7", None),
    ("pseudocolor/0_1/64_64/0_0_7", None),
    ("blocks/64_64_32/0_0_0?compression=uncompressed", None),
    ("specificblocks?blocks=0,0,0,1,0,0&compression=uncompressed", None),
    ("label/40_41_9", None),
    ("labels", [[40, 41, 9], [3, 3, 3], [60, 60, 30]]),
    ("mapping", LISTED),
    ("mapping?nolookup=true", LISTED),
    ("mappings", None),
    ("size/3", None),
    ("sizes", LISTED),
    ("sizes?supervoxels=true", LISTED),
    ("supervoxels/3", None),
    ("supervoxel-sizes/3", None),
    ("lastmod/3", None),
    ("existing-labels", None),
    ("listlabels?sizes=true", None),
    ("sparsevol/3", None),
    ("sparsevol/3?supervoxels=true", None),
    ("sparsevol-by-point/40_41_9", None),
    ("sparsevol-coarse/3", None),
    ("sparsevols-coarse/1/100", None),
    ("sparsevol-size/3", None),
    ("proximity/3/4", None),
    ("index/3", None),
    ("index-version/3", None),
    ("indices", LISTED),
    ("indices-compressed", LISTED),
    ("maxlabel", None),
    ("extents", None),
    ("resolution", None),
    ("metadata", None),
    ("mutations", None),
    ("mutations-range/{root}/{version}", None),
    ("history/3/{root}/{version}", None),
    ("supervoxel-splits", None),
]
KEYVALUE_READS: list[tuple[str, Any]] = [
    ("key/a", None),
    ("keys", None),
    ("keyrange/a/z", None),
    ("keyrangevalues/a/z?json=true", None),
    ("keyvalues?json=true", ["a", "b"]),
    ("mutations", None),
    ("mutations-range/{root}/{version}", None),
]


class Story:
    """A labelmap and a keyvalue; after each mutation all reads are kept."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self.root = self.version = live.new_repo()
        config = {"BlockSize": "32,32,32", "MaxDownresLevel": "1"}
        live.new_instance(self.root, "labelmap", "seg", **config)
        live.new_instance(self.root, "keyvalue", "kv")
        self.kept: list[tuple[int, str, list[Any]]] = []

    def reads(self, version: str, at: int | None = None) -> list[Any]:
        found = []
        for name, table in (("seg", LABELMAP_READS), ("kv", KEYVALUE_READS)):
            for path, body in table:
                path = path.format(root=self.root, version=version)
                query = {} if at is None else {"at": at}
                answer = self.live.call(
                    "GET", f"/api/node/{version}/{name}/{path}", json_body=body, **query
                )
                # Texts of errors name the path, without the options.
                found.append((name, path, answer.status, answer.body))
        return found

    def post(self, path: str, body: Any = None, data: bytes | None = None) -> Any:
        node = f"/api/node/{self.version}"
        return self.live.ok("POST", f"{node}/{path}", data, json_body=body)

    def keep(self, mutation: int) -> None:
        self.kept.append((mutation, self.version, self.reads(self.version)))

    def last_mutation(self) -> int:
        path = f"/api/node/{self.version}/seg/mutations"
        return int(self.live.ok("GET", path).json()[-1]["MutationID"])


def tell(story: Story) -> None:
    live, volume = story.live, volume_of(SHAPE, 24, 5)
    post, keep = story.post, story.keep
    post("seg/raw/0_1_2/64_64_32/0_0_0", data=volume.astype("<u8").tobytes())
    keep(1_000_000_000)
    post("kv/key/a", data=b"1")
    keep(post("seg/merge", [3, 4, 1]).json()["MutationID"])
    keep(post("seg/cleave/3", [4]).json()["MutationID"])
    post("kv/key/b", data=b"2")
    post("seg/mappings", data=mapping_ops({6: 3}))
    own = np.zeros(SHAPE, bool)
    z, y, x = np.argwhere(volume == 3)[0]
    own[z, y, x] = True
    keep(post("seg/split-supervoxel/3", data=cases.blob_of(own)).json()["MutationID"])
    live.commit(story.version)
    story.version = live.new_version(story.version)
    post("seg/renumber", [1001, 3])
    keep(story.last_mutation())
    post("kv/key/a", data=b"3")
    z, y, x = np.argwhere(volume == 2)[0]
    own[:] = False
    own[z, y, x] = True
    keep(post("seg/split/2", data=cases.blob_of(own)).json()["MutationID"])
    volume[:, :32, :32] = 7
    post("seg/raw/0_1_2/64_64_32/0_0_0?mutate=true", data=volume.astype("<u8").tobytes())
    known = post("seg/merge", [7, 8]).json()["MutationID"]
    keep(known)


def test_every_read_at_a_mutation_answers_as_it_did_just_after_it(served: Any) -> None:
    story = Story(served)
    tell(story)
    assert len({mutation for mutation, _, _ in story.kept}) == 7
    asked = {read[:2] for _, _, then in story.kept for read in then}
    answered = {read[:2] for _, _, then in story.kept for read in then if read[2] == 200}
    assert answered == asked, "each read has an answer at some moment"
    for mutation, version, then in story.kept:
        for was, now in zip(then, story.reads(version, mutation), strict=True):
            assert was == now, (mutation, was[:2])


def test_a_mutation_and_its_sequence_are_the_same_moment_at_any_version(served: Any) -> None:
    story = Story(served)
    tell(story)
    merge = served.call("POST", f"/api/node/{story.version}/seg/merge", json_body=[7, 11])
    mutation, sequence = merge.json()["MutationID"], int(merge.headers["x-dvid-es-seq"])
    for version in (story.root, story.version):
        assert story.reads(version, mutation) == story.reads(version, sequence)
        assert story.reads(version, mutation - 1) == story.reads(version, sequence - 1)


def test_an_unknown_mutation_is_refused_with_what_to_do(served: Any) -> None:
    story = Story(served)
    tell(story)
    for path in ("seg/sizes?at=", "kv/keys?at="):
        url = f"/api/node/{story.version}/{path}1000000999"
        answer = served.call("GET", url, json_body=[1])
        assert answer.status == 400
        assert "1000000999 is the id of no mutation" in answer.text
        assert "a sequence below 1000000000" in answer.text


def test_every_read_endpoint_is_among_those_that_are_asked() -> None:
    for datatype, table in zip(
        (found for found in DATATYPES if found.name in ("keyvalue", "labelmap")),
        (KEYVALUE_READS, LABELMAP_READS),
        strict=True,
    ):
        words = {re.split(r"[/?]", path)[0] for path, _ in table} | PRESENT_ONLY.keys()
        gets = {key.split()[1] for key in datatype.endpoints if key.startswith("GET ")}
        elsewhere = {"precomputed", "lineage", "diff", "export", "fvdb"}
        assert gets - words - elsewhere == set()
