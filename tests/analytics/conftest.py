from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dvid_es.analytics.export import PART_EVENTS, Source, export
from dvid_es.analytics.parts import Manifest
from dvid_es.analytics.pool import Pool
from dvid_es.analytics.service import Analytics, Limits, Query, Subject
from dvid_es.bootstrap import described
from dvid_es.datatypes.labelmap.bodies.events import Cleaved, Merged
from dvid_es.events import Event, Header, Record, decode, encode_event, encode_header
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.logs.base import Entry
from dvid_es.logs.memory import MemoryLog
from dvid_es.projections.catalog import Repo
from dvid_es.projections.txn import ReadTxn
from tests.analytics.synthetic import ROOT, synthetic_repo

DAY_NS = 86_400_000_000_000
START_NS = 1_700_000_000_000_000_000


def labels(*values: int) -> bytes:
    return np.array(values, "<u8").tobytes()


def merged(target: int, *bodies: int, voxels: int = 10) -> Merged:
    return Merged(
        target=target, bodies=labels(*bodies), sizes=b"\1\0\0\0" * len(bodies),
        supervoxels=labels(*bodies), voxels=voxels,
    )  # fmt: skip


def cleaved(body: int, new_body: int, *supervoxels: int, voxels: int = 5) -> Cleaved:
    return Cleaved(
        body=body, new_body=new_body, supervoxels=labels(*supervoxels), ghosts=b"",
        cleaved_voxels=voxels, remain_voxels=7,
    )  # fmt: skip


class History:
    """A repository in memory: events as they come, their export, and queries over both."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self.folder = folder
        self.log = MemoryLog(ROOT)
        self.repo = synthetic_repo()
        self.analytics = Analytics(folder / "exports", described(), Limits(), folder / "scratch")
        self.analytics._pool = pool

    def add(self, *events: Event, user: str = "ann", day: float = 0.0, version: int = 1) -> None:
        entries = []
        for number, event in enumerate(events, self.log.end):
            kind, schema, facts = encode_event(event)
            header = Header(
                version=version, instance=1, mutation_id=FIRST_MUTATION_ID + number, user=user,
                app="tests",
            )  # fmt: skip
            time_ns = START_NS + int(day * DAY_NS) + number * 1_000_000
            entries.append(Entry(kind, schema, time_ns, encode_header(header), facts))
        self.log.append(entries)
        self.log.sync()

    def records(self) -> list[Record]:
        return [decode(*stored) for stored in self.log.read()]

    @property
    def source(self) -> Source:
        return Source(self.repo, self.log, self.log.end, bytes, self._begin)

    @contextmanager
    def _begin(self, repo: Repo) -> Iterator[ReadTxn]:
        raise AssertionError("no projections here")
        yield

    def export(self, part_events: int = PART_EVENTS, **more: Any) -> Manifest:
        return export(
            self.source,
            self.folder / "exports" / ROOT,
            described(),
            part_events=part_events,
            **more,
        )

    def subject(self) -> Subject:
        repo = msgspec.structs.replace(self.repo, sequence=self.log.end - 1)
        return Subject(ROOT, lambda: repo, self.log, bytes, self._begin, lambda *_: 1)

    def ask(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.analytics.slot() as job:
            body = self.analytics.answer(Query(sql, parameters), self.subject(), job).body
        rows: Sequence[Sequence[Any]] = json.loads(body)["rows"]
        return [tuple(row) for row in rows]


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """The processes that run queries: starting them is most of what a short test takes."""
    found = Pool(2)
    yield found
    found.close()


@pytest.fixture
def history(tmp_path: Path, pool: Pool) -> History:
    return History(tmp_path, pool)


def random_history(history: History, events: int, seed: int = 5) -> None:
    """Add merges and cleaves of few bodies by few people, over many days."""
    random = np.random.default_rng(seed)
    for number in range(events):
        target = int(random.integers(1, 12))
        some = [int(label) for label in random.integers(20, 60, int(random.integers(1, 4)))]
        event: Event = merged(target, *some, voxels=int(random.integers(1, 100)))
        if random.random() < 0.3:
            event = cleaved(target, 1000 + number, *some, voxels=int(random.integers(1, 50)))
        user = ["ann", "bob", "cid", "dee"][int(random.integers(0, 4))]
        history.add(event, user=user, day=number / 4, version=1 + number * 3 // events)
