"""Random splits over versions against a model, at all scales, and the same again from the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import row_kinds
from dvid_es.replay.verify import verify
from dvid_es.settings import Settings
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import Model, check_version, volume_of

SHAPE = (64, 64, 96)


@pytest.fixture
def splitting(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "splitting", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


class Walk:
    """One labelmap of two versions, and random steps in either."""

    def __init__(self, live: Any, seed: int) -> None:
        self.live, self.rng = live, np.random.default_rng(seed)
        self.root = live.new_repo()
        live.new_instance(self.root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
        volume = volume_of(SHAPE, 12, seed)
        oracle.Segmentation(live, self.root).post(volume)
        self.version, self.model = self.root, Model(volume)
        self.kept: list[tuple[str, Model]] = []

    @property
    def node(self) -> str:
        return f"/api/node/{self.version}/seg"

    def pick(self, items: Any) -> int:
        return int(self.rng.choice(sorted(items)))

    def ball(self, inside: Any) -> Any:
        """The voxels of a random ball around one of those inside."""
        centre = self.rng.choice(np.argwhere(inside))
        z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        radius = int(self.rng.integers(3, 30))
        return sum((a - c) ** 2 for a, c in zip((z, y, x), centre, strict=True)) <= radius**2

    def merge(self) -> None:
        target, other = self.pick(self.model.bodies), self.pick(self.model.bodies)
        if target != other:
            made = self.live.ok("POST", f"{self.node}/merge", json_body=[target, other]).json()
            self.model.merge(target, [other], made["MutationID"])

    def supervoxel(self) -> None:
        sv = self.pick(self.model.counts())
        own = self.model.volume == sv
        mask = own & self.ball(own)
        path = f"{self.node}/split-supervoxel/{sv}"
        answer = self.live.call("POST", path, cases.blob_of(mask))
        if mask.sum() == own.sum():
            assert answer.status == 400
            return
        assert answer.status == 200, answer.body
        cases.split_supervoxel(self.model, sv, mask, answer.json())

    def body(self) -> None:
        body = self.pick(self.model.bodies)
        own = self.model.mask(self.model.bodies[body])
        mask = self.ball(own) & (own | (self.model.volume == 0))
        answer = self.live.call("POST", f"{self.node}/split/{body}", cases.blob_of(mask))
        if mask.sum() >= own.sum():
            assert answer.status == 400
            return
        assert answer.status == 200, answer.body
        records = self.live.ok("GET", f"{self.node}/mutations").json()
        parts = records[-1]["SVSplits"].items()
        made = {int(sv): (part["Split"], part["Remain"]) for sv, part in parts}
        cases.split_body(self.model, body, mask, answer.json(), made)

    def write(self) -> None:
        volume = self.model.volume.copy()
        volume[:32, :32, 32:64] = self.pick(self.model.counts())
        oracle.Segmentation(self.live, self.version).post(volume)
        self.model.write(volume)

    def branch(self) -> None:
        self.kept.append((self.version, self.model.child()))
        self.live.commit(self.version)
        self.version = self.live.new_version(self.version)

    def check(self) -> None:
        for version, model in [*self.kept, (self.version, self.model)]:
            check_version(self.live, f"/api/node/{version}/seg", model, [])
            cases.check_scales(self.live, version, model.volume, 2)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_splits_agree_with_numpy_at_all_scales_and_after_a_rebuild(
    splitting: Any, seed: int, tmp_path: Path
) -> None:
    walk = Walk(splitting, seed)
    for number in range(24):
        kinds = ["supervoxel"] * 4 + ["body"] * 4 + ["merge"] * 3 + ["write"]
        getattr(walk, str(walk.rng.choice(kinds)))()
        if number == 12:
            walk.branch()
    walk.check()
    engine = splitting.engine
    streams, kinds = engine.streams.all(), row_kinds()
    report = verify(engine.store, streams, engine.projector, kinds, tmp_path / "scratch")
    assert report.differences == []
