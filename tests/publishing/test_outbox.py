"""What DVID's consumers hear: field for field, in order, at least once, over outages and restarts."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dvid_es import bootstrap
from dvid_es.errors import LogUnavailable
from dvid_es.publishing import outbox as outbox_module
from dvid_es.publishing.messages import Outgoing, clean_topic
from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC")


ACTIVITY = clean_topic(f"dvidactivity-{socket.gethostname()}")


class FakeKafka:
    """A cluster that keeps what it is sent, and can be away."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.away = False
        self.loses_answers = False
        self.more = threading.Condition()

    def publisher(self) -> FakeKafka:
        if self.away:
            raise LogUnavailable("no broker")
        return self

    def send(self, messages: Sequence[Outgoing]) -> None:
        with self.more:
            if self.away:
                raise LogUnavailable("no broker")
            self.sent += messages
            self.more.notify_all()
        if self.loses_answers and messages[0].topic != ACTIVITY:
            self.loses_answers = False
            raise LogUnavailable("it is unknown what became of it")

    def close(self) -> None:
        pass

    def wait_for(self, count: int) -> list[Outgoing]:
        """Wait until so many whole events are there."""
        with self.more:
            assert self.more.wait_for(lambda: len(self.events()) >= count, 60), len(self.events())
        return self.sent

    def events(self) -> list[int]:
        return [int(one.key) for one in self.sent if one.topic.endswith("-events")]


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    fake = FakeKafka()
    monkeypatch.setattr(bootstrap, "make_cluster", lambda settings: fake)
    monkeypatch.setattr(outbox_module, "AGAIN_SECONDS", 0.01)
    return fake


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(data=tmp_path / "data", kafka_servers=("fake:1",), admin_token="secret", **more)


def on(kafka: FakeKafka, topic: str) -> list[dict[str, Any]]:
    return [json.loads(one.value) for one in kafka.sent if one.topic == topic]


def count(live: Any, root: str) -> int:
    end: int = live.engine.streams.get(root).log.end
    return end


def test_labels_are_told_as_dvid_tells_them(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path, kafka_topic_prefix="lab-")) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
        seg = f"/api/node/{root}/seg"
        volume = oracle.cells((32, 32, 32), 12, 5)
        live.ok("POST", f"{seg}/raw/0_1_2/32_32_32/0_0_0", volume.tobytes())
        merge = live.ok("POST", f"{seg}/merge?u=ann&app=neu3", json_body=[1, 2, 3]).json()
        cleave = live.ok("POST", f"{seg}/cleave/1?u=bob", json_body=[2]).json()
        live.ok("POST", f"{seg}/renumber", json_body=[900, 4])
        live.ok("POST", f"{seg}/nextlabel/5", b"")
        live.ok("POST", f"{seg}/maxlabel/2000?admintoken=secret", b"")
        live.ok("POST", f"{seg}/undo", json_body={"mutation": cleave["MutationID"]})
        uuid = live.ok("GET", f"{seg}/info").json()["Base"]["DataUUID"]
        kafka.wait_for(count(live, root))
        log = live.ok("GET", f"{seg}/mutations").json()
    found = on(kafka, f"lab-dvidrepo-{root}-data-{uuid}")
    for message in found:
        assert TIME.match(message.pop("Timestamp"))
        assert message.pop("UUID") == root
    ids = [merge["MutationID"], cleave["MutationID"]]
    ann, bob = (
        {"User": "ann", "App": "neu3", "MutationID": ids[0]},
        {"User": "bob", "MutationID": ids[1]},
    )
    sizes = {int(label): size for label, size in oracle.sizes(volume).items()}
    cleaved = {"OrigLabel": 1, "CleavedLabel": cleave["CleavedLabel"], "CleavedSupervoxels": [2]}
    assert found[:4] == [
        {"Action": "merge", "Target": 1, "Labels": [2, 3], **ann},
        {"Action": "merge-complete", "Target": 1, "Labels": [2, 3], **ann},
        {"Action": "cleave", **cleaved, **bob},
        {"Action": "cleave-complete", **cleaved, **bob,
         "CleavedSize": sizes[2], "RemainSize": sizes[1] + sizes[3]},
    ]  # fmt: skip
    assert [message["Action"] for message in found[4:]] == [
        "renumber", "renumber-complete", "post-nextlabel", "post-maxlabel", "merge", "merge-complete",
    ]  # fmt: skip
    assert (found[5]["NewLabel"], found[5]["OrigLabel"]) == (900, 4)
    assert found[6] == {"Action": "post-nextlabel", "Start Label": 901, "End Label": 905}
    assert found[7] == {"Action": "post-maxlabel", "MaxLabel": 2000}
    assert (found[9]["Target"], found[9]["Labels"]) == (1, [cleave["CleavedLabel"]])
    ends = [message for message in found if message["Action"].endswith("-complete")]
    assert [message["Action"] for message in ends] == [record["Action"] for record in log]


def test_keys_and_versions_are_told_as_dvid_tells_them(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path)) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        live.ok("POST", f"/api/node/{root}/kv/key/a?u=ann", b"12345")
        live.ok("DELETE", f"/api/node/{root}/kv/key/a")
        node = f"/api/node/{root}"
        live.ok("POST", f"{node}/note", json_body={"note": "n"})
        live.ok("POST", f"{node}/log", json_body={"log": ["x", "y"]})
        live.ok("POST", f"{node}/commit", json_body={"note": "done", "log": ["z"]})
        child = live.ok("POST", f"{node}/newversion", json_body={"note": "next"}).json()["child"]
        side = live.ok("POST", f"{node}/branch", json_body={"branch": "side"}).json()["child"]
        live.ok("POST", f"{node}/tag", json_body={"tag": "v1"})
        uuid = live.ok("GET", f"{node}/kv/info").json()["Base"]["DataUUID"]
        kafka.wait_for(count(live, root))
    put, deleted = on(kafka, f"dvidrepo-{root}-data-{uuid}")
    assert TIME.match(put.pop("Timestamp"))
    assert put == {"Action": "postkv", "Key": "a", "Bytes": 5, "UUID": root}
    assert TIME.match(deleted.pop("Timestamp"))
    assert deleted == {"Action": "delete", "Key": "a", "UUID": root}
    assert on(kafka, f"dvidrepo-{root}-repo-ops") == [
        {"Action": "newinstance", "UUID": root, "Typename": "keyvalue", "Dataname": "kv"},
        {"Action": "nodenote", "UUID": root, "Note": "n"},
        {"Action": "nodelog", "UUID": root, "Log": ["x", "y"]},
        {"Action": "commit", "UUID": root, "Note": "done", "Log": ["z"]},
        {"Action": "newversion", "Parent": root, "Child": child, "Note": "next"},
        {"Action": "branch", "Parent": root, "Child": side, "Branch": "side", "Note": ""},
        {
            "Action": "tag",
            "Parent": root,
            "Child": "v1",
            "Branch": "tag-v1",
            "Tag": "v1",
            "Note": f'Tag of version {root} with "v1"',
        },
    ]


def write(live: Any, root: str, start: int, stop: int) -> None:
    for number in range(start, stop):
        live.ok("POST", f"/api/node/{root}/kv/key/k", str(number).encode())


def test_nothing_is_dropped_over_outages_and_restarts(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path)) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        write(live, root, 0, 20)
        kafka.wait_for(count(live, root))
        kafka.away = True
        write(live, root, 20, 40)  # writes do not wait for Kafka
        kafka.away = False
        write(live, root, 40, 50)
        kafka.wait_for(count(live, root))
        kafka.away = True
        write(live, root, 50, 60)
    kafka.away = False
    with run_server(settings(tmp_path)) as live:
        end = count(live, root)
        kafka.wait_for(end)
        assert kafka.events() == list(range(end))  # an outage before the sending repeats nothing
        kafka.loses_answers = True
        write(live, root, 60, 70)
        end = count(live, root)
        with kafka.more:
            assert kafka.more.wait_for(lambda: kafka.events()[-1] == end - 1, 60)
    heard = kafka.events()
    assert len(heard) > end  # told again, as nobody knew whether it had arrived
    first_times = list(dict.fromkeys(heard))
    assert first_times == list(range(end))
    steps = [later - earlier for earlier, later in pairwise(heard)]
    assert all(step <= 1 for step in steps), "repeats go back; nothing is ever leapt over"


def test_an_outbox_that_moved_its_place_first_would_be_caught(
    run_server: Any, tmp_path: Path, kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: the place moves although sending has failed."""

    def careless(self: Any, stream: Any) -> bool:
        repo = stream.repo
        start = self._places.all(stream.root).get("kafka", -1) + 1
        if repo is None or start > repo.sequence:
            return False
        messages, _ = self._rendered(stream, repo, start)
        self._places.set(stream.root, "kafka", repo.sequence)
        self._connect().send(messages)
        return True

    monkeypatch.setattr(outbox_module.Outbox, "_turn", careless)
    failed = threading.Event()
    give_up = outbox_module.Outbox._give_up

    def noted(self: Any, problem: Any) -> None:
        give_up(self, problem)
        failed.set()

    monkeypatch.setattr(outbox_module.Outbox, "_give_up", noted)
    with run_server(settings(tmp_path)) as live:
        kafka.away = True
        root = live.new_repo()
        assert failed.wait(60)
        kafka.away = False
        live.new_instance(root, "keyvalue", "kv")
        end = count(live, root)
        with kafka.more:
            assert kafka.more.wait_for(lambda: (end - 1) in kafka.events(), 60)
    assert kafka.events() != list(range(end))


def test_whole_events_carry_the_attributes_of_a_cloud_event(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path)) as live:
        root = live.new_repo()
        kafka.wait_for(count(live, root))
        lines = live.ok(
            "GET", f"/api/repo/{root}/events", headers={"Accept": "application/x-ndjson"}
        ).body.split()
    (message,) = (one for one in kafka.sent if one.topic == f"dvid_es-{root}-events")
    assert [message.value] == lines
    headers = {name: value.decode() for name, value in message.headers}
    body = json.loads(message.value)
    for name in ("specversion", "id", "source", "type", "sequence"):
        assert headers[f"ce_{name}"] == str(body[name])


def test_each_request_is_told_as_activity(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path, kafka_activity_topic="watch dvid")) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        key = f"/api/node/{root}/kv/key/a"
        live.ok("POST", f"{key}?u=ann&app=neu3&admintoken=secret", b"12345")
        live.ok("GET", f"{key}?u=ann")
        assert live.call("GET", f"{key}b").status == 404
        live.ok("GET", "/api/heartbeat")
        live.ok("GET", "/api/repos/info")
        live.ok("GET", "/api/help")
    found = on(kafka, "watch-dvid")
    for message in found:
        assert message.pop("time") > 1_700_000_000
        assert message.pop("duration") >= 0
        assert message.pop("remote_addr").startswith("127.0.0.1:")
    assert found[-3:] == [
        {"status": 200, "user": "ann", "client": "neu3", "method": "POST", "bytes_in": 5, "bytes_out": 0,
         "uri": f"{key}?u=ann&app=neu3&admintoken=(not shown)"},
        {"status": 200, "user": "ann", "client": "", "method": "GET", "bytes_in": 0, "bytes_out": 5,
         "uri": f"{key}?u=ann"},
        {"status": 404, "user": "", "client": "", "method": "GET", "bytes_in": 0,
         "bytes_out": found[-1]["bytes_out"], "uri": f"{key}b"},
    ]  # fmt: skip


def test_activity_that_cannot_be_sent_is_dropped_and_holds_up_nobody(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    kafka.away = True
    with run_server(settings(tmp_path)) as live:
        root = live.new_repo()
        live.ok("GET", f"/api/repo/{root}/info")
        activity = live.engine.activity
    assert activity.dropped == 1


def test_a_stop_between_two_looks_is_not_slept_through() -> None:
    class Hurried(threading.Event):
        """Somebody asks for the end just before this is cleared."""

        def clear(self) -> None:
            box._stop.set()
            self.set()
            super().clear()

    nothing: Any = None
    streams: Any = type("None_", (), {"all": staticmethod(list)})()
    box = outbox_module.Outbox(nothing, streams, nothing, nothing, nothing)
    box._wake = Hurried()
    box.start()
    box._thread.join(10)
    assert not box._thread.is_alive()
