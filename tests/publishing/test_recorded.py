"""What consumers hear of a scripted day is what a real DVID told them of it, field for field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dvid_es import bootstrap
from dvid_es.datatypes.labelarray import fold as labelarray_fold
from dvid_es.datatypes.labelmap.bodies import mutationlog
from dvid_es.feed.schema import event_schemas
from dvid_es.publishing import messages, outbox
from dvid_es.settings import Settings
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.publishing import scripted
from tests.publishing.test_outbox import FakeKafka


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    fake = FakeKafka()
    monkeypatch.setattr(bootstrap, "make_cluster", lambda settings: fake)
    monkeypatch.setattr(outbox, "AGAIN_SECONDS", 0.01)
    return fake


def settings(tmp_path: Path) -> Settings:
    return Settings(
        data=tmp_path / "data", kafka_servers=("fake:1",), admin_token="secret", allow_split=True
    )


def end_of(live: Any, root: str) -> int:
    end: int = live.engine.streams.get(root).log.end
    return end


def told(kafka: FakeKafka, topic: str) -> list[dict[str, Any]]:
    return [json.loads(one.value) for one in kafka.sent if one.topic == f"dvidrepo-{topic}"]


def test_a_day_is_told_as_a_real_dvid_told_it(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path)) as live:
        topics = scripted.play(scripted.Server(live.call, lambda: None))
        root = topics["repo"][:32]
        kafka.wait_for(end_of(live, root))
        found = {name: told(kafka, topic) for name, topic in topics.items()}
        references = {
            (topic, message[name])
            for topic, some in found.items()
            for message in some
            for name in ("Split", "DataRef")
            if name in message
        }
        blobs = {
            (topic, name): live.ok("GET", f"/api/node/{root}/kv/blobstore/{name}").body
            for topic, name in references
        }
        check_rebuilt(live, tmp_path)
    expected = json.loads(scripted.RECORDED.read_text())
    got = scripted.comparable(found)
    for topic, messages_of_dvid in expected.items():
        assert got[topic] == messages_of_dvid, topic
    assert got.keys() == expected.keys()
    assert len(blobs) == 8
    long = [body for (topic, _), body in blobs.items() if topic == "long labelmap"]
    start = json.loads(long[0])
    assert start["CleavedSupervoxels"] == list(scripted.LONG[5:])
    assert start["Action"] == "cleave"
    assert "CleavedSize" not in start
    assert all(len(one.value) <= messages.MESSAGE_BYTES_MAX for one in kafka.sent)


def test_labelvols_tell_nothing_as_in_dvid(
    run_server: Any, tmp_path: Path, kafka: FakeKafka
) -> None:
    with run_server(settings(tmp_path)) as live:
        server = scripted.Server(live.call, lambda: None)
        root = live.new_repo()
        scripted.create(server, root, "labelblk", "blk")
        uuid = scripted.create(server, root, "labelvol", "vol")
        live.ok("POST", f"/api/node/{root}/blk/sync", json_body={"sync": "vol"})
        live.ok("POST", f"/api/node/{root}/vol/sync", json_body={"sync": "blk"})
        volume = scripted.boxes().tobytes()
        live.ok("POST", f"/api/node/{root}/blk/raw/0_1_2/64_64_64/0_0_0", volume)
        live.ok("POST", f"/api/node/{root}/vol/merge", json_body=[1, 2])
        runs = scripted.blob_of(scripted.part(4, x=slice(5, 20)))
        live.ok("POST", f"/api/node/{root}/vol/split/4", runs)
        kafka.wait_for(end_of(live, root))
    assert told(kafka, f"{root}-data-{uuid}") == []
    assert [one["Action"] for one in told(kafka, f"{root}-repo-ops")] == ["newinstance"] * 2


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make the limits so low that a test reaches them."""
    monkeypatch.setattr(messages, "MESSAGE_BYTES_MAX", 1000)
    monkeypatch.setattr(mutationlog, "_LONG_LABELS", 50)
    monkeypatch.setattr(mutationlog, "_LONG_SPLITS", 10)
    monkeypatch.setattr(labelarray_fold, "LONG_BYTES", 8 * 50)
    return 1000


def test_messages_over_the_limit_refer_to_what_they_would_say(
    run_server: Any, tmp_path: Path, kafka: FakeKafka, short: int
) -> None:
    volume = oracle.cells((32, 32, 32), 300, 3)
    there = sorted(int(label) for label in oracle.sizes(volume))
    with run_server(settings(tmp_path)) as live:
        server = scripted.Server(live.call, lambda: None)
        root = live.new_repo()
        node = f"/api/node/{root}"
        topics = {}
        for typename in ("labelmap", "labelarray"):
            uuid = scripted.create(server, root, typename, typename, BlockSize="32,32,32")
            topics[typename] = f"{root}-data-{uuid}"
            live.ok("POST", f"{node}/{typename}/raw/0_1_2/32_32_32/0_0_0", volume.tobytes())
        merge = live.ok("POST", f"{node}/labelmap/merge?u=ann", json_body=there).json()
        live.ok("POST", f"{node}/labelarray/merge", json_body=there)
        half = volume > 0
        half[:, :, 16:] = False
        live.ok("POST", f"{node}/labelmap/undo", json_body={"mutation": merge["MutationID"]})
        live.ok("POST", f"{node}/labelmap/redo", json_body={"mutation": merge["MutationID"]})
        live.ok("POST", f"{node}/labelmap/split/{there[0]}", scripted.blob_of(half))
        live.ok("POST", f"{node}/note", json_body={"note": "n" * 2000})
        live.ok("POST", f"{node}/log", json_body={"log": ["x" * 600] * 3})
        kafka.wait_for(end_of(live, root))
        assert all(len(one.value) <= short for one in kafka.sent)

        def blob(message: dict[str, Any]) -> dict[str, Any]:
            path = f"{node}/labelmap/blobstore/{message['DataRef']}"
            found: dict[str, Any] = live.ok("GET", path).json()
            return found

        check_rebuilt(live, tmp_path)
        for typename in topics:
            begun, done = told(kafka, topics[typename])[:2]
            full = blob(begun)
            assert full.pop("Labels") == there[1:]
            assert full == {name: value for name, value in begun.items() if name != "DataRef"}
            assert done["Action"] == "merge-complete"
            assert done.get("DataRef") == (begun["DataRef"] if typename == "labelmap" else None)
        begun, done = told(kafka, topics["labelmap"])[-2:]
        assert (begun["Action"], done["Action"]) == ("split", "split-complete")
        assert len(blob(begun)["SVSplits"]) > 100
        note, log = told(kafka, f"{root}-repo-ops")[-2:]
        assert blob(note)["Note"] == "n" * 2000
        assert "Note" not in note
        assert blob(log)["Log"] == ["x" * 600] * 3


def test_whole_events_over_the_limit_say_where_they_are(
    run_server: Any, tmp_path: Path, kafka: FakeKafka, short: int
) -> None:
    with run_server(settings(tmp_path)) as live:
        root = live.new_repo()
        live.ok("POST", f"/api/node/{root}/note", json_body={"note": "n" * 2000})
        live.ok("POST", f"/api/node/{root}/log", json_body={"log": ["after"]})
        kafka.wait_for(end_of(live, root))
        accept = {"Accept": "application/x-ndjson"}
        lines = live.ok("GET", f"/api/repo/{root}/events", headers=accept).body.split(b"\n")
        whole = [json.loads(line) for line in lines if line]
        sent = [json.loads(one.value) for one in kafka.sent if one.topic.endswith("-events")]
        (long,) = (one for one in sent if "dataref" in one)
        again = live.ok("GET", long["dataref"], headers=accept).body
    assert [one["sequence"] for one in sent] == [one["sequence"] for one in whole]
    assert json.loads(again) == whole[long["sequence"]]
    assert whole[long["sequence"]]["data"]["note"] == "n" * 2000
    assert sent[-1] == whole[-1]
    schema = event_schemas()
    for message in sent:
        jsonschema.validate(message, schema)
    for wrong in ({**long, "data": {}}, {n: v for n, v in long.items() if n != "dataref"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
