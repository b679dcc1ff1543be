from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest

from dvid_es.analytics.columns import EVENTS, LABELS, Columns, batches, joined
from dvid_es.bootstrap import described
from dvid_es.codecs import labelindex
from dvid_es.datatypes.keyvalue.events import ValuesPut
from dvid_es.datatypes.labelmap.bodies.events import IndicesPut, MappingsPosted, Renumbered
from dvid_es.datatypes.labelmap.mapping import runs
from dvid_es.datatypes.labelmap.splits.events import BodySplit, SupervoxelSplit
from dvid_es.datatypes.labelmap.touched import LISTED_RUN_BYTES
from dvid_es.datatypes.labelmap.undo.events import Undone
from dvid_es.errors import CorruptLog
from dvid_es.events import Bulk, Header, encode_header
from dvid_es.ids import FIRST_MUTATION_ID, PackRef
from dvid_es.logs.base import Entry
from dvid_es.repos.events import RepoCreated
from tests.analytics.conftest import History, cleaved, labels, merged


def columns(history: History, fetch: Any = bytes) -> Columns:
    found = joined(list(batches(history.log.read(), described().events, fetch)))
    assert found.events.schema == EVENTS
    assert found.labels.schema == LABELS
    return found


def rows(history: History, fetch: Any = bytes) -> set[tuple[int, str, int | None]]:
    table = columns(history, fetch).labels
    assert set(table["seq"].to_pylist()) <= {0}
    return {(row["label"], row["role"], row["other"]) for row in table.to_pylist()}


def test_a_merge_touches_its_target_and_the_bodies_that_are_gone(history: History) -> None:
    history.add(merged(5, 7, 2**64 - 1, voxels=99), user="ann", version=3)
    assert rows(history) == {(5, "target", None), (7, "merged", None), (2**64 - 1, "merged", None)}
    (event,) = columns(history).events.to_pylist()
    assert event.pop("time") == datetime(2023, 11, 14, 22, 13, 20)  # noqa: DTZ001 - UTC, as stored
    assert event == {
        "seq": 0, "action": "labelmap.merge", "version": 3, "instance": 1,
        "mutation_id": FIRST_MUTATION_ID, "user": "ann", "app": "tests", "target": 5, "labels": 3,
        "voxels": 99, "facts": None,
    }  # fmt: skip


def test_a_cleave_touches_the_body_the_new_one_and_the_supervoxels(history: History) -> None:
    history.add(cleaved(5, 9, 7, 8, voxels=4))
    assert rows(history) == {
        (5, "target", None), (9, "new", None), (7, "cleaved", None), (8, "cleaved", None),
    }  # fmt: skip
    assert columns(history).events["voxels"].to_pylist() == [4]


def test_a_renumbering_touches_both_labels(history: History) -> None:
    history.add(Renumbered(old=5, new=6, supervoxels=labels(5), retires_new=False))
    assert rows(history) == {(6, "target", None), (5, "renumbered", None)}


def test_a_split_supervoxel_leads_to_both_of_its_parts(history: History) -> None:
    history.add(
        SupervoxelSplit(
            supervoxel=7, body=5, split=70, remain=71, split_voxels=3, remain_voxels=4, given=71,
            chosen=0, runs=b"", coords=b"", blocks=(), counts=b"",
        )
    )  # fmt: skip
    assert rows(history) == {
        (5, "target", None), (7, "divided", None), (70, "split", 7), (71, "remain", 7),
    }  # fmt: skip


def test_the_parts_of_a_split_body_lead_back_to_their_supervoxels(history: History) -> None:
    history.add(
        BodySplit(
            body=5, new_body=9, given=33, supervoxels=labels(7, 8), splits=labels(30, 31),
            remains=labels(32, 33), runs=b"", coords=b"", blocks=(), counts=b"",
        )
    )  # fmt: skip
    assert rows(history) == {
        (5, "target", None), (9, "new", None), (7, "divided", None), (8, "divided", None),
        (30, "split", 7), (31, "split", 8), (32, "remain", 7), (33, "remain", 8),
    }  # fmt: skip


def test_a_posted_mapping_lists_its_entries_also_those_in_packs(history: History) -> None:
    run = runs.build(np.array([4, 6], np.uint64), np.array([40, 60], np.uint64))
    ref = PackRef(1, 0, len(run), 0, b"x" * 16)
    history.add(MappingsPosted(supervoxels=labels(1, 2), bodies=labels(10, 20), runs=(ref,)))

    def fetch(bulk: Bulk) -> bytes:
        return run if bulk == ref else bytes(bulk)

    assert rows(history, fetch) == {
        (1, "mapped", 10), (2, "mapped", 20), (4, "mapped", 40), (6, "mapped", 60),
    }  # fmt: skip


def test_of_a_very_large_mapping_only_its_size_is_told(history: History) -> None:
    ref = PackRef(1, 0, LISTED_RUN_BYTES + 1, 0, b"x" * 16)
    history.add(MappingsPosted(runs=(ref,)))
    assert rows(history) == set()
    assert columns(history).events["facts"].to_pylist() == [f'{{"runs":[{ref.length}]}}']


def test_posted_indices_name_their_bodies(history: History) -> None:
    index = labelindex.encode(labelindex.LabelIndex(77))
    history.add(IndicesPut(indices=labelindex.encode_all([index])))
    assert rows(history) == {(77, "posted", None)}


def test_an_undo_names_what_changes_and_what_is_undone(history: History) -> None:
    history.add(
        Undone(
            sequence=3, version=1, mutation=99, action="merge", bodies=labels(5, 7),
            supervoxels=labels(7, 8), mapped=labels(2**64 - 1, 5),
        )
    )  # fmt: skip
    assert rows(history) == {
        (5, "target", None), (7, "changed", None), (7, "mapped", 0), (8, "mapped", 5),
    }  # fmt: skip
    (event,) = columns(history).events.to_pylist()
    assert event["target"] == 5
    assert event["facts"] == '{"sequence":3,"mutation":99,"action":"merge"}'


def test_events_that_declare_nothing_show_their_facts_without_bulk_and_secrets(
    history: History,
) -> None:
    history.add(
        RepoCreated(root="a", passcode="hidden"),
        ValuesPut(keys=("k",) * 2, values=(b"abc", PackRef(1, 2, 3000, 4, b"d" * 16))),
        ValuesPut(keys=("k",) * 100, values=(b"",) * 100),
    )
    table = columns(history)
    first, second, third = table.events["facts"].to_pylist()
    assert "hidden" not in first
    assert "passcode" not in first
    assert second == '{"keys":["k","k"],"values":[{"bytes":3},{"bytes":3000}],"addressed":0}'
    assert third == '{"keys":{"items":100},"values":{"items":100},"addressed":0}'
    assert table.labels.num_rows == 0


def test_many_events_of_many_kinds_keep_their_order(history: History) -> None:
    events = [merged(n, n + 1) if n % 3 else cleaved(n, n + 1, n + 2) for n in range(1, 200)]
    history.add(*events)
    found = columns(history)
    assert found.events["seq"].to_pylist() == list(range(199))
    assert found.events["target"].to_pylist() == list(range(1, 200))
    for row in found.labels.to_pylist():
        target = row["seq"] + 1
        assert row["label"] - target in (0, 1, 2)
        assert row["seq"] + row["mutation_offset"] == FIRST_MUTATION_ID + row["seq"]


def test_an_unknown_event_stops(history: History) -> None:
    history.log.append([Entry(65_000, 1, 0, encode_header(Header()), b"\x90")])
    with pytest.raises(CorruptLog, match="not known"):
        columns(history)


def test_facts_that_do_not_fit_stop_and_name_the_event(history: History) -> None:
    history.add(merged(5, 7))
    history.log.append([Entry(120, 1, 0, encode_header(Header()), b"\x91\xa1x")])
    with pytest.raises(CorruptLog, match=r"offset 1: labelmap\.merge cannot be read"):
        columns(history)
