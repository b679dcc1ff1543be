"""Fixtures of the tests of annotations."""

from __future__ import annotations

from typing import Any

import pytest

from dvid_es.settings import Settings
from tests.conftest import Live


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = tmp_path_factory.mktemp("neuronjson") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture
def node(server: Live) -> str:
    return server.new_instance(server.new_repo(), "neuronjson", "n")
