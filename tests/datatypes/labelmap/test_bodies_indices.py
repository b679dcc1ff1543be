"""Posted indices: imports, bodies that disagree with voxels, and surface marks against DVID's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import izyx, labelindex, messages_pb2
from tests.datatypes.labelmap.body_model import (
    BLOCK,
    Model,
    check_version,
    index_message,
    mapping_ops,
    volume_of,
)

SHAPE = (32, 64, 64)


@pytest.fixture
def node(live: Any) -> str:
    root = live.new_repo()
    return live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")


def post_raw(live: Any, node: str, volume: Any, query: str = "") -> None:
    z, y, x = volume.shape
    path = f"{node}/raw/0_1_2/{x}_{y}_{z}/0_0_0{query}"
    live.ok("POST", path, volume.astype("<u8").tobytes())


def post_blocks(live: Any, node: str, volume: Any) -> None:
    """Ingest without indexing, as a bulk loader does."""
    import gzip
    import struct

    from dvid_es.codecs import labelblock

    stream = []
    for z in range(0, volume.shape[0], BLOCK):
        for y in range(0, volume.shape[1], BLOCK):
            for x in range(0, volume.shape[2], BLOCK):
                cube = volume[z : z + BLOCK, y : y + BLOCK, x : x + BLOCK]
                data = gzip.compress(labelblock.encode(np.ascontiguousarray(cube)))
                place = (x // BLOCK, y // BLOCK, z // BLOCK, len(data))
                stream.append(struct.pack("<iiiI", *place) + data)
    live.ok("POST", f"{node}/ingest-supervoxels", b"".join(stream))


def imported(live: Any, node: str, seed: int) -> Model:
    """Voxels without indices, then indices and mappings: groups of three supervoxels are bodies."""
    volume = volume_of(SHAPE, 24, seed)
    post_blocks(live, node, volume)
    model = Model(volume)
    svs = sorted(model.counts())
    model.bodies = {svs[at]: set(svs[at : at + 3]) for at in range(0, len(svs), 3)}
    message = messages_pb2.LabelIndices()
    for body, members in model.bodies.items():
        message.indices.append(index_message(body, model.blocks(members)))
        model.mapping.update(dict.fromkeys(members - {body}, body))
    live.ok("POST", f"{node}/indices", message.SerializeToString())
    live.ok("POST", f"{node}/mappings", mapping_ops(model.mapping))
    return model


def test_an_import_by_indices_and_mappings_reads_like_indexed_voxels(live: Any, node: str) -> None:
    check_version(live, node, imported(live, node, 1), [])


def test_bodies_of_an_import_follow_later_merges_cleaves_and_voxels(live: Any, node: str) -> None:
    model = imported(live, node, 2)
    first, second, third = sorted(model.bodies)[:3]
    answer = live.ok("POST", f"{node}/merge", json_body=[first, second]).json()
    model.merge(first, [second], answer["MutationID"])
    moved = sorted(model.bodies[first])[1:3]
    answer = live.ok("POST", f"{node}/cleave/{first}", json_body=moved).json()
    model.cleave(first, moved, answer["CleavedLabel"], answer["MutationID"])
    check_version(live, node, model, [])
    volume = model.volume.copy()
    volume[4:12, 4:12, 4:12] = third
    volume[20:28, 40:48, 40:48] = 0
    volume[0:8, 56:64, 0:8] = 777
    post_raw(live, node, volume, "?mutate=true")
    model.write(volume)
    check_version(live, node, model, [777])


def test_a_posted_index_that_disagrees_with_voxels_counts_until_they_are_written(
    live: Any, node: str
) -> None:
    volume = np.zeros((32, 32, 64), np.uint64)
    volume[:8, :8, :8], volume[:8, :8, 8:16], volume[:8, :8, 40:48] = 1, 2, 3
    post_raw(live, node, volume)
    posted = index_message(7, {(0, 0, 0): {1: 5, 2: 6}, (0, 0, 1): {9: 4}})
    live.ok("POST", f"{node}/index/7", posted.SerializeToString())
    assert live.ok("GET", f"{node}/sizes", json_body=[1, 2, 7]).json() == [512, 512, 15]
    assert read_blocks(live, node, 7) == {(0, 0, 0): {1: 5, 2: 6}, (0, 0, 1): {9: 4}}
    assert read_blocks(live, node, 1) == {(0, 0, 0): {1: 512}}
    assert live.call("POST", f"{node}/merge", json_body=[7, 1]).status == 400, "1 is in both"
    live.ok("POST", f"{node}/merge", json_body=[3, 7])
    assert read_blocks(live, node, 3) == {
        (0, 0, 0): {1: 5, 2: 6}, (0, 0, 1): {3: 512, 9: 4},
    }  # fmt: skip
    new = live.ok("POST", f"{node}/cleave/3", json_body=[1, 9]).json()["CleavedLabel"]
    assert read_blocks(live, node, new) == {(0, 0, 0): {1: 5}, (0, 0, 1): {9: 4}}
    assert read_blocks(live, node, 3) == {(0, 0, 0): {2: 6}, (0, 0, 1): {3: 512}}
    assert live.ok("GET", f"{node}/sizes", json_body=[3, new]).json() == [518, 9]
    volume[:8, :8, :16] = 0
    volume[10:12, :8, :8] = 1  # supervoxel 1 maps to the new body: what was posted counts no more
    post_raw(live, node, volume)
    assert read_blocks(live, node, new) == {(0, 0, 0): {1: 128}, (0, 0, 1): {9: 4}}
    assert read_blocks(live, node, 3) == {(0, 0, 1): {3: 512}}
    assert live.ok("GET", f"{node}/sizes", json_body=[3, new]).json() == [512, 132]


def test_an_index_posted_again_is_what_counts(live: Any, node: str) -> None:
    for counts in ({5: 10, 6: 20}, {5: 11}, {6: 3, 8: 1}):
        message = index_message(5, {(0, 0, 2): counts, (1, -1, 0): counts})
        message.last_mutid, message.last_mod_user = 77, "ann"
        live.ok("POST", f"{node}/index/5", message.SerializeToString())
        assert read_blocks(live, node, 5) == {(0, 0, 2): counts, (1, -1, 0): counts}
        size = live.ok("GET", f"{node}/size/5").json()["voxels"]
        assert size == 2 * sum(counts.values())
        sizes = live.ok("GET", f"{node}/supervoxel-sizes/5").json()
        assert sizes == {
            "supervoxels": sorted(counts), "sizes": [2 * counts[sv] for sv in sorted(counts)],
        }  # fmt: skip
    live.ok("POST", f"{node}/index/5", messages_pb2.LabelIndex(label=5).SerializeToString())
    assert live.call("GET", f"{node}/index/5").status == 404


def test_surface_marks_are_those_of_dvids_rule_over_random_mutations(live: Any, node: str) -> None:
    """A merge marks the blocks that came from merged bodies, a cleave those of cleaved supervoxels."""
    rng = np.random.default_rng(5)
    volume = volume_of(SHAPE, 24, 5)
    post_raw(live, node, volume)
    model = Model(volume)
    cells = {sv: set(model.blocks({sv})) for sv in model.counts()}
    marks: dict[int, dict[Any, int]] = {
        body: dict.fromkeys(cells[body], 0) for body in model.bodies
    }
    for _ in range(25):
        bodies = sorted(model.bodies)
        large = [body for body in bodies if len(model.bodies[body]) > 1]
        if large and rng.random() < 0.45:
            body = int(rng.choice(large))
            svs = sorted(model.bodies[body])
            moved = svs[: int(rng.integers(1, len(svs)))]
            answer = live.ok("POST", f"{node}/cleave/{body}", json_body=moved).json()
            new, mutation = answer["CleavedLabel"], answer["MutationID"]
            model.cleave(body, moved, new, mutation)
            touched = set().union(*(cells[sv] for sv in moved))
            left = set().union(*(cells[sv] for sv in model.bodies[body]))
            marks[new] = dict.fromkeys(touched, mutation)
            marks[body] = {
                cell: mutation if cell in touched else marks[body][cell] for cell in left
            }
        elif rng.random() < 0.2:
            old, new = int(rng.choice(bodies)), 1000 + int(rng.integers(10**6))
            live.ok("POST", f"{node}/renumber", json_body=[new, old])
            model.renumber(new, old)
            marks[new] = marks.pop(old)
        else:
            target, *merged = (int(body) for body in rng.choice(bodies, 3, replace=False))
            mutation = live.ok("POST", f"{node}/merge", json_body=[target, *merged]).json()
            model.merge(target, merged, mutation["MutationID"])
            for body in merged:
                for cell in marks.pop(body):
                    marks[target][cell] = mutation["MutationID"]
    for body, expected in marks.items():
        index = labelindex.decode(live.ok("GET", f"{node}/index/{body}").body)
        places = [tuple(izyx.unpack_key(int(key))) for key in index.blocks]
        assert dict(zip(places, index.surface_mutids.tolist(), strict=True)) == expected


def read_blocks(live: Any, node: str, label: int) -> dict[Any, dict[int, int]]:
    message = messages_pb2.LabelIndex.FromString(live.ok("GET", f"{node}/index/{label}").body)
    return {
        tuple(izyx.unpack_key(key)): dict(value.counts) for key, value in message.blocks.items()
    }


def test_a_ghost_alone_can_be_cleaved_and_its_body_has_no_voxels(live: Any, node: str) -> None:
    volume = np.zeros((32, 32, 32), np.uint64)
    volume[:4], volume[4:8] = 3, 4
    post_raw(live, node, volume)
    live.ok("POST", f"{node}/mappings", mapping_ops({9999: 4}))
    new = live.ok("POST", f"{node}/cleave/4", json_body=[9999]).json()["CleavedLabel"]
    assert new == 5
    assert live.ok("GET", f"{node}/mapping", json_body=[3, 4, 9999, 5]).json() == [3, 4, 5, 0]
    assert live.ok("GET", f"{node}/existing-labels").json() == [3, 4, 5]
    assert live.ok("GET", f"{node}/sizes", json_body=[3, 4, 5]).json() == [4096, 4096, 0]
    for path in ("size", "supervoxels", "supervoxel-sizes", "sparsevol", "sparsevol-coarse"):
        assert live.call("GET", f"{node}/{path}/5").status == 404
    assert live.call("HEAD", f"{node}/sparsevol/5").status == 204
    assert read_blocks(live, node, 5) == {}
    assert read_blocks(live, node, 4) == {(0, 0, 0): {4: 4096}}
    assert live.ok("GET", f"{node}/sparsevol/4").body
    assert live.call("POST", f"{node}/merge", json_body=[4, 5]).status == 400
    assert live.call("POST", f"{node}/cleave/5", json_body=[9999]).status == 400, "nothing remains"
    assert live.call("POST", f"{node}/merge", json_body=[5, 4]).status == 200
    assert read_blocks(live, node, 5) == {(0, 0, 0): {4: 4096}}


def test_an_index_of_a_body_outside_of_the_key_range_is_refused(live: Any, node: str) -> None:
    message = messages_pb2.LabelIndex(label=5)
    message.blocks[1 << 63].counts[5] = 1
    before = live.ok("GET", f"{node}/existing-labels").json()
    for path, body in (
        ("index/5", message.SerializeToString()),
        ("indices", messages_pb2.LabelIndices(indices=[message]).SerializeToString()),
    ):
        assert live.call("POST", f"{node}/{path}", body).status == 400
    assert live.ok("GET", f"{node}/existing-labels").json() == before
