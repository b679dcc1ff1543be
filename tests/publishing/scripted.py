"""A day that any server which speaks DVID's API can be put through, and what it told Kafka of it.

`recorded/day.json` holds what a real DVID told. To record it again, with a DVID that has the broker in its
[kafka] settings and an empty topic of activity:

    python -m tests.publishing.scripted http://127.0.0.1:8000 127.0.0.1:9092 recorded/day.json
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dvid_es.codecs import messages_pb2
from tests.datatypes.labelarray.label_model import coarse_body
from tests.datatypes.labelmap.body_model import index_message
from tests.datatypes.labelmap.split_cases import blob_of

RECORDED = Path(__file__).with_name("recorded") / "day.json"

LONG = range(10**15, 10**15 + 70_000)

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4} \w+( m=\+\d+\.\d+)?$")
UUID = re.compile(r"[0-9a-f]{32}")

Message = dict[str, Any]
Settled = Callable[[], None]
"""Waits until edits that were answered are finished: DVID does some of them later."""


class Answered(NamedTuple):
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Server(NamedTuple):
    """How the day talks to a server."""

    call: Callable[[str, str, bytes], Any]
    settled: Settled

    def ok(self, method: str, path: str, body: bytes = b"") -> Any:
        answer = self.call(method, f"/api/{path}", body)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.body[:300]!r}"
        self.settled()
        return answer

    def post(self, path: str, content: Any) -> Any:
        return self.ok("POST", path, json.dumps(content).encode())


def boxes() -> np.ndarray:
    """Labels 1 to 8 in 64^3 voxels, each in more than one block of 32^3."""
    volume = np.zeros((64, 64, 64), np.uint64)
    for label in range(1, 9):
        volume[8 * label - 8 : 8 * label - 2, 10:50, 5:60] = label
    return volume


def part(label: int, **cut: slice) -> np.ndarray:
    """Some voxels of a label."""
    mask = np.zeros((64, 64, 64), bool)
    mask[:, cut.get("y", slice(None)), cut.get("x", slice(None))] = True
    return mask & (boxes() == label)


def create(server: Server, root: str, typename: str, name: str, **config: str) -> str:
    content = {"typename": typename, "dataname": name, **config}
    server.post(f"repo/{root}/instance", content)
    info = server.ok("GET", f"node/{root}/{name}/info").json()
    uuid: str = info["Base"]["DataUUID"]
    return uuid


def play(server: Server) -> dict[str, str]:
    """Do it all; return the topics behind `dvidrepo-`, by names that are the same for all servers."""
    root = server.ok("POST", "repos?admintoken=secret", b'{"alias":"day"}').json()["root"]
    topics = {"repo": f"{root}-repo-ops"}
    acts = {"keyvalue": keys, "labelmap": bodies, "long labelmap": many, "labelarray": labels}
    for name, act in acts.items():
        topics[name] = f"{root}-data-{act(server, root)}"
    versions(server, root)
    return topics


def keys(server: Server, root: str) -> str:
    uuid = create(server, root, "keyvalue", "kv")
    server.ok("POST", f"node/{root}/kv/key/a?u=ann&app=neu3", b"12345")
    server.ok("POST", f"node/{root}/kv/key/b%20c", b"")
    server.ok("DELETE", f"node/{root}/kv/key/a?u=bob")
    server.ok("DELETE", f"node/{root}/kv/key/never")
    return uuid


def bodies(server: Server, root: str) -> str:
    uuid = create(server, root, "labelmap", "seg", BlockSize="32,32,32")
    seg = f"node/{root}/seg"
    server.ok("POST", f"{seg}/raw/0_1_2/64_64_64/0_0_0", boxes().tobytes())
    server.post(f"{seg}/merge?u=ann&app=neu3", [1, 2, 3])
    server.post(f"{seg}/merge", [4, 5])
    server.post(f"{seg}/cleave/1?u=bob", [3])
    server.post(f"{seg}/cleave/1?u=bob&app=x", [2])
    server.post(f"{seg}/renumber?u=eve", [900, 4])
    runs = blob_of(part(6, x=slice(0, 20)))
    server.ok("POST", f"{seg}/split-supervoxel/6?u=ann&app=neu3", runs)
    server.ok(
        "POST", f"{seg}/split-supervoxel/7?split=2001&remain=2002", blob_of(part(7, y=slice(0, 20)))
    )
    server.ok("POST", f"{seg}/split/900?u=ann&app=neu3", blob_of(part(5, x=slice(0, 30))))
    server.ok("POST", f"{seg}/nextlabel/5")
    server.ok("POST", f"{seg}/nextlabel/1?u=ann")
    server.ok("POST", f"{seg}/maxlabel/5000?admintoken=secret&u=ann")
    server.ok("POST", f"{seg}/maxlabel/10?admintoken=secret")
    server.ok("POST", f"{seg}/set-nextlabel/7000?admintoken=secret")
    return uuid


def many(server: Server, root: str) -> str:
    """A cleave of more supervoxels than a message may name."""
    uuid = create(server, root, "labelmap", "many", BlockSize="32,32,32")
    node, body = f"node/{root}/many", LONG[-1] + 1
    server.ok("POST", f"{node}/raw/0_1_2/64_64_64/0_0_0", boxes().tobytes())
    counts = {(0, 0, 0): dict.fromkeys(LONG, 1)}
    index = index_message(body, counts).SerializeToString()
    server.ok("POST", f"{node}/index/{body}", index)
    ops = messages_pb2.MappingOps()
    ops.mappings.add(mutid=1, mapped=body, original=LONG)
    server.ok("POST", f"{node}/mappings", ops.SerializeToString())
    server.post(f"{node}/cleave/{body}?u=ann", list(LONG[5:]))
    return uuid


def labels(server: Server, root: str) -> str:
    uuid = create(server, root, "labelarray", "old", BlockSize="32,32,32")
    old = f"node/{root}/old"
    server.ok("POST", f"{old}/raw/0_1_2/64_64_64/0_0_0", boxes().tobytes())
    server.post(f"{old}/merge?u=ann&app=neu3", [1, 2, 3])
    server.ok("POST", f"{old}/split/4?u=ann&app=neu3", blob_of(part(4, x=slice(0, 20))))
    server.ok("POST", f"{old}/split/5?splitlabel=500", blob_of(part(5, x=slice(0, 20))))
    server.ok("POST", f"{old}/split-coarse/6?u=bob", coarse_body([(1, 0, 0), (1, 1, 0)]))
    server.ok("POST", f"{old}/split-coarse/7?splitlabel=700", coarse_body([(1, 0, 0)]))
    return uuid


def versions(server: Server, root: str) -> None:
    node = f"node/{root}"
    server.post(f"{node}/note?u=ann", {"note": 'a "note"'})
    server.post(f"{node}/log?u=ann", {"log": ["one", "two"]})
    server.post(f"{node}/commit?u=ann", {"note": "done", "log": ["three"]})
    child = server.post(f"{node}/newversion", {"note": "next"}).json()["child"]
    side = server.post(f"{node}/branch", {"branch": "side", "note": "try"}).json()["child"]
    server.post(f"{node}/tag", {"tag": "v1", "note": "first"})
    server.post(f"node/{child}/commit", {})
    server.post(f"node/{side}/commit", {"note": ""})
    server.post(f"node/{side}/branch", {"branch": "side"})


class Names:
    """Puts names in place of what no two servers have alike: versions and mutation ids."""

    def __init__(self) -> None:
        self._uuids: dict[str, str] = {}
        self._mutations: dict[tuple[str, int], int] = {}

    def text(self, found: str) -> str:
        return UUID.sub(
            lambda one: self._uuids.setdefault(one[0], f"<version {len(self._uuids)}>"), found
        )

    def comparable(self, topic: str, message: Message) -> Message:
        """What must be equal. Mutation ids are numbered by topic: the same id is the same number."""
        found = {}
        for name, value in message.items():
            if name == "Timestamp":
                assert TIME.match(value), value
                value = "<time>"
            elif name == "MutationID":
                mine = {key for key in self._mutations if key[0] == topic}
                value = self._mutations.setdefault((topic, value), len(mine))
            elif name == "DataRef":
                value = "<blob>"  # of a text with a time in it
            elif isinstance(value, str):
                value = self.text(value)
            elif name == "Labels":
                value = sorted(value)  # DVID writes a set, in any order
            found[name] = value
        return found


def comparable(told: dict[str, list[Message]]) -> dict[str, list[Message]]:
    """The messages of each topic, in a form that is equal for equal servers."""
    names = Names()
    return {
        topic: [names.comparable(topic, message) for message in told[topic]]
        for topic in sorted(told)
    }


# -- recording -------------------------------------------------------------------------------


def _read(broker: str, topic: str) -> Iterator[Message]:
    from dvid_es.logs.kafka_client import Cluster, Connection

    cluster = Cluster(Connection((broker,)))
    first, end = cluster.ends(topic)
    for batch in cluster.read(topic, first, end):
        yield from (json.loads(value) for _, value in batch if value is not None)
    cluster.close()


def _caller(base: str) -> Callable[[str, str, bytes], Answered]:
    host, port = base.removeprefix("http://").split(":")

    def call(method: str, path: str, body: bytes) -> Answered:
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.request(method, path, body)
        answer = connection.getresponse()
        found = Answered(answer.status, answer.read())
        connection.close()
        return found

    return call


def record(base: str, broker: str, path: Path) -> None:
    """Put a real DVID through the day and keep what it told."""
    # It answers some edits before they are done and says nowhere when they are.
    server = Server(_caller(base), lambda: time.sleep(0.5))
    topics = play(server)
    told = {name: list(_read(broker, f"dvidrepo-{topic}")) for name, topic in topics.items()}
    path.write_text(json.dumps(comparable(told), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
