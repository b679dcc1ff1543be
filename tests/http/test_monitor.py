from types import SimpleNamespace

import pytest

from dvid_es.clock import SystemClock
from dvid_es.http.monitor import ALONE_SECONDS, Monitor


@pytest.fixture
def monitor(monkeypatch):
    monitor = Monitor(SystemClock(), 1)
    monitor.time = 100.0
    monkeypatch.setattr(Monitor, "now", lambda self: self.time)
    return monitor


def test_a_client_is_alone_until_another_one_asks(monitor):
    first, second = (SimpleNamespace(conn_info=object()) for _ in range(2))
    assert monitor.is_alone(first)
    assert monitor.is_alone(first)
    assert not monitor.is_alone(second)
    assert monitor.is_alone(second)
    assert not monitor.is_alone(first)
    monitor.time += ALONE_SECONDS + 0.001
    assert monitor.is_alone(second)
