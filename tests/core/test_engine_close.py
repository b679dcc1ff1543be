from __future__ import annotations

import pytest

from dvid_es.bootstrap import make_engine
from dvid_es.errors import WritesHalted
from dvid_es.projections.store import Store
from dvid_es.settings import Settings
from dvid_es.streams import Streams


def test_an_engine_that_closed_in_order_leaves_the_marker(settings: Settings) -> None:
    make_engine(settings).close()
    assert (settings.data / "clean-stop").exists()


@pytest.mark.parametrize("what", [(Streams, "close"), (Store, "sync")])
def test_an_engine_that_could_not_close_in_order_leaves_no_marker_and_no_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, what: tuple[type, str]
) -> None:
    engine = make_engine(settings)
    real = getattr(*what)
    calls: list[int] = []

    def fail(self: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise WritesHalted("planted")
        real(self)

    monkeypatch.setattr(*what, fail)
    with pytest.raises(WritesHalted):
        engine.close()
    assert not (settings.data / "clean-stop").exists()
    monkeypatch.undo()
    make_engine(settings).close()
