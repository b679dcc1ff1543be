"""The mapping over graphs of versions: the overlay, the rows and a plain reference agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.bodies.events import MappingsPosted
from dvid_es.datatypes.labelmap.bodies.fold import fold_mappings_posted
from dvid_es.datatypes.labelmap.bodies.labelsets import to_bytes
from dvid_es.datatypes.labelmap.mapping import listing as mappinglist
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import overlay
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.errors import CorruptPack, VersionConflict
from dvid_es.events import Header, Record
from dvid_es.logs.packs import FilePacks
from dvid_es.projections.catalog import (
    CHECKPOINT,
    Instance,
    RepoDocument,
    checkpoint,
    load,
    put_instance,
    put_repo,
    put_version,
)
from dvid_es.projections.store import Store
from dvid_es.versions import Version, View

ROOT = "0" * 32
GRAPHS = {
    "line": {1: (), 2: (1,), 3: (2,), 4: (3,)},
    "branches": {1: (), 2: (1,), 3: (1,), 4: (2,), 5: (3,), 6: (2,)},
    "merge": {1: (), 2: (1,), 3: (1,), 4: (2, 3), 5: (4,)},
    "merges": {1: (), 2: (1,), 3: (1,), 4: (1,), 5: (2, 3), 6: (5, 4), 7: (6,), 8: (3, 4, 7)},
}
SVS = np.arange(1, 41, dtype=np.uint64)


class Rows:
    """One instance whose mapping is written by events without a log."""

    def __init__(self, folder: Path, graph: dict[int, tuple[int, ...]]) -> None:
        self.store = Store(folder / "store")
        self.packs = FilePacks(folder / "packs")
        self.entries: list[tuple[int, int, dict[int, int]]] = []
        with self.store.write() as batch:
            txn = batch.scope(ROOT, None, self.packs)
            put_repo(txn, RepoDocument(root=ROOT))
            for ordinal, parents in graph.items():
                put_version(txn, Version(id=ordinal, uuid=f"{ordinal:032x}", parents=parents))
            instance = Instance(id=1, name="seg", typename="labelmap", data_uuid="", version=1)
            put_instance(txn, instance)

    def post(self, version: int, entries: dict[int, int], run: bool) -> None:
        svs = np.array(sorted(entries), np.uint64)
        bodies = np.array([entries[int(sv)] for sv in svs], np.uint64)
        event = MappingsPosted(supervoxels=to_bytes(svs), bodies=to_bytes(bodies))
        if run:
            event = MappingsPosted(runs=(self.packs.put(mapruns.build(svs, bodies)),))
        offset = len(self.entries)
        with self.store.write() as batch:
            txn = batch.scope(ROOT, None, self.packs)
            fold_mappings_posted(txn, Record(offset, 0, Header(version=version, instance=1), event))
            txn.put(CHECKPOINT, (offset + 1).to_bytes(8, "big"))
        self.entries.append((version, offset, entries))

    def reference(self, sv: int, view: View) -> int | None:
        """The body of a supervoxel; None where parents of a version merge disagree."""
        newest: dict[int, int] = {}
        for version, sequence, entries in self.entries:
            if sv in entries and sequence <= view.bounds.get(version, -1):
                newest[version] = entries[sv]
        nearest = {
            body
            for version, body in newest.items()
            if not any(view.is_ancestor(version, other) for other in newest)
        }
        return None if len(nearest) > 1 else nearest.pop() if nearest else sv

    def check(self, at: int | None) -> None:
        with self.store.read(ROOT) as reading:
            repo = load(reading)
        txn = self.store.begin_read(repo, self.packs, at)
        try:
            for version in repo.graph.by_id:
                view = txn.view(version)
                found = mapping.Mapping.at(txn, 1, view)
                wanted = {int(sv): self.reference(int(sv), view) for sv in SVS}
                for sv, body in wanted.items():
                    one = np.array([sv], np.uint64)
                    if body is None:
                        with pytest.raises(VersionConflict):
                            found.map(one)
                        with pytest.raises(VersionConflict):
                            mapping.lookup_rows(txn, 1, view, one)
                    else:
                        assert found.map(one).tolist() == [body]
                        assert mapping.lookup_rows(txn, 1, view, one)[0].tolist() == [body]
                svs, bodies = mappinglist.all_entries(txn, 1, view)
                listed = dict(zip(svs.tolist(), bodies.tolist(), strict=True))
                for sv, body in wanted.items():
                    assert listed.get(sv, sv) == body if body is not None else sv not in listed
        finally:
            self.store.finish_read(txn)

    def close(self) -> None:
        self.store.close()
        self.packs.close()


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", [0, 1])
def test_overlay_rows_and_reference_agree_at_every_version_and_moment(
    tmp_path: Path, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    graph = GRAPHS[name]
    rows = Rows(tmp_path, graph)
    for number in range(24):
        # Versions are written one after the other, as a parent is locked before it has children.
        version = 1 + number * len(graph) // 24 if rng.random() < 0.8 else int(rng.integers(1, 3))
        chosen = rng.choice(SVS, int(rng.integers(1, 12)), replace=False)
        entries = {int(sv): int(rng.choice([0, sv, 100, 101, 102])) for sv in chosen}
        rows.post(version, entries, run=bool(rng.random() < 0.25))
        if number % 6 == 5:
            rows.check(None)
    for at in range(0, 24, 5):
        rows.check(at)
    rows.close()


def test_many_changes_of_one_supervoxel_and_of_many_are_found(tmp_path: Path) -> None:
    rows = Rows(tmp_path, GRAPHS["line"])
    rng = np.random.default_rng(3)
    expected: dict[int, int] = {}
    for number in range(60):
        svs = np.unique(rng.integers(1, 5000, 300))
        entries = {int(sv): number * 10_000 + int(sv) for sv in svs}
        rows.post(1, entries, run=False)
        expected |= entries
        if number % 20 == 0:  # the overlay grows between reads, not only before the first
            rows.check(None)
    with rows.store.read(ROOT) as reading:
        repo = load(reading)
    txn = rows.store.begin_read(repo, rows.packs)
    labels = rng.integers(0, 6000, 20_000).astype(np.uint64)
    got = mapping.Mapping.at(txn, 1, txn.view(4)).map(labels)
    assert got.tolist() == [expected.get(int(sv), int(sv)) for sv in labels]
    cold = overlay.Overlay(1)
    cold.catch_up(txn, checkpoint(txn) - 1)
    assert cold.nodes == overlay.overlay_of(rows.packs, 1).nodes
    rows.store.finish_read(txn)
    rows.close()


def test_a_mapping_without_entries_is_known_to_be_empty(tmp_path: Path) -> None:
    rows = Rows(tmp_path, GRAPHS["line"])
    rows.post(1, {}, run=False)
    with rows.store.read(ROOT) as reading:
        repo = load(reading)
    txn = rows.store.begin_read(repo, rows.packs)
    found = mapping.Mapping.at(txn, 1, txn.view(1))
    assert found.is_empty
    assert found.map(np.array([0, 5, 2**64 - 1], np.uint64)).tolist() == [0, 5, 2**64 - 1]
    rows.store.finish_read(txn)
    rows.post(1, {5: 6}, run=False)
    with rows.store.read(ROOT) as reading:
        repo = load(reading)
    txn = rows.store.begin_read(repo, rows.packs)
    assert not mapping.Mapping.at(txn, 1, txn.view(1)).is_empty
    rows.store.finish_read(txn)
    rows.close()


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 50_000])
def test_a_run_finds_what_is_in_it_and_nothing_else(count: int) -> None:
    rng = np.random.default_rng(count)
    svs = np.unique(rng.integers(1, 2**64 - 1, count, dtype=np.uint64))
    bodies = rng.integers(0, 2**63, len(svs)).astype(np.uint64)
    data = mapruns.build(svs, bodies)
    assert len(data) <= 17 * len(svs) + 40
    for skip in range(3):  # in a pack it lies at any address
        value = memoryview(b"x" * skip + data)[skip:]
        run = mapruns.open_run(3, 17, value)
        assert run.svs.tolist() == svs.tolist()
        assert run.bodies.tolist() == bodies.tolist()
        asked = np.concatenate([svs, svs - np.uint64(1), svs + np.uint64(1)])[:5000]
        stamps, out = np.zeros(len(asked), np.uint64), asked.copy()
        mapruns.kernels.look_up_run(run.data, asked, np.uint64(run.stamp), stamps, out)
        expected = dict(zip(svs.tolist(), bodies.tolist(), strict=True))
        assert out.tolist() == [expected.get(sv, sv) for sv in asked.tolist()]
        assert (stamps > 0).tolist() == [sv in expected for sv in asked.tolist()]


def test_a_damaged_run_is_refused_before_a_kernel_reads_it() -> None:
    data = mapruns.build(SVS, SVS)
    for broken in (b"", data[:10], data[:-1], data + b"\0", b"\2" + data[1:]):
        with pytest.raises(CorruptPack):
            mapruns.open_run(1, 1, broken)
