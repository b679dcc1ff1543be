"""Fixtures of the tests of the short way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dvid_es.settings import Settings
from tests.http.quick_rig import LongProtocol, Rig, get


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("quick")
    settings = Settings(data=folder, admin_token="secret", cors_domains=("a.org",))
    rig = Rig(settings)
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def kv(rig: Rig) -> str:
    root = json.loads(rig.post("/api/repos"))["root"]
    rig.post(f"/api/repo/{root}/instance", b'{"typename": "keyvalue", "dataname": "kv"}')
    rig.post(f"/api/repo/{root}/instance", b'{"typename": "labelmap", "dataname": "seg"}')
    path = f"/api/node/{root}/kv"
    rig.post(f"{path}/key/a", b"value of a")
    rig.post(f"{path}/key/empty", b"")
    rig.post(f"{path}/key/long", bytes(range(256)) * 400)
    rig.ask(LongProtocol, get(f"{path}/info"))
    return path
