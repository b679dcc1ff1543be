"""annotation: every list follows random edits of elements and labels over versions; rebuilt = live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.datatypes.annotation.element_walk import ElementWalk
from tests.datatypes.labelarray.label_model import check_rebuilt


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lists_follow_random_edits_over_versions(live: Any, seed: int, tmp_path: Path) -> None:
    walk = ElementWalk(live, seed)
    for part in range(3):
        for _ in range(45):
            walk.step({})
        walk.check(walk.open[0])
        if part < 2:
            walk.version(walk.open[0], walk.models[walk.open[0]])
    assert len(walk.models) > 2
    for uuid in walk.models:
        walk.check(uuid)
    check_rebuilt(live, tmp_path)
