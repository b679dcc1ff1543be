"""annotation: what Kafka, the feed and analytics hear."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import declared
from dvid_es.datatypes.annotation import ANNOTATION, overheard
from dvid_es.events import decode
from dvid_es.feed.messages import message_of
from tests.datatypes.annotation.kit import Pair, element, pair, slabs
from tests.datatypes.labelmap.split_cases import blob_of


def heard(made: Pair, since: int = 0) -> list[dict[str, Any]]:
    """All messages about annotations, without times and versions."""
    engine = made.live.engine
    stream = engine.streams.get(made.root)
    found: list[dict[str, Any]] = []
    with engine.store.read(made.root, stream.packs) as txn:
        for stored in stream.log.read(since, stream.log.end):
            record = decode(*stored)
            classic = ANNOTATION.published.get(type(record.event))
            texts = list(classic(record, txn)) if classic is not None else []
            syn = txn.repo.names["syn"].id
            texts += [text for number, text in overheard.messages(record, txn) if number == syn]
            for text in texts:
                fields = json.loads(text)
                assert text == json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
                assert list(fields) == sorted(fields)
                assert fields.pop("UUID") == made.root
                assert fields.pop("Timestamp").endswith(" UTC")
                found.append(fields)
    return found


def place(label: int, x: int, y: int, z: int, kind: str = "Note") -> dict[str, Any]:
    return {"Label": label, "Kind": kind, "Pos": [x, y, z]}


def test_requests_are_told_as_dvid_tells_them(live: Any) -> None:
    made = pair(live, slabs())
    body = json.dumps([element(1, 1, 1), element(9, 1, 1)]).encode()
    live.ok("POST", f"{made.syn()}/elements?u=kat", body)
    live.ok("POST", f"{made.syn()}/elements?kafkalog=off", body)
    live.ok("POST", f"{made.syn()}/move/1_1_1/2_3_4")
    live.ok("POST", f"{made.syn()}/move/2_3_4/2_3_5?kafkalog=off")
    live.ok("DELETE", f"{made.syn()}/element/2_3_5?u=ann")
    live.ok("DELETE", f"{made.syn()}/element/9_1_1?kafkalog=off")
    blocks = b'{"0,0,0":[]}'
    live.ok("POST", f"{made.syn()}/blocks", blocks)
    live.ok("POST", f"{made.syn()}/labels", b"{}")
    live.ok("POST", f"{made.syn()}/reload")
    first, moved, deleted, posted = heard(made)
    assert (first.pop("Action"), first.pop("User")) == ("element-post", "kat")
    assert moved == {"Action": "element-move", "From": [1, 1, 1], "To": [2, 3, 4]}
    assert deleted == {"Action": "element-delete", "Point": [2, 3, 5], "User": "ann"}
    assert posted.pop("Action") == "blocks-post"
    for message, sent in ((first, body), (posted, blocks)):
        assert live.ok("GET", f"{made.syn()}/blobstore/{message['DataRef']}").body == sent


def test_edits_of_labels_tell_which_elements_are_in_other_bodies(live: Any) -> None:
    made = pair(live)
    made.post(element(1, 1, 1), element(9, 1, 1, "Gap"), element(17, 50, 1))
    start = live.engine.streams.get(made.root).log.end
    made.paint(slabs(), mutate=False)
    ingested = heard(made, start)
    assert [message["Action"] for message in ingested] == ["ingest-block"] * 2
    assert ingested[0]["Delta"] == {
        "Add": [place(1, 1, 1, 1), place(2, 9, 1, 1, "Gap")],
        "Del": None,
    }
    assert ingested[1]["Delta"] == {"Add": [place(3, 17, 50, 1)], "Del": None}

    def told() -> list[Any]:
        nonlocal start
        found, start = heard(made, start), live.engine.streams.get(made.root).log.end
        return [(one["Action"], one["Delta"]["Add"], one["Delta"]["Del"]) for one in found]

    told()
    mutation = made.edit("merge", [8, 1, 2])["MutationID"]
    gone = [place(1, 1, 1, 1), place(2, 9, 1, 1, "Gap")]
    came = [place(8, 1, 1, 1), place(8, 9, 1, 1, "Gap")]
    assert heard(made, start)[0]["MutationID"] == mutation
    assert told() == [("merge", came, gone)]
    made.edit("merge", [8, 4])
    assert told() == [], "nothing lies in 4"
    new = made.edit("cleave/8", [2])["CleavedLabel"]
    assert told() == [("cleave", [place(new, 9, 1, 1, "Gap")], [place(8, 9, 1, 1, "Gap")])]
    made.edit("renumber", [500, 3])
    assert told() == [("merge", [place(500, 17, 50, 1)], [place(3, 17, 50, 1)])]
    made.edit("undo", {"mutation": mutation + 2})
    assert told() == [("merge", [place(8, 9, 1, 1, "Gap")], [place(new, 9, 1, 1, "Gap")])]
    changed = slabs()
    changed[:, :, :8] = 7
    made.paint(changed)
    # 2 is a supervoxel of 8 by now; 7 is itself.
    before = [place(8, 1, 1, 1), place(8, 9, 1, 1, "Gap")]
    after = [place(7, 1, 1, 1), place(8, 9, 1, 1, "Gap")]
    rest = ("mutate-block", [place(500, 17, 50, 1)], [place(500, 17, 50, 1)])
    assert told() == [("mutate-block", after, before), rest]


@pytest.mark.parametrize("coarse", [False, True])
def test_splits_of_labelarrays_tell_it_too(live: Any, coarse: bool) -> None:
    made = pair(live, slabs(), "labelarray")
    made.post(element(1, 1, 1), element(1, 40, 1))
    start = live.engine.streams.get(made.root).log.end
    if coarse:
        from tests.datatypes.labelarray.label_model import coarse_body

        path, body = "split-coarse/1", coarse_body([(0, 1, 0), (1, 1, 0)])
    else:
        mask = np.zeros((64, 64, 64), bool)
        mask[:, 35:, :8] = True
        path, body = "split/1", blob_of(mask)
    new = live.ok("POST", f"{made.seg()}/{path}", body).json()["label"]
    (message,) = heard(made, start)
    assert message["Action"] == ("split-coarse" if coarse else "split")
    assert message["Delta"] == {"Add": [place(new, 1, 40, 1)], "Del": [place(1, 1, 40, 1)]}


def test_long_lists_come_in_parts(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overheard, "ELEMENTS_PER_MESSAGE", 3)
    made = pair(live, slabs())
    made.post(*(element(1, y, 1) for y in range(7)))
    start = live.engine.streams.get(made.root).log.end
    made.edit("merge", [2, 1])
    parts = [message["Delta"]["Add"] for message in heard(made, start)]
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [one["Pos"][1] for part in parts for one in part] == list(range(7))


def test_followers_are_told_of_labels_and_places(live: Any) -> None:
    made = pair(live, slabs())
    start = live.engine.streams.get(made.root).log.end
    made.post(element(9, 2, 3), element(60, 2, 40))
    live.ok("POST", f"{made.syn()}/move/9_2_3/17_2_3")
    live.ok("DELETE", f"{made.syn()}/element/60_2_40")
    engine = live.engine
    stream = engine.streams.get(made.root)
    with engine.store.read(made.root, stream.packs) as txn:
        told = [
            message_of(decode(*stored), txn.repo, declared(), txn.bulk)
            for stored in stream.log.read(start, stream.log.end)
        ]
    assert [message.labels for message in told] == [{2, 8}, {2, 3}, {8}]
    corners = [message.boxes[:, 0].tolist() for message in told if message.boxes is not None]
    assert corners == [[[9, 2, 3], [60, 2, 40]], [[9, 2, 3], [17, 2, 3]], [[60, 2, 40]]]
    assert (told[0].boxes[:, 1] - told[0].boxes[:, 0] == 1).all()  # type: ignore[index]


def test_elements_are_a_table(live: Any) -> None:
    made = pair(live, slabs())
    rels = [{"Rel": "GroupedWith", "To": [1, 1, 1]}]
    made.post(
        element(9, -2, 3, "Gap", Tags=["a"], Prop={"b": "1", "a": "2"}, Rels=rels), element(1, 1, 1)
    )
    engine = live.engine
    with engine.store.read(made.root, engine.streams.get(made.root).packs) as txn:
        pages = list(ANNOTATION.tables["elements"].read(txn, txn.repo.names["syn"], txn.view(1)))
    assert pages == [
        (
            ["9,-2,3", "1,1,1"], ["Gap", "Note"], ['["a"]', "[]"], ['{"a":"2","b":"1"}', "{}"],
            ['[{"Rel":"GroupedWith","To":[1,1,1]}]', "[]"],
        )
    ]  # fmt: skip
