"""A repository goes from one backend to the other and back, and is the same."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import dvid_es.bootstrap
from dvid_es.bootstrap import OpenedData, row_kinds
from dvid_es.cli import main
from dvid_es.errors import CorruptLog, LogUnavailable
from dvid_es.logs import FileLog
from dvid_es.logs.base import Log
from dvid_es.logs.disk import Disk
from dvid_es.logs.kafka import KafkaLog
from dvid_es.logs.kafka_client import Cluster
from dvid_es.logs.kafka_places import read_marker
from dvid_es.logs.move import digest_of, move, settle_move
from dvid_es.projections.store import Store
from dvid_es.replay.digest import Part, digests
from dvid_es.replay.rebuild import build
from dvid_es.settings import Settings
from tests.contracts.log_contract import entry, stored
from tests.kafka.fake import FakeBrokers, FakeCluster
from tests.kafka.test_server import fill

EVENTS = [stored(number) for number in range(30)]


def on_files(folder: Path) -> FileLog:
    return FileLog(folder, "stream", segment_bytes=700)


def on_brokers(brokers: FakeBrokers, topic: str = "topic") -> Callable[[Path], Log]:
    return partial(KafkaLog, stream_id="stream", cluster=FakeCluster(brokers), topic=topic)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = on_files(tmp_path / "repo" / "log")
    for number in range(0, len(EVENTS), 3):
        log.append([entry(number + part) for part in range(3)])
    log.close()
    return tmp_path / "repo"


def events_in(folder: Path, brokers: FakeBrokers) -> list[Any]:
    """What a start finds."""
    settle_move(folder)
    kafka = read_marker(folder / "log") is not None
    log = on_brokers(brokers)(folder / "log") if kafka else on_files(folder / "log")
    found = list(log.read())
    log.close()
    assert sorted(path.name for path in folder.iterdir() if "moved" not in path.name) == ["log"]
    return found


def test_there_and_back_again(folder, no_brokers):
    brokers = FakeBrokers()
    there = move(folder, on_files, on_brokers(brokers))
    assert (there.events, there.kept.name) == (30, "log.moved-001")
    assert events_in(folder, brokers) == EVENTS
    back = move(folder, on_brokers(brokers), on_files)
    assert (back.digest, back.kept.name) == (there.digest, "log.moved-002")
    log = on_files(folder / "log")
    assert digest_of(log) == there.digest
    log.close()
    assert events_in(folder, brokers) == EVENTS


class FailingDisk(Disk):
    """Fails from the n-th change of a name on, as if the process had ended there."""

    def __init__(self, count: int) -> None:
        self.left = count

    def _step(self) -> None:
        if self.left == 0:
            raise OSError(errno.EIO, "the process is gone")
        self.left -= 1

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self._step()
        super().sync_folder(folder)


@pytest.mark.parametrize("count", range(10))
def test_a_move_that_ends_anywhere_is_finished_or_undone(folder, count, no_brokers):
    brokers = FakeBrokers()
    try:
        move(folder, on_files, on_brokers(brokers), disk=FailingDisk(count))
    except OSError:
        assert count < 7
    assert events_in(folder, brokers) == EVENTS


def test_a_move_that_dies_while_it_copies_leaves_the_log_as_it_was(folder, no_brokers):
    brokers = FakeBrokers()
    (folder / "log.moving").mkdir()
    (folder / "log.moving" / "00000000000000000000.log").write_bytes(b"half")
    assert events_in(folder, brokers) == EVENTS
    brokers.next_actions = ["ok", "ok", "lost"]
    with pytest.raises(LogUnavailable):
        move(folder, on_files, on_brokers(brokers))
    assert events_in(folder, brokers) == EVENTS
    assert read_marker(folder / "log") is None


def test_a_copy_that_differs_is_not_taken(folder, monkeypatch, no_brokers):
    genuine = KafkaLog.append

    def append(self: KafkaLog, entries: list[Any]) -> int:
        return genuine(self, [*entries[:-1], entries[-1]._replace(facts=b"planted")])

    monkeypatch.setattr(KafkaLog, "append", append)
    with pytest.raises(CorruptLog, match="nothing is changed"):
        move(folder, on_files, on_brokers(FakeBrokers()))
    assert events_in(folder, FakeBrokers()) == EVENTS


@pytest.fixture
def config(tmp_path: Path, make_cluster: Callable[..., Cluster], monkeypatch) -> Path:
    servers = json.dumps(make_cluster().connection.servers)
    path = tmp_path / "settings.toml"
    path.write_text(
        f'[kafka]\nservers = {servers}\n[log]\ntopicPrefix = "move-{tmp_path.name}-"\n'
        f'[dvid_es]\ndata = "{tmp_path / "data"}"\n'
    )
    monkeypatch.setattr(dvid_es.bootstrap, "make_cluster", lambda _: make_cluster())
    return path


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def rebuilt(settings: Settings, folder: Path) -> list[Part]:
    opened = OpenedData(settings)
    try:
        build(folder, opened.streams.all(), opened.projector)
    finally:
        opened.close()
    store = Store(folder, read_only=True)
    try:
        return digests(store, row_kinds())
    finally:
        store.close()


def test_digests_are_equal_on_files_on_kafka_and_rebuilt_from_either(
    config, tmp_path, run_server, monkeypatch
):
    settings = Settings(data=tmp_path / "data", kafka_servers=("named in the file:1",))
    with run_server(settings) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        live.new_instance(root, "labelmap", "segmentation")
        fill(live, root)
        live.commit(root)
        live.new_version(root)
        on_filelog = digests(live.engine.store, row_kinds())
        digest = digest_of(live.engine.streams.get(root).log)
    assert rebuilt(settings, tmp_path / "one") == on_filelog

    moved = command("log", "move", root, "--to", "kafka", "--config", config, "--json")
    assert moved.exit_code == 0, moved.output
    assert json.loads(moved.stdout)["digest"] == digest
    assert rebuilt(settings, tmp_path / "two") == on_filelog
    again = command("log", "move", root, "--to", "kafka", "--config", config)
    assert again.exit_code == 4
    with run_server(settings) as live:
        assert digests(live.engine.store, row_kinds()) == on_filelog
        assert digest_of(live.engine.streams.get(root).log) == digest
        live.ok("POST", f"/api/repo/{root}/log", json_body={"log": ["on Kafka"]})
        on_kafka = digests(live.engine.store, row_kinds())
        (stat,) = json.loads(command("log", "stat", "--config", config, "--json").stdout)
        assert stat["events"] == live.engine.streams.get(root).log.end
        assert stat["topic"].endswith(root)
        tail = command("log", "tail", "--config", config, "--repo", root, "-n", "1", "--json")
        assert "on Kafka" in tail.output
    assert command("log", "verify", "--config", config).exit_code == 0
    assert command("log", "repair", "--config", config, "--repo", root).exit_code == 4

    moved = command("log", "move", root, "--to", "filelog", "--config", config)
    assert moved.exit_code == 0, moved.output
    assert rebuilt(settings, tmp_path / "three") == on_kafka
    moved = command("log", "move", root, "--to", "kafka", "--config", config)
    assert moved.exit_code == 0, "into a new topic: the first one is left as it was"
    assert rebuilt(settings, tmp_path / "four") == on_kafka
