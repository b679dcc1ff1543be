"""Synapses as neuclease posts and fetches them, and points as NeuTu keeps them, against numpy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest

from tests.clients.test_neuclease import HEADERS, create
from tests.clients.wire import Session, Volume, block_stream
from tests.datatypes.labelmap import voxel_oracle as oracle

SHAPE = (64, 64, 128)
Elements = dict[tuple[int, int, int], dict[str, Any]]


@pytest.fixture(scope="module")
def volume() -> Volume:
    return oracle.cells(SHAPE, 12, seed=5, first=1000)


@pytest.fixture
def dvid(live: Any) -> Iterator[Session]:
    with Session(live.port, HEADERS, u="annotator", app="Neuclease") as session:
        yield session


@pytest.fixture
def uuid(dvid: Session, volume: Volume) -> str:
    root: str = dvid.json("POST", "/api/repos", {"alias": "synapses"}).json()["root"]
    node = create(dvid, root)
    dvid.ok("POST", f"{node}/blocks", block_stream(volume), scale="0", downres="true")
    settings = {"dataname": "synapses", "typename": "annotation"}
    dvid.json("POST", f"/api/repo/{root}/instance", settings)
    dvid.json("POST", f"/api/node/{root}/synapses/sync", {"sync": "segmentation"}, replace="false")
    return root


def synapses() -> Elements:
    """T-bars, each with up to four PSDs near it."""
    rng = np.random.default_rng(3)
    found: Elements = {}
    for _ in range(40):
        tbar = tuple(int(rng.integers(4, side - 4)) for side in SHAPE[::-1])
        psds = {tuple(int(c + rng.integers(-4, 5)) for c in tbar) for _ in range(4)}
        psds -= {tbar, *found}
        if tbar in found or not psds:
            continue
        found[tbar] = {
            "Pos": list(tbar), "Kind": "PreSyn", "Tags": ["tbar"], "Prop": {"conf": "0.95", "user": "fpl"},
            "Rels": [{"Rel": "PreSynTo", "To": list(psd)} for psd in sorted(psds)],
        }  # fmt: skip
        for psd in psds:
            found[psd] = {
                "Pos": list(psd), "Kind": "PostSyn", "Tags": [], "Prop": {"conf": "0.8"},
                "Rels": [{"Rel": "PostSynTo", "To": list(tbar)}],
            }  # fmt: skip
    return found


def in_blocks(elements: Elements) -> dict[str, list[dict[str, Any]]]:
    """By blocks of 64, as neuclease divides them."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    for position, element in elements.items():
        blocks.setdefault(",".join(str(c // 64) for c in position), []).append(element)
    return blocks


def sorted_by_place(elements: Any) -> list[dict[str, Any]]:
    return sorted(elements, key=lambda one: one["Pos"][::-1])


def of_body(elements: Elements, labels: Volume, body: int) -> list[dict[str, Any]]:
    return sorted_by_place(one for (x, y, z), one in elements.items() if labels[z, y, x] == body)


@pytest.mark.parametrize("way", ["blocks", "elements"])
def test_a_table_of_synapses_is_posted_and_fetched_by_body(
    dvid: Session, uuid: str, volume: Volume, way: str
) -> None:
    node, elements = f"/api/node/{uuid}/synapses", synapses()
    if way == "blocks":
        dvid.json("POST", f"{node}/blocks", in_blocks(elements), kafkalog="off")
        dvid.ok("POST", f"{node}/reload", check="false", inmemory="true")
    else:
        for start in range(0, len(elements), 50):
            part = list(elements.values())[start : start + 50]
            dvid.json("POST", f"{node}/elements", part, kafkalog="off")
    blocks = dvid.ok("GET", f"{node}/all-elements").json()
    assert sorted_by_place(chain(*blocks.values())) == sorted_by_place(elements.values())
    assert dvid.ok("GET", f"{node}/blocks/128_64_64/0_0_0").json() == blocks
    segmentation, labels = f"/api/node/{uuid}/segmentation", volume.copy()

    def check() -> None:
        for body in np.unique(volume).tolist():
            path = f"{node}/label/{body}"
            full = dvid.ok("GET", path, relationships="true").json()
            assert sorted_by_place(full) == of_body(elements, labels, body)
            plain = dvid.ok("GET", path, relationships="false").json()
            assert all("Rels" not in one for one in plain)
            assert len(plain) == len(full)

    check()
    bodies = np.unique(volume).tolist()
    dvid.json("POST", f"{segmentation}/merge", bodies[:4])
    labels[np.isin(labels, bodies[:4])] = bodies[0]
    check()
    cleaved = dvid.json("POST", f"{segmentation}/cleave/{bodies[0]}", [bodies[1]]).json()
    labels[volume == bodies[1]] = cleaved["CleavedLabel"]
    check()
    path = f"{node}/label/{cleaved['CleavedLabel']}?relationships=true"
    full = dvid.ok("GET", path).json()
    assert sorted_by_place(full) == of_body(elements, labels, cleaved["CleavedLabel"])


def test_synapses_in_a_box_are_fetched_moved_and_deleted(dvid: Session, uuid: str) -> None:
    node, elements = f"/api/node/{uuid}/synapses", synapses()
    dvid.json("POST", f"{node}/elements", list(elements.values()))
    box = dvid.ok("GET", f"{node}/elements/40_30_20/20_10_5").json() or []
    inside = [
        one for (x, y, z), one in elements.items() if 20 <= x < 60 and 10 <= y < 40 and 5 <= z < 25
    ]
    assert sorted_by_place(box) == sorted_by_place(inside)
    tbar = next(one for one in elements.values() if one["Kind"] == "PreSyn")
    source, target = ("_".join(map(str, place)) for place in (tbar["Pos"], [100, 60, 60]))
    dvid.ok("POST", f"{node}/move/{source}/{target}", kafkalog="off")
    partner = "_".join(map(str, tbar["Rels"][0]["To"]))
    (psd,) = dvid.ok("GET", f"{node}/elements/1_1_1/{partner}").json()
    assert psd["Rels"] == [{"Rel": "PostSynTo", "To": [100, 60, 60]}]
    dvid.ok("DELETE", f"{node}/element/{target}", kafkalog="off")
    (psd,) = dvid.ok("GET", f"{node}/elements/1_1_1/{partner}").json()
    assert psd["Rels"] == []
    tags = dvid.ok("GET", f"{node}/tag/tbar").json()
    assert len(tags) == sum(one["Kind"] == "PreSyn" for one in elements.values()) - 1
    assert dvid.ok("GET", f"{node}/elements/5_5_5/4000_0_0").json() is None


def test_points_of_a_user_are_found_by_their_tag(dvid: Session, uuid: str) -> None:
    settings = {"dataname": "segmentation_todo", "typename": "annotation"}
    dvid.json("POST", f"/api/repo/{uuid}/instance", settings)
    node = f"/api/node/{uuid}/segmentation_todo"
    point = {
        "Pos": [7, 8, 9], "Kind": "Note", "Tags": ["user:annotator"],
        "Prop": {"checked": "0", "action": "to split", "user": "annotator"},
    }  # fmt: skip
    dvid.ok("POST", f"{node}/elements", json.dumps([point]).encode(), app="NeuTu")
    found = dvid.ok("GET", f"{node}/tag/user:annotator").json()
    assert [{**one} for one in found] == [point]
    checked = {**point, "Prop": {**point["Prop"], "checked": "1"}}  # type: ignore[dict-item]
    dvid.ok("POST", f"{node}/elements", json.dumps([checked]).encode())
    assert dvid.ok("GET", f"{node}/tag/user:annotator").json() == [checked]
    dvid.ok("DELETE", f"{node}/element/7_8_9")
    assert dvid.ok("GET", f"{node}/tag/user:annotator").json() == []
