from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from tests.datatypes.labelmap.body_model import mapping_ops
from tests.datatypes.labelmap.edit_walk import Walk


def test_many_supervoxels_are_looked_up_as_one_by_one(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(live, 41)
    entries = {sv: sv % 7 + 1 for sv in range(3, 2 * mapruns.MIN_ENTRIES, 2)}
    live.ok("POST", f"{walk.node(walk.root)}/mappings", mapping_ops(entries))
    walk.run(24, {"merge": 4, "cleave": 3, "renumber": 1, "mappings": 2})
    for edit in walk.edits[-4:]:
        node = walk.node(walk.open[-1])
        number = edit.mutation or edit.sequence
        live.call("POST", f"{node}/undo", json_body={"mutation": number})
    stream, repo, _ = live.engine.resolve(walk.root)
    instance = repo.names["seg"].id
    svs = np.array([*range(200), 9001, 8191, 2**64 - 1], np.uint64)
    compared = 0
    for at in (None, *range(0, repo.sequence, 2)):
        txn = live.engine.store.begin_read(repo, stream.packs, at)
        try:
            for version in repo.graph.by_id:
                view = txn.view(version)
                answers = []
                for many in (1, 10**9):
                    monkeypatch.setattr(mapping, "_MANY", many)
                    answers.append(mapping.lookup_rows(txn, instance, view, svs))
                for one, other in zip(*answers, strict=True):
                    assert np.array_equal(one, other), (at, version)
                compared += int(answers[0][1].sum())
        finally:
            live.engine.store.finish_read(txn)
    assert compared > 1000


def test_who_read_before_there_was_a_large_mapping_sees_it_from_then_on(live: Any) -> None:
    walk = Walk(live, 42)
    node = walk.node(walk.root)
    asked = [3, 5, 2 * mapruns.MIN_ENTRIES + 1]

    def bodies(options: str = "") -> list[int]:
        found: list[int] = live.ok("GET", f"{node}/mapping{options}", json_body=asked).json()
        return found

    before = bodies()
    entries = {sv: 100_000 + sv for sv in range(1, 2 * mapruns.MIN_ENTRIES + 2, 2)}
    answer = live.ok("POST", f"{node}/mappings", mapping_ops(entries))
    sequence = int(answer.headers["x-dvid-es-seq"])
    assert bodies() == [entries[sv] for sv in asked] != before
    assert bodies(f"?at={sequence - 1}") == before
    live.ok("POST", f"{node}/mappings", mapping_ops({5: 77}))
    assert bodies() == [entries[3], 77, entries[asked[2]]]
