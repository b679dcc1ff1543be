from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dvid_es.bootstrap
from dvid_es.logs.kafka_client import Cluster
from dvid_es.publishing import outbox
from dvid_es.settings import Settings

PREFIX = "lab-"


@pytest.fixture
def publishing(
    tmp_path: Path, make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings with the log in files and the brokers of this run for messages."""
    monkeypatch.setattr(dvid_es.bootstrap, "make_cluster", lambda _: make_cluster(20))
    monkeypatch.setattr(outbox, "AGAIN_SECONDS", 0.1)
    servers = make_cluster().connection.servers
    return Settings(data=tmp_path / "data", kafka_servers=servers, kafka_topic_prefix=PREFIX)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Wait until the outbox has noted that so many events of a repository are sent."""
    moved, places = threading.Condition(), []
    keep = outbox.Cursors.set

    def noted(self: Any, root: str, name: str, sequence: int) -> None:
        keep(self, root, name, sequence)
        with moved:
            places.append(sequence)
            moved.notify_all()

    monkeypatch.setattr(outbox.Cursors, "set", noted)

    def wait(count: int) -> None:
        with moved:
            assert moved.wait_for(lambda: bool(places) and places[-1] >= count - 1, 120), places

    return wait


def read(cluster: Cluster, topic: str) -> list[dict[str, Any]]:
    first, end = cluster.ends(topic)
    return [json.loads(value) for batch in cluster.read(topic, first, end) for _, value in batch]


def write(live: Any, root: str, start: int, stop: int) -> None:
    for number in range(start, stop):
        live.ok("POST", f"/api/node/{root}/kv/key/k{number}", b"%d" % number)


def test_a_consumer_hears_all_of_a_day_in_order(
    publishing: Settings, run_server: Any, make_cluster: Callable[..., Cluster], sent: Any
) -> None:
    with run_server(publishing) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        uuid = live.ok("GET", f"/api/node/{root}/kv/info").json()["Base"]["DataUUID"]
        write(live, root, 0, 300)
        end = live.engine.streams.get(root).log.end
        sent(end)
    cluster = make_cluster()
    found = read(cluster, f"{PREFIX}dvidrepo-{root}-data-{uuid}")
    assert [one["Key"] for one in found] == [f"k{number}" for number in range(300)]
    (made,) = read(cluster, f"{PREFIX}dvidrepo-{root}-repo-ops")
    assert made == {"Action": "newinstance", "UUID": root, "Typename": "keyvalue", "Dataname": "kv"}
    whole = read(cluster, f"{PREFIX}dvid_es-{root}-events")
    assert [one["sequence"] for one in whole] == list(range(end))


def test_a_broker_that_is_away_twice_loses_nothing(
    publishing: Settings, run_server: Any, broker: Any, make_cluster: Any, sent: Any
) -> None:
    with run_server(publishing) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        uuid = live.ok("GET", f"/api/node/{root}/kv/info").json()["Base"]["DataUUID"]
        for start in (0, 100):
            write(live, root, start, start + 50)
            broker.kill()
            write(live, root, start + 50, start + 100)  # nobody waits for a broker
            broker.start()
        sent(live.engine.streams.get(root).log.end)
    found = read(make_cluster(), f"{PREFIX}dvidrepo-{root}-data-{uuid}")
    heard = [int(one["Key"][1:]) for one in found]
    assert list(dict.fromkeys(heard)) == list(range(200))  # some may come twice, none is leapt over
