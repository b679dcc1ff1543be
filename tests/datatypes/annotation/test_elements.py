"""annotation: what is an element and what is not, and how its text looks."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.codecs import gojson
from dvid_es.datatypes.annotation import elements as texts
from dvid_es.datatypes.annotation import parsing, preparing, rows
from dvid_es.datatypes.annotation.elements import Element, Rel
from dvid_es.errors import InvalidRequest

NUMBERS = st.integers(-(1 << 31), (1 << 31) - 1)
POINTS = st.tuples(NUMBERS, NUMBERS, NUMBERS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ELEMENTS = st.builds(
    Element,
    POINTS,
    st.sampled_from(sorted(texts.KINDS)),
    st.none() | st.lists(TEXTS, max_size=3),
    st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.none()
    | st.lists(st.builds(Rel, st.sampled_from(sorted(texts.RELATIONS)), POINTS), max_size=3),
)


def go(element: Element, *, rels: bool = True) -> str:
    """An element as Go writes it, by another way."""
    fields: dict[str, Any] = {"Pos": list(element.Pos), "Kind": element.Kind, "Tags": element.Tags}
    prop = element.Prop
    fields["Prop"] = prop and dict(sorted(prop.items(), key=lambda item: item[0].encode()))
    if rels:
        found = element.Rels
        fields["Rels"] = found and [{"Rel": rel.Rel, "To": list(rel.To)} for rel in found]
    for name, value in (("Tags", element.Tags), ("Prop", prop), ("Rels", element.Rels)):
        if name in fields and value is not None and not value:
            fields[name] = value
    return gojson.dumps(fields)


@given(ELEMENTS)
def test_texts_are_as_go_writes_them(element: Element) -> None:
    text, cut = texts.text_of(element)
    assert text.decode() == go(element)
    assert (text[:cut] + b"}").decode() == go(element, rels=False)
    assert texts.read_element(text) == element
    filled, cut = texts.without_nulls(text, cut)
    whole = Element(
        element.Pos, element.Kind, element.Tags or [], element.Prop or {}, element.Rels or []
    )
    assert filled.decode() == go(whole)
    assert (filled[:cut] + b"}").decode() == go(whole, rels=False)
    assert texts.tags_of(text) == [tag for tag in element.Tags or () if tag]
    assert texts.targets_of(text) == [rel.To for rel in element.Rels or ()]
    for rel in element.Rels or ():
        assert texts.points_to(text, rel.To)


@given(st.lists(ELEMENTS, max_size=4))
def test_packed_elements_come_back(found: list[Element]) -> None:
    packed = texts.pack(found)
    again = texts.unpack(texts.points_bytes(packed), texts.texts_bytes(packed))
    assert again.texts == packed.texts
    assert again.cuts == packed.cuts
    assert np.array_equal(again.points_zyx, packed.points_zyx)
    assert again.points_zyx.tolist() == [list(one.Pos[::-1]) for one in found]


@given(st.lists(ELEMENTS, max_size=3))
def test_both_ways_of_parsing_agree(found: list[Element]) -> None:
    body = msgspec.json.encode(found)
    assert parsing.parse_elements(body) == found
    # An unknown name is legal, and only the slow way knows it.
    odd = [{"colour": 1, **msgspec.to_builtins(one)} for one in found]
    assert parsing.parse_elements(json.dumps(odd).encode()) == found
    blocks = parsing.parse_blocks(b'{"0,0,0":' + body + b',"1,1,1":null}')
    assert blocks == {"0,0,0": found, "1,1,1": None}


def test_go_takes_much_that_is_not_an_element() -> None:
    assert parsing.parse_elements(b"null") == []
    assert parsing.parse_blocks(b"null") == {}
    body = b'[null, {"POS": [1, null], "kInd": "Gap", "tags": [null], "prop": {"a": null},'
    body += b' "Rels": [null, {"to": [1, 2, 3, 4]}], "x": {}}, {"Pos": [-0, 5, 6, "more"]}]'
    assert parsing.parse_elements(body) == [
        Element(),
        Element((1, 0, 0), "Gap", [""], {"a": ""}, [Rel(), Rel("UnknownRelationship", (1, 2, 3))]),
        Element((0, 5, 6)),
    ]
    assert parsing.parse_elements(b'[{"Tags": ["\\ud800x"]}]')[0].Tags == ["\ufffdx"]
    assert parsing.parse_elements(b'[{"Tags": ["\xffx"]}]')[0].Tags == ["\ufffdx"]
    made = preparing.pack_blocks({" 1, -2,+3 and more": None}, (64, 64, 64))
    assert made.coords_zyx.tolist() == [[3, -2, 1]]
    lists = preparing.pack_lists(b'{"7": "", "8": null, "0": "[{}]", "9": "[{\\"Rels\\": [{}]}]"}')
    assert (lists.labels.tolist(), lists.counts.tolist()) == ([7, 8, 9], [0, 0, 1])
    nothing = b'{"Pos":[0,0,0],"Kind":"Unknown","Tags":null,"Prop":null,"Rels":null}'
    assert lists.packed.texts == [nothing]
    assert parsing.parse_elements(b'[{"Tags": ["\xffx"]}]')[0].Tags == ["\ufffdx"]
    made = preparing.pack_blocks({" 1, -2,+3 and more": None}, (64, 64, 64))
    assert made.coords_zyx.tolist() == [[3, -2, 1]]
    lists = preparing.pack_lists(b'{"7": "", "8": null, "0": "[{}]", "9": "[{\\"Rels\\": [{}]}]"}')
    assert (lists.labels.tolist(), lists.counts.tolist()) == ([7, 8, 9], [0, 0, 1])
    assert lists.packed.texts == [
        b'{"Pos":[0,0,0],"Kind":"Unknown","Tags":null,"Prop":null,"Rels":null}'
    ]


@pytest.mark.parametrize(
    "item",
    [
        b'{"Kind":"Foo"}', b'{"Kind":null}', b'{"Kind":1}', b'{"Kind":["Gap"]}', b'{"Pos":[1.0,2,3]}',
        b'{"Pos":[1e1,2,3]}', b'{"Pos":[2147483648,2,3]}', b'{"Pos":"1,2,3"}', b'{"Pos":[true,1,1]}',
        b'{"Pos":{}}', b'{"Tags":"a"}', b'{"Tags":[1]}', b'{"Prop":[]}', b'{"Prop":{"a":1}}',
        b'{"Rels":{}}', b'{"Rels":[1]}', b'{"Rels":[{"Rel":"Near"}]}', b'{"Rels":[{"To":[1,"2",3]}]}',
        b"[]", b"7", b'"a"', b"{", b"",
    ],
)  # fmt: skip
def test_what_is_no_element_is_refused_with_a_word_about_it(item: bytes) -> None:
    for body in (b"[" + item + b"]" if item else b"", b'[{"Pos":[1,2,3]},' + item + b"]"):
        with pytest.raises(InvalidRequest) as refused:
            parsing.parse_elements(body)
        assert len(str(refused.value)) > 10


@pytest.mark.parametrize(
    "name", ["", "1", "1,2", "1,2,x", "a,b,c", "1.0,2,3", "1_0,2,3", "3000000000,0,0"]
)
def test_a_block_needs_three_numbers(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is no block"):
        preparing.pack_blocks({name: []}, (64, 64, 64))


def test_of_elements_at_one_place_the_last_one_counts() -> None:
    found = [Element((1, 1, 1), "Gap"), Element((2, 2, 2)), Element((1, 1, 1), "Note")]
    assert preparing.distinct(found) == [found[2], found[1]]
    with pytest.raises(InvalidRequest, match="empty tag"):
        preparing.distinct([Element(Tags=["a", ""])])


def test_links_lead_from_a_block_to_places_in_others() -> None:
    def near(*to: tuple[int, int, int]) -> list[Rel]:
        return [Rel("GroupedWith", point) for point in to]

    found = [
        Element((1, 2, 3), Rels=near((5, 5, 5), (64, 0, 0), (-1, 0, 0), (64, 1, 1))),
        Element((70, 2, 3), Rels=near((1, 2, 3))),
        Element((0, 0, 200)),
    ]
    links = preparing.links_between(found, (64, 64, 64)).tolist()
    assert sorted(links) == [
        [[0, 0, 0], [0, 0, -1]], [[0, 0, 0], [0, 0, 64]], [[0, 0, 0], [1, 1, 64]],
        [[0, 0, 1], [3, 2, 1]],
    ]  # fmt: skip
    assert preparing.links_between(found[2:], (64, 64, 64)).shape == (0, 2, 3)


@given(st.lists(TEXTS.filter(bool), min_size=2, max_size=5, unique=True), st.integers(1, 60))
def test_no_tag_is_found_under_another_one(tags: list[str], times: int) -> None:
    prefixes = [rows.tag_prefix(7, tag * times) for tag in dict.fromkeys(tags)]
    assert all(len(prefix) + 12 + 12 + 4 <= 511 for prefix in prefixes)
    distinct = {tag * times for tag in tags}
    assert len(set(prefixes)) == len(distinct)
    for one in prefixes:
        assert not any(other != one and other.startswith(one) for other in prefixes)


@given(POINTS, POINTS)
def test_places_sort_as_their_bytes_do(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    assert (rows.point_bytes(one) < rows.point_bytes(other)) == (one < other)
    assert rows.point_of(b"xx" + rows.point_bytes(one), 2) == one
