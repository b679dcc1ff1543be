from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import dvid_es.bootstrap
from dvid_es.logs.kafka_client import Cluster
from dvid_es.publishing import outbox
from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.publishing import scripted

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


class Day:
    """A day of proofreading, and what DVID would tell of it, in order."""

    def __init__(self, live: Any, root: str) -> None:
        self.live, self.seg = live, f"/api/node/{root}/seg"
        self.root = root
        self.told: list[dict[str, Any]] = []
        self.volume = oracle.cells((32, 32, 32), 60, 3)
        self.sizes = {int(label): size for label, size in oracle.sizes(self.volume).items()}
        live.ok("POST", f"{self.seg}/raw/0_1_2/32_32_32/0_0_0", self.volume.tobytes())
        self.members = {label: [label] for label in self.sizes}
        self.rng = np.random.default_rng(5)

    def _tell(self, action: str, user: str, mutation: int, facts: Any, ends: Any) -> None:
        common = {"UUID": self.root, "MutationID": mutation, "User": user, "App": "neu3"}
        self.told.append({"Action": action, **common, **facts})
        self.told.append({"Action": f"{action}-complete", **common, **facts, **ends})

    def merge(self, user: str) -> None:
        target, *others = (
            int(one) for one in self.rng.choice(list(self.members), 3, replace=False)
        )
        path = f"{self.seg}/merge?u={user}&app=neu3"
        answer = self.live.ok("POST", path, json_body=[target, *others]).json()
        for other in others:
            self.members[target] += self.members.pop(other)
        self._tell(
            "merge", user, answer["MutationID"], {"Target": target, "Labels": sorted(others)}, {}
        )

    def cleave(self, user: str) -> None:
        several = [body for body, svs in self.members.items() if len(svs) > 1]
        if not several:
            return
        body = int(self.rng.choice(several))
        gone = self.members[body][1:2]
        path = f"{self.seg}/cleave/{body}?u={user}&app=neu3"
        answer = self.live.ok("POST", path, json_body=gone).json()
        self.members[body] = [sv for sv in self.members[body] if sv not in gone]
        self.members[answer["CleavedLabel"]] = list(gone)
        facts = {
            "OrigLabel": body,
            "CleavedLabel": answer["CleavedLabel"],
            "CleavedSupervoxels": gone,
        }
        left = sum(self.sizes[sv] for sv in self.members[body])
        ends = {"CleavedSize": self.sizes[gone[0]], "RemainSize": left}
        self._tell("cleave", user, answer["MutationID"], facts, ends)

    def renumber(self, user: str) -> None:
        body, new = int(self.rng.choice(list(self.members))), 100_000 + len(self.told)
        path = f"{self.seg}/renumber?u={user}&app=neu3"
        self.live.ok("POST", path, json_body=[new, body])
        mutation = self.live.ok("GET", f"{self.seg}/lastmod/{new}").json()["mutation id"]
        self.members[new] = self.members.pop(body)
        facts = {"NewLabel": new, "OrigLabel": body}
        self._tell("renumber", user, mutation, facts, {})

    def hour(self, edits: int) -> None:
        for number in range(edits):
            user = str(self.rng.choice(["ann", "bob", "eve"]))
            (self.merge, self.cleave, self.cleave, self.renumber)[number % 4](user)


def test_a_day_of_proofreading_is_heard_as_dvid_tells_it_though_the_broker_is_away_twice(
    publishing: Settings, run_server: Any, broker: Any, make_cluster: Any, sent: Any
) -> None:
    with run_server(publishing) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32")
        uuid = live.ok("GET", f"/api/node/{root}/seg/info").json()["Base"]["DataUUID"]
        day = Day(live, root)
        for _ in range(2):
            day.hour(12)
            broker.kill()
            day.hour(12)  # nobody waits for a broker
            broker.start()
        sent(live.engine.streams.get(root).log.end)
    found = read(make_cluster(), f"{PREFIX}dvidrepo-{root}-data-{uuid}")
    once: list[dict[str, Any]] = []
    for message in found:  # some may come twice: what was not acknowledged is told again
        assert message.pop("Timestamp")
        if message not in once:
            once.append(message)
    assert once == day.told
    assert len(day.told) >= 60


def test_a_day_is_heard_as_a_real_dvid_told_it_though_the_broker_is_away_twice(
    publishing: Settings, run_server: Any, broker: Any, make_cluster: Any, sent: Any
) -> None:
    steps = {12: broker.kill, 22: broker.start, 32: broker.kill, 42: broker.start}

    def settled() -> None:
        done.append(1)
        steps.get(len(done), lambda: None)()

    done: list[int] = []
    allowed = msgspec.structs.replace(publishing, allow_split=True, admin_token="secret")
    with run_server(allowed) as live:
        topics = scripted.play(scripted.Server(live.call, settled))
        sent(live.engine.streams.get(topics["repo"][:32]).log.end)
    assert len(done) > 42
    found: dict[str, list[dict[str, Any]]] = {}
    for name, topic in topics.items():
        once = found[name] = []
        for message in read(make_cluster(), f"{PREFIX}dvidrepo-{topic}"):
            if message not in once:  # what was not acknowledged is told again
                once.append(message)
    assert scripted.comparable(found) == json.loads(scripted.RECORDED.read_text())
