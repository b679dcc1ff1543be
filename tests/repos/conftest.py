from collections.abc import Iterator
from typing import Any

import pytest

from dvid_es.settings import Settings


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("repos") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture
def root(server: Any) -> str:
    return server.new_repo()


@pytest.fixture
def kv(server: Any, root: str) -> str:
    """Path of a keyvalue instance at the root version."""
    return server.new_instance(root, "keyvalue", "kv")


@pytest.fixture
def events(server: Any):  # type: ignore[no-untyped-def]
    """The number of events of a repository: what was refused adds none."""

    def count(root: str) -> int:
        return server.engine.streams.get(root).log.end

    return count
