"""Syncs of a datatype that listens; none of the built-in ones needs to."""

from dataclasses import replace

import pytest

from dvid_es import bootstrap
from dvid_es.datatypes import DATATYPES


@pytest.fixture
def listening(monkeypatch, run_server, settings):
    points = replace(DATATYPES[0], name="points", folds={}, syncs=frozenset({"keyvalue", "points"}))
    monkeypatch.setattr(bootstrap, "DATATYPES", (*DATATYPES, points))
    with run_server(settings) as live:
        yield live


def syncs(live, path):
    return live.ok("GET", f"{path}/info").json()["Base"]["Syncs"]


def test_syncs_are_added_replaced_and_cleared(listening):
    live = listening
    root = live.new_repo()
    path = live.new_instance(root, "points", "p")
    for name in ("one", "two"):
        live.new_instance(root, "keyvalue", name)
    live.new_instance(root, "labelmap", "seg")
    sync = f"{path}/sync"
    live.ok("POST", sync, json_body={"sync": "one"})
    live.ok("POST", sync, json_body={"sync": "one,two,one"})
    live.ok("POST", sync, json_body={"sync": ""})
    assert syncs(live, path) == ["one", "two"]
    wrong = ({"sync": "nothing"}, {"sync": ["one"]}, {}, {"sync": "seg"}, {"sync": "p"})
    for bad in (*wrong, {"Sync": "two"}, {"sync": "two", "more": 1}):
        assert live.call("POST", sync, json_body=bad).status == 400
    assert live.call("POST", sync, b"one").status == 400
    assert syncs(live, path) == ["one", "two"]
    live.ok(
        "POST",
        f"/api/repo/{root}/rename",
        admintoken="secret",
        json_body={"old": "two", "new": "2"},
    )
    live.ok("DELETE", f"/api/repo/{root}/one", admintoken="secret", imsure="true")
    assert syncs(live, path) == ["undefined", "2"]
    live.ok("POST", f"{sync}?replace=true", json_body={"sync": "2"})
    assert syncs(live, path) == ["2"]
    for nothing in ("", None):
        live.ok("POST", f"{sync}?replace=true", b'{"sync": "2"} and more')
        assert syncs(live, path) == ["2"]
        live.ok("POST", f"{sync}?replace=true", json_body={"sync": nothing})
        assert syncs(live, path) == []
    log = live.ok("GET", f"/api/repo/{root}/log").json()["log"]
    assert log[-1].endswith('  Data instance "p" set to sync with map[]')
