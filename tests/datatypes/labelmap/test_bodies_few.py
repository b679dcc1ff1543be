from __future__ import annotations

import random

import numpy as np
import pytest

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import bodyrow, labelsets
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body, Last
from dvid_es.datatypes.labelmap.mapping import lookup
from dvid_es.events import Event, Header, Record
from dvid_es.projections.temporal import keys_of


class Rows:
    """A transaction that remembers what is put."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes, bytes]] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.rows.append((key, value))

    def put_many(self, rows, suffix: bytes = b"") -> None:
        self.rows += [(key + suffix, value) for key, value in rows]

    def put_table(self, keys, suffix: bytes, values) -> None:
        self.put_many(zip(keys_of(keys), values, strict=True), suffix)


def labels(chance: random.Random, count: int) -> np.ndarray:
    top = chance.choice((5, 40, 2**64 - 1))
    return np.array([chance.randrange(1, top + 1) for _ in range(count)], np.uint64)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 40])
def test_few_labels_are_treated_as_many_are(count: int) -> None:
    chance = random.Random(count)
    for _ in range(50):
        some = labels(chance, count)
        known = np.unique(labels(chance, chance.choice((0, 1, 7, 15, 16, 30))))
        assert np.array_equal(labelsets.distinct(some), np.unique(some))
        assert labelsets.distinct(some).dtype == np.uint64
        inside = labelsets.member(some, known)
        assert inside.dtype == bool
        assert np.array_equal(inside, np.isin(some, known))


@pytest.mark.parametrize("svs", [[9, 2**63 + 1, 4, 2**64 - 1], [4, 9, 2**63 + 1, 2**64 - 1]])
@pytest.mark.parametrize("bodies", [[1, 2**64 - 2, 0, 4], [7, 7, 7, 7]])
def test_few_entries_of_the_mapping_are_written_as_many_are(
    svs: list[int], bodies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(7, 0, Header(version=3, instance=2), Event())
    labels_of = np.array(svs, np.uint64), np.array(bodies, np.uint64)
    few, many = Rows(), Rows()
    lookup.put_entries(few, record, *labels_of)  # type: ignore[arg-type]
    monkeypatch.setattr(lookup, "_FEW", 0)
    lookup.put_entries(many, record, *labels_of)  # type: ignore[arg-type]
    assert len(few.rows) == 5
    assert few.rows == many.rows


def test_bodies_of_one_supervoxel_are_read_together_as_one_by_one() -> None:
    values = [bodyrow.encode_single(2**63 + sv, 10 + sv) for sv in range(20)]
    singles = bodyrow.peek_singles(values)
    assert singles is not None
    one_by_one = [bodyrow.peek(value) for value in values]
    assert singles[0].tobytes() == b"".join(whole or b"" for _, _, whole, _ in one_by_one)
    assert singles[1] == sum(voxels for voxels, _, _, _ in one_by_one)


@pytest.mark.parametrize(
    "other",
    [
        Body(voxels=5, members=2, added=np.array([1, 2], np.uint64)),
        Body(voxels=5, members=1, added=np.array([1], np.uint64), overridden=True),
        Body(voxels=5, members=1, added=np.array([1], np.uint64), last=Last(7, "t", "u", "a")),
        Body(voxels=0, members=1, added=np.array([1], np.uint64)),
        Body(),
    ],
)
def test_any_other_body_among_them_is_looked_at_by_itself(other: Body) -> None:
    values = [bodyrow.encode_single(3, 3), bodyrow.encode(other)]
    assert bodyrow.peek_singles(values) is None


def test_rows_that_are_as_long_together_are_told_apart() -> None:
    none, two = (
        bodyrow.encode(Body()),
        bodyrow.encode(Body(voxels=5, members=2, added=np.array([1, 2], np.uint64))),
    )
    assert len(none) + len(two) == 2 * len(bodyrow.encode_single(1, 1))
    assert bodyrow.peek_singles([none, two]) is None


def test_what_is_read_twice_cannot_be_changed() -> None:
    body = bodyrow.decode(bodyrow.encode_single(3, 3))
    with pytest.raises(ValueError, match="read-only"):
        body.added[0] = 4


def test_times_of_one_second_are_equal_texts() -> None:
    assert gojson.rfc3339(1_999_999_999) == "1970-01-01T00:00:01Z"
    assert gojson.rfc3339(1_000_000_000) == "1970-01-01T00:00:01Z"
    assert gojson.rfc3339(-1) == "1969-12-31T23:59:59Z"
