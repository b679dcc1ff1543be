from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvid_es.events import BY_CLASS, BY_NUMBER, event
from tests.replay.toys import Born, Branched, Toys, ValueSet


@pytest.fixture(autouse=True)
def toy_events() -> Iterator[None]:
    kinds = ((64101, Born), (64102, Branched), (64103, ValueSet))
    for number, kind in kinds:
        event(number, f"toy.{kind.__name__.lower()}")(kind)
    yield
    for number, kind in kinds:
        del BY_NUMBER[number], BY_CLASS[kind]


@pytest.fixture
def toys(toy_events: None, tmp_path: Path) -> Iterator[Toys]:
    made = Toys(tmp_path / "data")
    yield made
    made.close()
