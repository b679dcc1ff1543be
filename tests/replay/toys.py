"""A small world of its own: three kinds of events, their folds, and logs of them."""

from __future__ import annotations

import random
from pathlib import Path

from dvid_es.events import Event, Header, Record, encode_event, encode_header
from dvid_es.logs.base import Entry
from dvid_es.logs.filelog import FileLog
from dvid_es.logs.packs import FilePacks
from dvid_es.projections import catalog, versioned
from dvid_es.projections.projector import Projector
from dvid_es.projections.txn import WriteTxn
from dvid_es.replay.digest import Kind
from dvid_es.replay.places import Places
from dvid_es.streams import Stream
from dvid_es.versions import Version

KIND = 200
KINDS = {KIND: Kind("toy values"), 201: Kind("cache of toys")}


class Born(Event):
    root: str


class Branched(Event):
    parent: int


class ValueSet(Event):
    key: str
    value: bytes


def fold_born(txn: WriteTxn, record: Record) -> None:
    assert isinstance(record.event, Born)
    catalog.put_repo(txn, catalog.RepoDocument(root=record.event.root))
    catalog.put_version(txn, Version(id=1, uuid=record.event.root))


def fold_branched(txn: WriteTxn, record: Record) -> None:
    assert isinstance(record.event, Branched)
    ordinal = txn.repo.graph.next_id
    catalog.put_version(
        txn, Version(id=ordinal, uuid=f"{ordinal:032x}", parents=(record.event.parent,))
    )


def fold_value(txn: WriteTxn, record: Record) -> None:
    assert isinstance(record.event, ValueSet)
    key = catalog.instance_key(1, KIND) + record.event.key.encode()
    versioned.put(txn, key, record.header.version, record.offset, record.event.value)


class Toys:
    """A data folder with the logs of some repositories."""

    def __init__(self, data: Path) -> None:
        self.places = Places(data)
        self.projector = Projector(
            {Born: (fold_born,), Branched: (fold_branched,), ValueSet: (fold_value,)}
        )
        self.kinds = KINDS
        self.streams: list[Stream] = []

    def stream(self, root: str) -> Stream:
        folder = self.places.repos / root
        made = Stream(root, FileLog(folder / "log", root), FilePacks(folder / "packs"))
        self.streams.append(made)
        if made.log.end == 0:
            self.append(made, [(Born(root=root), Header())])
        return made

    def append(self, stream: Stream, events: list[tuple[Event, Header]]) -> None:
        entries = []
        for number, (happened, header) in enumerate(events):
            kind, schema, facts = encode_event(happened)
            time_ns = stream.log.end + number
            entries.append(Entry(kind, schema, time_ns, encode_header(header), facts))
        stream.log.append(entries)
        stream.log.sync()

    def history(self, stream: Stream, seed: int, count: int) -> None:
        """Append a random history: values, tombstones, branches, idempotency keys."""
        dice = random.Random(seed)
        versions = 1
        events: list[tuple[Event, Header]] = []
        for number in range(count):
            header = Header(version=dice.randint(1, versions), mutation_id=1_000_000_000 + number)
            if dice.random() < 0.02:
                events.append((Branched(parent=header.version), header))
                versions += 1
                continue
            if dice.random() < 0.1:
                header = Header(
                    version=header.version, idempotency_key=f"{seed}-{number}", answer=b"done"
                )
            value = b"" if dice.random() < 0.2 else dice.randbytes(dice.randint(1, 90))
            events.append((ValueSet(key=f"key {dice.randint(0, 60)}", value=value), header))
        self.append(stream, events)

    @property
    def ends(self) -> dict[str, int]:
        return {stream.root: stream.log.end for stream in self.streams}

    def close(self) -> None:
        for stream in self.streams:
            stream.log.close()
            stream.packs.close()
        self.streams.clear()
