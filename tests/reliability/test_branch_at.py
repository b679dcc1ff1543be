"""A branch at any event shows what a fold of the events up to there shows, for every instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.events import decode
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.versions import View
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import mapping_ops

TEMPORAL = (32, 64, 65, 66, 67, 68, 80, 82, 84, 85, 88)
"""Kinds whose rows end in version and sequence: projections/KEYS.md."""

BRANCHES = 1000

Shown = dict[bytes, bytes]


def shown(txn: LmdbTxn, view: View) -> Shown:
    """All that a view shows of every instance, whatever it is."""
    found: Shown = {}
    for number in txn.repo.instances:
        for kind in TEMPORAL:
            prefix = instance_key(number, kind)
            found |= versioned.scan(txn, prefix, prefix + b"\xff" * 40, view)
    return found


def history(live: Any, rng: np.random.Generator, steps: int) -> str:
    """Write to two kinds of instances, over versions and branches."""
    root: str = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16", MaxDownresLevel="1")
    live.new_instance(root, "keyvalue", "kv")
    volume = oracle.cells((32, 32, 32), 12, 5)
    live.ok("POST", f"/api/node/{root}/seg/raw/0_1_2/32_32_32/0_0_0?downres=true", volume.tobytes())
    open_versions = [root]
    for step in range(steps):
        uuid = str(rng.choice(open_versions))
        seg = f"/api/node/{uuid}/seg"
        labels = live.ok("GET", f"{seg}/existing-labels").json()
        one, other = (int(label) for label in rng.choice(labels, 2))
        kind = int(rng.integers(0, 12))
        if kind < 3 and one != other and len(labels) > 4:
            live.ok("POST", f"{seg}/merge", json_body=[one, other])
        elif kind < 7:
            svs = live.ok("GET", f"{seg}/supervoxels/{one}").json()
            if len(svs) > 1:
                live.ok("POST", f"{seg}/cleave/{one}", json_body=svs[:1])
        elif kind == 7 and step % 2:
            live.ok("POST", f"{seg}/renumber", json_body=[10_000 + step, one])
        elif kind == 7:
            live.ok("POST", f"{seg}/mappings", mapping_ops({one: other}))
        elif kind == 8:
            part = volume[:16, :16, int(rng.integers(0, 16)) :][:, :, :16]
            box = f"{seg}/raw/0_1_2/16_16_16/16_0_0?mutate=true&downres=true"
            live.ok("POST", box, np.ascontiguousarray(part).tobytes())
        elif kind < 11:
            live.ok("POST", f"/api/node/{uuid}/kv/key/k{step % 7}", rng.bytes(step * 20))
        elif len(open_versions) < 3:
            live.ok("POST", f"/api/node/{uuid}/commit", json_body={"note": ""})
            open_versions.remove(uuid)
            for word, body in (("newversion", {}), ("branch", {"branch": f"b{step}"})):
                made = live.ok("POST", f"/api/node/{uuid}/{word}", json_body=body)
                open_versions.append(made.json()["child"])
    return root


def test_a_branch_at_each_of_a_thousand_moments_is_a_fold_up_to_there(
    live: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(11)
    root = history(live, rng, 240)
    stream = live.engine.streams.get(root)
    records = [decode(*one) for one in stream.log.read()]
    first = next(n for n, record in enumerate(records) if record.header.instance) + 1
    moments = np.sort(rng.integers(first, len(records), BRANCHES)).tolist()
    partial = Store(tmp_path / "partial", scratch=True)
    done, different = 0, 0
    before: Shown = {}
    for number, moment in enumerate(moments):
        with partial.write() as batch:
            folded = batch.scope(root, None, stream.packs)
            for record in records[done : moment + 1]:
                live.engine.projector.apply(folded, record)
        done = moment + 1
        with partial.read(root, stream.packs) as folded:
            versions = sorted(folded.repo.graph.by_id)
            version = int(rng.choice(versions))
            expected = shown(folded, folded.view(version))
            uuid = folded.repo.graph.by_id[version].uuid
        body = {"branch": f"at{number}", "at": moment}
        made = live.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()
        with live.engine.store.read(root, stream.packs) as txn:
            child = txn.repo.graph.by_uuid[made["child"]]
            assert shown(txn, txn.view(child.id)) == expected, (number, moment, version)
        different += expected != before
        before = expected
    partial.close()
    assert different > BRANCHES // 10  # most moments show something else than the one before


def test_all_temporal_kinds_are_compared() -> None:
    named = {n for n, kind in row_kinds().items() if not kind.name.startswith("cache")}
    present_only = {16, 33, 81, 83, 86, 87, 89, 90}
    unknown = named - set(TEMPORAL) - present_only
    assert not {kind for kind in unknown if kind < 91}, unknown


@pytest.mark.parametrize("late", [0, 1])
def test_a_branch_that_saw_one_event_more_would_be_caught(live: Any, late: int) -> None:
    """The planted bug: with `late`, the branch is made one event too late."""
    root = live.new_repo()
    live.new_instance(root, "keyvalue", "kv")
    wrote = [
        int(live.ok("POST", f"/api/node/{root}/kv/key/a", value).headers["x-dvid-es-seq"])
        for value in (b"1", b"2")
    ]
    stream = live.engine.streams.get(root)
    with live.engine.store.read(root, stream.packs) as txn:
        expected = shown(txn, txn.repo.graph.view(1, wrote[0]))
    body = {"branch": "b", "at": wrote[0] + late}
    made = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
    with live.engine.store.read(root, stream.packs) as txn:
        found = shown(txn, txn.view(txn.repo.graph.by_uuid[made].id))
    assert (found == expected) == (late == 0)
