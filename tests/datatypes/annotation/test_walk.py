"""annotation: every list follows random edits of elements and labels over versions; rebuilt = live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvid_es.datatypes.annotation.commands import UnderPoints
from dvid_es.projections import labels
from tests.datatypes.annotation.element_walk import ElementWalk
from tests.datatypes.annotation.kit import element, pair, slabs
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


def test_the_walk_catches_lists_that_do_not_follow_voxels(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "WATCHERS", [])
    walk = ElementWalk(live, 1)

    def check_each_step() -> None:
        for _ in range(135):
            walk.step({})
            for uuid in walk.open:
                walk.check_labels(uuid, walk.elements[uuid])

    with pytest.raises(AssertionError):
        check_each_step()


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Does something once, after a request has looked under its elements and before it is decided."""
    look = UnderPoints.look.__func__  # type: ignore[attr-defined]
    waiting: list[Any] = []

    def looked(cls: Any, *args: Any) -> Any:
        found = look(cls, *args)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(UnderPoints, "look", classmethod(looked))
    return waiting


def test_voxels_written_while_elements_are_posted_count(live: Any, between: Any) -> None:
    made = pair(live, slabs())
    changed = slabs()
    changed[:32, :, 8:16] = 70
    between.append(lambda: made.paint(changed))
    made.post(element(1, 1, 1), element(9, 1, 1), element(9, 1, 50))
    assert between == []
    assert made.at(1) == [[1, 1, 1]]
    assert made.at(70) == [[9, 1, 1]]
    assert made.at(2) == [[9, 1, 50]]


def test_a_sync_set_while_elements_are_posted_counts(live: Any, between: Any) -> None:
    made = pair(live, slabs())
    live.ok("POST", f"{made.syn()}/sync?replace=true", json_body={"sync": ""})
    sync = {"sync": "seg"}
    between.append(lambda: live.ok("POST", f"{made.syn()}/sync", json_body=sync))
    made.post(element(33, 1, 1))
    assert made.at(5) == [[33, 1, 1]]
    assert list(made.get("all-elements")) == ["1,0,0"], "blocks are those of the labels"


def test_elements_posted_while_lists_are_made_again_are_listed(live: Any, between: Any) -> None:
    made = pair(live, slabs())
    made.blocks({"0,0,0": [element(1, 1, 1), element(9, 1, 1)]})
    gone = f"{made.syn()}/element/1_1_1"
    between.append(lambda: (made.post(element(2, 2, 2)), live.ok("DELETE", gone)))
    live.ok("POST", f"{made.syn()}/reload")
    assert between == []
    assert made.at(1) == [[2, 2, 2]]
    assert made.at(2) == [[9, 1, 1]]
