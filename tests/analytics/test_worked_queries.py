"""Each worked query of docs/analytics.md against a plain computation over the events."""

from __future__ import annotations

import datetime
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.bodies.events import Cleaved, Merged
from dvid_es.datatypes.labelmap.undo.events import Redone, Reversal, Undone
from dvid_es.events import Record
from tests.analytics.conftest import History, random_history

PAGE = Path(__file__).parents[2] / "docs" / "analytics.md"
TIME = datetime.datetime(2023, 11, 20)  # noqa: DTZ001 - UTC, as queries say it


def worked(title: str) -> str:
    found = re.search(
        rf"^### {re.escape(title)}\n.*?```sql\n(.*?)```", PAGE.read_text(), re.M | re.S
    )
    assert found, title
    return found[1]


@pytest.fixture(params=["exported", "live", "both"])
def busy(history: History, request: pytest.FixtureRequest) -> History:
    """The same history, all of it exported, none of it, or a half."""
    random_history(history, 400)
    if request.param == "both":
        history.export(part_events=100)
    random_history(history, 400, seed=6)
    if request.param == "exported":
        history.export(part_events=100)
    return history


def edits(history: History) -> list[Record]:
    return [r for r in history.records() if isinstance(r.event, Merged | Cleaved)]


def when(record: Record) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.time_ns / 1e9, datetime.UTC).replace(tzinfo=None)


def numbers(bulk: Any) -> list[int]:
    found: list[int] = np.frombuffer(bulk, "<u8").tolist()
    return found


def test_proofreading_per_user_per_day(busy: History) -> None:
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for record in edits(busy):
        event = record.event
        total = totals[(when(record).date().isoformat(), record.header.user)]
        total[0] += 1
        total[1] += event.voxels if isinstance(event, Merged) else event.cleaved_voxels
    expected = [(day, user, *total) for (day, user), total in totals.items()]
    expected.sort(key=lambda row: (row[0], -row[2], row[1]))
    assert busy.ask(worked("Proofreading per user per day")) == expected


def reverse(history: History) -> dict[int, bool]:
    """Undo some merges, redo some of these, and return which of them are undone in the end."""
    merges = [r.offset for r in edits(history) if isinstance(r.event, Merged) and when(r) >= TIME]
    undone = {}
    for place, sequence in enumerate(merges[::3]):
        kinds: list[type[Reversal]] = [[Undone], [Undone, Redone], [Undone, Redone, Undone]][
            place % 3
        ]
        for kind in kinds:
            history.add(kind(sequence=sequence, version=1, mutation=7, action="merge"), day=400)
        undone[sequence] = kinds[-1] is Undone
    assert set(undone.values()) == {True, False}
    return undone


def test_edits_that_survived(busy: History) -> None:
    undone = reverse(busy)
    records = [record for record in edits(busy) if when(record) >= TIME]
    merged: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    for place, record in enumerate(records):
        if not isinstance(record.event, Merged):
            continue
        for body in numbers(record.event.bodies):
            merged[record.header.user] += 1
            survived[record.header.user] += not undone.get(record.offset) and not any(
                body in numbers(later.event.supervoxels)
                for later in records[place + 1 :]
                if isinstance(later.event, Cleaved)
            )
    expected = [(user, merged[user], survived[user]) for user in merged]
    expected.sort(key=lambda row: (-row[1], row[0]))
    assert 0 < sum(survived.values()) < sum(merged.values())
    assert busy.ask(worked("Edits that survived"), {"since": TIME.isoformat()}) == expected


def test_top_merged_bodies(busy: History) -> None:
    totals: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for record in edits(busy):
        if isinstance(record.event, Merged) and when(record) >= TIME:
            total = totals[record.event.target]
            total[0] += 1
            total[1] += len(numbers(record.event.bodies))
            total[2] += record.event.voxels
    expected = sorted(
        ((body, *total) for body, total in totals.items()), key=lambda row: (-row[1], row[0])
    )
    assert busy.ask(worked("Top merged bodies"), {"since": TIME.isoformat()}) == expected[:20]


def test_the_history_of_a_body(busy: History) -> None:
    body = 31
    expected = []
    for record in edits(busy):
        event = record.event
        roles = []
        if isinstance(event, Merged):
            roles += [("target", event.target), *(("merged", b) for b in numbers(event.bodies))]
            action, target = "labelmap.merge", event.target
        else:
            assert isinstance(event, Cleaved)
            roles += [("target", event.body), ("new", event.new_body)]
            roles += [("cleaved", b) for b in numbers(event.supervoxels)]
            action, target = "labelmap.cleave", event.body
        expected += [
            (record.offset, when(record).isoformat(), record.header.user, action, role, target)
            for role, label in sorted(roles)
            if label == body
        ]
    assert {row[4] for row in expected} == {"merged", "cleaved"}
    assert busy.ask(worked("History of a body"), {"body": body}) == expected


def test_contested_bodies(busy: History) -> None:
    merges: Counter[int] = Counter()
    cleaves: Counter[int] = Counter()
    users: dict[int, set[str]] = defaultdict(set)
    for record in edits(busy):
        if when(record) < TIME:
            continue
        event = record.event
        body = event.target if isinstance(event, Merged) else event.body  # type: ignore[attr-defined]
        (merges if isinstance(event, Merged) else cleaves)[body] += 1
        users[body].add(record.header.user)
    expected = [
        (body, merges[body], cleaves[body], len(users[body]))
        for body in cleaves
        if cleaves[body] >= 10 and len(users[body]) >= 2
    ]
    expected.sort(key=lambda row: (-min(row[1], row[2]), row[0]))
    assert len(expected) > 5
    assert (
        busy.ask(worked("Contested bodies"), {"since": TIME.isoformat(), "times": 10})
        == expected[:20]
    )


def test_every_worked_query_of_the_page_has_a_test() -> None:
    titles = re.findall(r"^### (.*)$", PAGE.read_text(), re.M)
    here = Path(__file__).read_text()
    assert len(titles) == 5
    assert [title for title in titles if f'worked("{title}")' not in here] == []
