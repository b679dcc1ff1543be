"""Undo and redo in the words of DVID's own log, for consumers that know no others.

| undone | nearest classic records | redone |
| --- | --- | --- |
| merge | a cleave for each body that comes back, with its label | merge |
| cleave | merge of the cleaved body into the other one | cleave, with the same label |
| renumber | renumber, back | renumber |
| split-supervoxel | none: no classic action joins supervoxels | split-supervoxel, same labels |
| split | merge of the split body into the other one | split, same labels |
| mappings | none: they were never in the log | none |
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes, to_bytes
from dvid_es.datatypes.labelmap.bodies.mutationlog import Entry
from dvid_es.datatypes.labelmap.undo.events import Reversal, Undone
from dvid_es.events import Bulk, Record

Facts = dict[str, Any]


class Change(NamedTuple):
    """What a reversal does to one body."""

    label: int
    lost: bytes
    """u64: supervoxels."""

    gained: bytes
    voxels: int
    """Afterwards."""


def changes(event: Reversal, fetch: Callable[[Bulk], bytes]) -> list[Change]:
    """Return what an event does to each body, the one first that the mutation was sent for."""
    labels, voxels = (from_bytes(fetch(part)).tolist() for part in (event.bodies, event.voxels))
    parts = [
        _cut(fetch(svs), fetch(sizes))
        for svs, sizes in (
            (event.lost, event.lost_sizes),
            (event.gained, event.gained_sizes),
        )
    ]
    return [Change(*one) for one in zip(labels, *parts, voxels, strict=True)]


def _cut(svs: bytes, sizes: bytes) -> list[bytes]:
    ends = (8 * np.cumsum(np.frombuffer(sizes, "<u4"))).tolist()
    return [svs[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def records(event: Reversal, fetch: Callable[[Bulk], bytes]) -> list[tuple[str, Facts]]:
    """Return the classic records of an event: action and facts, as `mutationlog` keeps them.

    Each also says `Undoes` or `Redoes`: the mutation id, or the sequence of one without.
    """
    undone = isinstance(event, Undone)
    said = {"Undoes" if undone else "Redoes": event.mutation or event.sequence}
    found = changes(event, fetch)
    first, others = (found[0], found[1:]) if found else (None, [])
    made: list[tuple[str, Facts]] = []
    if event.action in ("split", "split-supervoxel") and not undone:
        made = [(f"{event.action}-complete", dict(event.facts))]
    elif first is None or event.action == "split-supervoxel":
        pass
    elif event.action == "renumber":
        old, new = first.label, others[0].label
        pair = (
            {"NewLabel": old, "OrigLabel": new} if undone else {"NewLabel": new, "OrigLabel": old}
        )
        made = [("renumber-complete", pair)]
    elif undone == (event.action == "merge"):
        made = _cleaves(event, first, others, fetch)
    else:
        labels = to_bytes(np.array([other.label for other in others], np.uint64))
        made = [("merge-complete", {"Target": first.label, "Labels": labels})]
    return [(action, {**facts, **said}) for action, facts in made]


def entries(record: Record, fetch: Callable[[Bulk], bytes]) -> list[Entry]:
    """Return the classic records of an undo or redo as it is in the log; `mutationlog.to_json` writes them.

    Args:
        record: of an `Undone` or `Redone`.
        fetch: returns the bytes of a bulk value, as `txn.bulk` does.
    """
    assert isinstance(record.event, Reversal)
    header = record.header
    return [
        Entry(action, header.mutation_id, record.time_ns, header.user, header.app, facts)
        for action, facts in records(record.event, fetch)
    ]


def _cleaves(
    event: Reversal, first: Change, others: list[Change], fetch: Callable[[Bulk], bytes]
) -> list[tuple[str, Facts]]:
    """Return a cleave for each body that comes back, the remaining size falling from one to the next."""
    remain = first.voxels + sum(other.voxels for other in others)
    svs, mapped = (from_bytes(fetch(part)) for part in (event.supervoxels, event.mapped))
    made = []
    for other in others:
        remain -= other.voxels
        left = other.gained
        if event.action == "cleave":  # those without voxels belong to it, too
            left = to_bytes(np.union1d(from_bytes(left), svs[mapped == np.uint64(other.label)]))
        facts = {
            "OrigLabel": first.label,
            "CleavedLabel": other.label,
            "CleavedSupervoxels": left,
            "CleavedSize": other.voxels,
            "RemainSize": remain,
        }
        made.append(("cleave-complete", facts))
    return made
