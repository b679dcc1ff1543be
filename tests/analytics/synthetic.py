"""A long history of made-up proofreading, written straight into a log: what analytics are measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvid_es.datatypes.labelmap.bodies.events import Cleaved, Merged
from dvid_es.events import Event, Header, encode_event, encode_header
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.logs.base import Entry
from dvid_es.logs.filelog import FileLog
from dvid_es.projections.catalog import Instance, Repo, RepoDocument
from dvid_es.repos.events import InstanceCreated, RepoCreated, VersionCreated
from dvid_es.versions import Version, VersionGraph

ROOT = "5e" * 16
START_NS = 1_600_000_000_000_000_000
STEP_NS = 15_000_000_000
"""Mutations are this far apart on average: ten million of them take nearly five years."""

BODIES = 50_000_000
NEURONS = 200_000
USERS = [f"user{number:02d}@lab.org" for number in range(60)]
VERSIONS = 20
BATCH = 20_000


def version_uuid(ordinal: int) -> str:
    return ROOT if ordinal == 1 else f"{ordinal:032x}"


def synthetic_repo() -> Repo:
    """Return the repository that the events are about."""
    versions = [
        Version(
            id=ordinal, uuid=version_uuid(ordinal), parents=(ordinal - 1,) if ordinal > 1 else (),
            locked=ordinal < VERSIONS, created_ns=START_NS,
        )
        for ordinal in range(1, VERSIONS + 1)
    ]  # fmt: skip
    segmentation = Instance(
        id=1, name="segmentation", typename="labelmap", data_uuid="d" * 32, version=1
    )
    return Repo(
        document=RepoDocument(root=ROOT),
        graph=VersionGraph(versions),
        instances={1: segmentation},
        names={"segmentation": segmentation},
    )


def _entry(event: Event, header: Header, time_ns: int) -> Entry:
    number, schema, facts = encode_event(event)
    return Entry(number, schema, time_ns, encode_header(header), facts)


def _first_entries() -> list[Entry]:
    created = InstanceCreated(
        id=1, name="segmentation", typename="labelmap", data_uuid="d" * 32,
        compression="", checksum="",
    )  # fmt: skip
    events: list[tuple[Event, Header]] = [
        (RepoCreated(root=ROOT), Header()),
        (created, Header(version=1, instance=1)),
    ]
    for ordinal in range(2, VERSIONS + 1):
        event = VersionCreated(id=ordinal, uuid=version_uuid(ordinal), parents=(ordinal - 1,))
        events.append((event, Header(version=ordinal)))
    return [_entry(event, header, START_NS) for event, header in events]


def write_history(folder: Path, mutations: int, *, more: int = 0, seed: int = 1) -> FileLog:
    """Return a log of `mutations` merges and cleaves, still open.

    Args:
        folder: of the log; made, or with `more` opened again.
        mutations: how many, in all.
        more: how many of them are there already.
        seed: of what is random.
    """
    log = FileLog(folder, ROOT, segment_bytes=32 << 20)
    if not more:
        log.append(_first_entries())
    random = np.random.default_rng([seed, more])
    for first in range(more, mutations, BATCH):
        log.append(_batch(random, first, min(BATCH, mutations - first), mutations))
    log.sync()
    return log


def _batch(random: np.random.Generator, first: int, count: int, mutations: int) -> list[Entry]:
    """Return `count` mutations: nine merges of one to three bodies for each cleave."""
    cleaves = random.random(count) < 0.1
    # Four in five mutations concern one of the neurons, large ones more often; the others any fragment.
    of_neuron = (NEURONS * random.random(count) ** 3).astype(np.int64)
    any_body = random.integers(0, BODIES, count)
    targets = np.where(random.random(count) < 0.8, of_neuron, any_body) + 1_000_000
    sizes = np.where(cleaves, random.geometric(0.25, count), random.geometric(0.75, count))
    labels = random.integers(1_000_000, 1_000_000 + BODIES, int(sizes.sum()), dtype=np.uint64)
    voxels = random.lognormal(9, 2, count).astype(np.int64) + 1
    users = (len(USERS) * random.random(count) ** 2).astype(np.int64).tolist()
    jitter = random.integers(0, STEP_NS // 1000, count).tolist()
    entries = []
    at = 0
    for number, (cleave, target, size, moved, user) in enumerate(
        zip(
            cleaves.tolist(), targets.tolist(), sizes.tolist(), voxels.tolist(), users, strict=True
        ),
        first,
    ):
        some = np.sort(labels[at : at + size]).tobytes()
        at += size
        event: Event
        if cleave:
            event = Cleaved(
                body=target, new_body=2_000_000_000 + number, supervoxels=some, ghosts=b"",
                cleaved_voxels=moved, remain_voxels=7 * moved,
            )  # fmt: skip
        else:
            event = Merged(
                target=target, bodies=some, sizes=b"\x01\0\0\0" * size, supervoxels=some,
                voxels=moved,
            )  # fmt: skip
        header = Header(
            version=number * VERSIONS // max(mutations, 10_000_000) + 1, instance=1,
            mutation_id=FIRST_MUTATION_ID + number, user=USERS[user], app="neu3",
        )  # fmt: skip
        time_ns = START_NS + number * STEP_NS + jitter[number - first] * 1000
        entries.append(_entry(event, header, time_ns))
    return entries
