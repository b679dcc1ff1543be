"""Bodies as of a sequence, below version merges, and while others write."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from tests.datatypes.labelmap.body_model import Model, check_version, mapping_ops, volume_of

SHAPE = (32, 64, 64)


@pytest.fixture
def root(live: Any) -> str:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
    live.ok("POST", f"{seg(root)}/raw/0_1_2/64_64_32/0_0_0", volume_of(SHAPE, 24, 9).tobytes())
    return root


def seg(uuid: str) -> str:
    return f"/api/node/{uuid}/seg"


READS = [
    "existing-labels", "listlabels?sizes=true", "mappings", "mappings?format=binary", "maxlabel",
    "mutations", "sparsevol/1", "index/1", "size/1", "supervoxels/1", "lastmod/1", "sparsevol/2",
    "raw/0_1_2/64_64_32/0_0_0", "blocks/64_64_32/0_0_0?compression=blocks",
]  # fmt: skip


def test_reads_as_of_a_sequence_are_what_they_were_then(live: Any, root: str) -> None:
    node = seg(root)

    def answers(at: str | None) -> list[Any]:
        found = []
        for path in READS:
            query = "" if at is None else ("&" if "?" in path else "?") + f"at={at}"
            answer = live.call("GET", f"{node}/{path}{query}")
            found.append((answer.status, answer.body if answer.status == 200 else b""))
        return found

    past = []
    steps: list[tuple[str, Any]] = [
        ("merge", [1, 2, 3]), ("cleave/1", [2]), ("merge", [4, 1]), ("renumber", [1, 4]),
        ("cleave/1", [3, 4]), ("renumber", [900, 1]), ("merge", [6, 900]),
    ]  # fmt: skip
    for path, body in steps:
        done = live.ok("POST", f"{node}/{path}", json_body=body)
        past.append((done.headers["x-dvid-es-seq"], answers(None)))
    live.ok("POST", f"{node}/mappings", mapping_ops({1: 77, 2: 0, 3: 3}))
    for sequence, expected in past:
        assert answers(sequence) == expected


def test_a_version_merge_sees_what_both_parents_have_done(live: Any, root: str) -> None:
    model = Model(volume_of(SHAPE, 24, 9))
    answer = live.ok("POST", f"{seg(root)}/merge", json_body=[1, 2]).json()
    model.merge(1, [2], answer["MutationID"])
    live.commit(root)
    sides = []
    for name, bodies in (("left", [1, 3]), ("right", [4, 6])):
        body = {"branch": name}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        answer = live.ok("POST", f"{seg(uuid)}/merge", json_body=bodies).json()
        model.merge(bodies[0], bodies[1:], answer["MutationID"])
        live.commit(uuid)
        sides.append(uuid)
    merge = {"mergeType": "conflict-free", "parents": sides, "note": ""}
    both = live.ok("POST", f"/api/repo/{root}/merge", json_body=merge).json()["child"]
    check_version(live, seg(both), model, [9999])
    answer = live.ok("POST", f"{seg(both)}/merge", json_body=[4, 1]).json()
    model.merge(4, [1], answer["MutationID"])
    answer = live.ok("POST", f"{seg(both)}/cleave/4", json_body=[3, 2]).json()
    model.cleave(4, [3, 2], answer["CleavedLabel"], answer["MutationID"])
    check_version(live, seg(both), model, [9999])
    live.commit(both)
    child = live.new_version(both)
    check_version(live, seg(child), model, [9999])


def test_a_reader_of_an_older_state_never_sees_what_came_later(live: Any, root: str) -> None:
    node = seg(root)
    live.ok("POST", f"{node}/merge", json_body=[1, 2])
    engine = live.engine
    stream, repo, _ = engine.resolve(root)
    instance = repo.names["seg"].id
    txn = engine.store.begin_read(repo, stream.packs)
    try:
        live.ok("POST", f"{node}/merge", json_body=[3, 1])
        assert live.ok("GET", f"{node}/mapping", json_body=[1, 2]).json() == [3, 3]
        old = mapping.Mapping.at(txn, instance, txn.view(1))
        assert old.map(np.array([1, 2, 3], np.uint64)).tolist() == [1, 1, 3]
    finally:
        engine.store.finish_read(txn)


def test_the_mapping_is_consistent_while_others_change_it(live: Any, root: str) -> None:
    """Each request sees one state: supervoxels 1 to 4 are always together, whatever their body is."""
    node = seg(root)
    live.ok("POST", f"{node}/merge", json_body=[1, 2, 3, 4])
    problems: list[Any] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = live.ok("GET", f"{node}/mapping", json_body=[1, 2, 3, 4]).json()
            if len(set(found)) != 1:
                problems.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        label = 1
        for number in range(60):
            new = 10_000 + number
            live.ok("POST", f"{node}/renumber", json_body=[new, label])
            many = {20_000 + 100 * number + n: n for n in range(100)}
            live.ok("POST", f"{node}/mappings", mapping_ops(many))
            label = new
    finally:
        stop.set()
        for reader in readers:
            reader.join(60)
    assert problems == []


def test_bodies_of_many_clients_end_as_they_began(live: Any, root: str) -> None:
    node = seg(root)
    before = live.ok("GET", f"{node}/listlabels?sizes=true").body
    problems: list[Any] = []

    def cycle(target: int, other: int) -> None:
        try:
            label = other
            for _ in range(15):
                live.ok("POST", f"{node}/merge", json_body=[target, label])
                answer = live.ok("POST", f"{node}/cleave/{target}", json_body=[other]).json()
                label = answer["CleavedLabel"]
            live.ok("POST", f"{node}/renumber", json_body=[other, label])
        except AssertionError as problem:
            problems.append(problem)

    clients = [
        threading.Thread(target=cycle, args=pair) for pair in ((1, 2), (3, 4), (6, 7), (8, 9))
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(120)
    assert problems == []
    assert live.ok("GET", f"{node}/listlabels?sizes=true").body == before
