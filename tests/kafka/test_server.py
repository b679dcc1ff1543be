from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dvid_es.bootstrap
from dvid_es.bootstrap import make_projector, row_kinds
from dvid_es.logs.kafka_client import Cluster
from dvid_es.logs.move import digest_of
from dvid_es.projections.store import Store
from dvid_es.replay.digest import digests
from dvid_es.replay.rebuild import build
from dvid_es.settings import Settings
from tests.conftest import Live


@pytest.fixture
def on_kafka(
    tmp_path: Path, make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings whose new repositories are on the brokers of this run."""
    found = Settings(
        data=tmp_path / "data",
        log_backend="kafka",
        kafka_servers=make_cluster().connection.servers,
        log_topic_prefix=f"t{tmp_path.name[-8:]}-",
        log_timeout_seconds=20,
    )
    monkeypatch.setattr(
        dvid_es.bootstrap, "make_cluster", lambda _: make_cluster(found.log_timeout_seconds)
    )
    return found


def fill(live: Live, root: str, count: int = 60) -> None:
    """Write from several clients at once."""
    base = f"/api/node/{root}/kv"

    def write(client: int) -> None:
        for number in range(count // 4):
            live.ok("POST", f"{base}/key/{client}-{number % 5}", b"%d %d" % (client, number))

    clients = [threading.Thread(target=write, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    live.ok("POST", f"{base}/key/large", bytes(range(256)) * 9000)


def test_a_server_on_kafka_answers_the_same_after_a_restart(on_kafka, run_server):
    with run_server(on_kafka) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        fill(live, root)
        end = live.engine.streams.get(root).log.end
        before = live.ok("GET", f"/api/node/{root}/kv/keys").body
    with run_server(on_kafka) as live:
        stream = live.engine.streams.get(root)
        assert stream.log.end == end == 63
        assert live.ok("GET", f"/api/node/{root}/kv/keys").body == before
        assert live.ok("GET", f"/api/node/{root}/kv/key/3-4").body == b"3 14"
        assert len(live.ok("GET", f"/api/node/{root}/kv/key/large").body) == 256 * 9000
        live.ok("POST", f"/api/node/{root}/kv/key/after", b"x")
        assert [event.offset for event in stream.log.read()] == list(range(end + 1))


def test_live_projections_are_those_that_a_rebuild_from_kafka_makes(on_kafka, run_server, tmp_path):
    with run_server(on_kafka) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        fill(live, root)
        built = tmp_path / "rebuilt"
        build(built, live.engine.streams.all(), make_projector())
        store = Store(built, read_only=True)
        try:
            assert digests(store, row_kinds()) == digests(live.engine.store, row_kinds())
        finally:
            store.close()
        assert digest_of(live.engine.streams.get(root).log)


@pytest.fixture
def live_on_kafka(on_kafka: Settings, run_server) -> Iterator[Live]:
    with run_server(on_kafka) as live:
        yield live


def test_the_same_root_cannot_be_made_twice(live_on_kafka):
    root = live_on_kafka.new_repo()
    answer = live_on_kafka.call("POST", "/api/repos", json_body={"alias": "again", "root": root})
    assert answer.status == 400
    assert live_on_kafka.new_repo() != root
