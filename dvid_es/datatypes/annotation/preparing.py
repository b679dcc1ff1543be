"""Requests made into commands, beside others: texts, places, links, bulk into packs."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.annotation import elements as texts
from dvid_es.datatypes.annotation.elements import Element, Packed
from dvid_es.datatypes.annotation.fold import NULL_COUNT
from dvid_es.datatypes.annotation.parsing import parse_label_list
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Triple
from dvid_es.http.wire import parse_json, parse_unsigned

_BLOCK_NAME = re.compile(r" *([+-]?[0-9]{1,20}), *([+-]?[0-9]{1,20}), *([+-]?[0-9]{1,20})")
"""What Go's Sscanf takes for "%d,%d,%d": it does not look at what follows."""


ELEMENTS_MAX = 2_000_000
"""Elements of one request: what lies under them has to fit into an event."""


class Blocks(NamedTuple):
    """Posted blocks."""

    coords_zyx: NDArray[np.int32]
    """int32[n, 3], distinct, in ZYX order."""

    counts: NDArray[np.uint32]
    """uint32[n]: how many elements each has."""

    packed: Packed
    links: NDArray[np.int32]


class Lists(NamedTuple):
    """Posted lists of labels."""

    labels: NDArray[np.uint64]
    counts: NDArray[np.uint32]
    packed: Packed


def check_count(count: int) -> None:
    """Refuse too many elements at once.

    Raises:
        InvalidRequest: they are.
    """
    if count > ELEMENTS_MAX:
        raise InvalidRequest(
            f"{count} elements are too many for one request: send at most {ELEMENTS_MAX} at once"
        )


def distinct(found: Sequence[Element]) -> list[Element]:
    """Return elements of which no two are at one place: the last one of a place counts.

    Raises:
        InvalidRequest: an element has an empty tag, or they are too many.
    """
    check_count(len(found))
    last: dict[tuple[int, int, int], Element] = {}
    for element in found:
        if element.Tags and "" in element.Tags:
            raise InvalidRequest(
                f"the element at {element.Pos} has an empty tag, which nobody could ask for"
            )
        last[element.Pos] = element
    return list(last.values()) if len(last) < len(found) else list(found)


def links_between(
    found: Sequence[Element], shape: Triple, blocks_zyx: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """Return int32[m, 2, 3]: blocks with elements, and places in others that these are related to.

    Args:
        found: the elements.
        shape: of blocks.
        blocks_zyx: int32[n, 3]: the blocks that they are in, if not those of their places.
    """
    targets = [rel.To for element in found for rel in element.Rels or ()]
    if not targets:
        return np.zeros((0, 2, 3), np.int32)
    sides = np.array(shape, np.int64)
    if blocks_zyx is None:
        points = np.array([element.Pos for element in found], np.int64)[:, ::-1]
        blocks_zyx = (points // sides).astype(np.int32)
    counts = [len(element.Rels or ()) for element in found]
    places = np.array(targets, np.int64)[:, ::-1]
    own = np.repeat(blocks_zyx, counts, axis=0)
    away = (own != places // sides).any(axis=1)
    pairs = np.stack([own[away], places[away].astype(np.int32)], axis=1)
    return np.unique(pairs.reshape(-1, 6), axis=0).reshape(-1, 2, 3)


def pack_blocks(posted: Mapping[str, list[Element] | None], shape: Triple) -> Blocks:
    """Return posted blocks by their coordinates.

    Raises:
        InvalidRequest: the name of a block is no coordinate.
    """
    by_coord: dict[Triple, list[Element] | None] = {}
    for name, found in posted.items():
        match = _BLOCK_NAME.match(name)
        numbers = [int(part) for part in match.groups()] if match else []
        if not all(-(1 << 31) <= number < 1 << 31 for number in numbers) or not match:
            raise InvalidRequest(f'"{name[:80]}" is no block: "x,y,z" is needed, as in "10,381,28"')
        x, y, z = numbers
        by_coord[z, y, x] = found
    ordered = sorted(by_coord.items())
    coords = np.array([coord for coord, _ in ordered], np.int32).reshape(-1, 3)
    lengths = [len(found or ()) for _, found in ordered]
    nulls = [found is None for _, found in ordered]
    counts = np.where(nulls, NULL_COUNT, np.array(lengths, np.int64)).astype(np.uint32)
    together = [element for _, found in ordered for element in found or ()]
    check_count(len(together))
    links = links_between(together, shape, np.repeat(coords, lengths, axis=0))
    return Blocks(coords, counts, texts.pack(together), links)


def pack_lists(body: bytes) -> Lists:
    """Return the lists of a body `{"23": "[...]", ...}`; those of label 0 are left out.

    Raises:
        InvalidRequest: no such object, a key that is no label, or a value that is no list.
    """
    value = parse_json(body)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise InvalidRequest("an object of lists, as JSON texts, by label is needed")
    found: dict[int, list[Element]] = {}
    for name, text in value.items():
        label = parse_unsigned(name, "label")
        if text is None or text == "":
            text = "[]"  # DVID keeps an empty value, which is no list
        if not isinstance(text, str):
            raise InvalidRequest(
                f"the list of label {label} must be JSON in a text, got {json.dumps(text)[:60]}"
            )
        elements = parse_label_list(text, label)
        if label:
            # Of several at one place the last one counts.
            found[label] = list({element.Pos: element for element in elements}.values())
    labels = np.array(sorted(found), np.uint64)
    lists = [found[label] for label in sorted(found)]
    counts = np.array([len(one) for one in lists], np.uint32)
    check_count(len(found) + int(counts.sum()))
    return Lists(labels, counts, texts.pack([element for one in lists for element in one]))
