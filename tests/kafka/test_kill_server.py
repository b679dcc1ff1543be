"""A server with its log on Kafka is killed under load: what it answered is there, once."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path

from dvid_es.events import decode
from dvid_es.logs.kafka_client import Cluster
from dvid_es.logs.kafka_read import KafkaReader
from tests.kafka import broker as real
from tests.servers import ServerProcess, dvid_es

CLIENTS = 8
ANSWERS = 60


class Load:
    """Clients that write until the server does not answer any more."""

    def __init__(self, server: ServerProcess, path: str, life: int) -> None:
        self.granted: dict[str, int] = {}
        self.sent: set[str] = set()
        self._server, self._path, self._life = server, path, life
        self._some = threading.Condition()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _write(self, client: int) -> None:
        number = 0
        while True:
            name = f"{self._life}-{client}-{number}"
            number += 1
            with self._some:
                self.sent.add(name)
            try:
                status, headers, body = self._server.call(
                    "POST", f"{self._path}/key/{client}", name.encode(), {"Idempotency-Key": name}
                )
            except (OSError, http.client.HTTPException):
                return
            assert status == 200, body
            with self._some:
                self.granted[name] = int(headers["x-dvid-es-seq"])
                self._some.notify_all()

    def kill_after(self, answers: int) -> None:
        with self._some:
            assert self._some.wait_for(lambda: len(self.granted) >= answers, 60)
        self._server.kill()
        for thread in self._threads:
            thread.join()


def test_what_a_killed_server_answered_is_in_the_topic_once(
    broker: real.Broker, cluster: Cluster, tmp_path: Path
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(
        f"[kafka]\nservers = {json.dumps(broker.servers)}\n"
        f'[log]\nbackend = "kafka"\ntopicPrefix = "kill-{tmp_path.name}-"\n'
    )
    data = tmp_path / "data"
    granted: dict[str, int] = {}
    sent: set[str] = set()
    root = ""
    for life in range(3):
        with ServerProcess(data, "--config", config) as server:
            if not root:
                root = server.new_repo()
                server.new_instance(root, "keyvalue", "kv")
            load = Load(server, f"/api/node/{root}/kv", life)
            load.kill_after(ANSWERS)
        granted |= load.granted
        sent |= load.sent
    with ServerProcess(data, "--config", config) as server:
        keys = json.loads(server.ok("GET", f"/api/node/{root}/kv/keys"))
        assert len(keys) == CLIENTS
        assert server.stop() == 0
    events = [
        decode(*event) for event in KafkaReader(data / "repos" / root / "log", cluster).read()
    ]
    found = {
        event.header.idempotency_key: event.offset
        for event in events
        if event.header.idempotency_key
    }
    assert len(granted) >= 3 * ANSWERS
    assert len(found) == len(events) - 2, "a write is there twice"
    assert {name: found.get(name) for name in granted} == granted, "an answered write is lost"
    assert found.keys() <= sent
    verified = dvid_es("verify", "--data", data, "--config", config)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def without_broker(tmp_path: Path) -> tuple[Path, Path, int]:
    """Data and configuration of a repository whose broker is away, and the port of that."""
    config = tmp_path / "settings.toml"
    port = real.free_port()
    config.write_text(f'[kafka]\nservers = ["127.0.0.1:{port}"]\n[log]\ntimeoutSeconds = 2\n')
    log = tmp_path / "data" / "repos" / ("a" * 32) / "log"
    log.mkdir(parents=True)
    (log / "kafka.json").write_text(json.dumps({"stream": "a" * 32, "topic": "t", "log": ""}))
    return tmp_path / "data", config, port


def test_what_reads_a_log_says_that_no_broker_answers(tmp_path: Path, no_brokers) -> None:
    data, config, port = without_broker(tmp_path)
    ran = dvid_es("rebuild", "--data", data, "--config", config)
    assert ran.returncode == 6, ran.stderr
    assert f"Kafka at 127.0.0.1:{port} does not answer" in ran.stderr
    assert "aiokafka" not in ran.stderr
    assert ran.stderr.count("\n") == 1, "one line"


def test_a_server_starts_and_ends_without_a_broker(tmp_path: Path, no_brokers) -> None:
    data, config, _ = without_broker(tmp_path)
    with ServerProcess(data, "--config", config) as server:
        server.ok("GET", "/api/server/info")
        status, headers, body = server.call("GET", f"/api/repo/{'a' * 32}/info")
        assert (status, "retry-after" in headers) == (503, True)
        assert b"no broker has answered yet" in body
        assert server.stop() == 0
