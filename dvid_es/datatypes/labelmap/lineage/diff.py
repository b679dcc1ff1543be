"""What became of bodies between two views: one word for each, and where their voxels went.

A body is followed by its voxels, not only by its label: a body that has another label and the same
voxels is renumbered, one whose voxels are all in one other body is merged.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets
from dvid_es.datatypes.labelmap.lineage import overlaps, touched
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

CHANGES = (
    "same", "grown", "shrunk", "moved", "split", "merged", "renumbered", "born", "gone",
)  # fmt: skip
"""The words."""


class Size(NamedTuple):
    """How large a body is in one of the views."""

    voxels: int
    supervoxels: int


class Found(NamedTuple):
    """What became of one body."""

    label: int
    change: str
    first: Size | None
    """None if it was not there."""

    second: Size | None
    """For a renumbered one, that of the body with its other label."""

    renumbered_to: int
    """0 for one that is not."""

    into: dict[int, int]
    """Voxels that are in other bodies now, by these; 0 for none."""

    out_of: dict[int, int]
    """Voxels that were in other bodies."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        found: dict[str, Any] = {"label": self.label, "change": self.change}
        if self.renumbered_to:
            found["renumbered_to"] = self.renumbered_to
        found["from"] = None if self.first is None else self.first._asdict()
        found["to"] = None if self.second is None else self.second._asdict()
        found["into"] = [list(pair) for pair in sorted(self.into.items())]
        found["out_of"] = [list(pair) for pair in sorted(self.out_of.items())]
        return found

    def as_row(self) -> str:
        """Return a line of CSV; its columns are `COLUMNS`."""
        sizes = [field for size in (self.first, self.second) for field in size or ("", "")]
        flows = [
            ";".join(f"{label}:{voxels}" for label, voxels in sorted(flow.items()))
            for flow in (self.into, self.out_of)
        ]
        cells = [self.label, self.change, self.renumbered_to or "", *sizes, *flows]
        return ",".join(map(str, cells))


COLUMNS = (
    "label,change,renumbered_to,from_voxels,from_supervoxels,to_voxels,to_supervoxels,into,out_of"
)


def compare(txn: ReadTxn, instance_id: int, first: View, second: View) -> list[Found]:
    """Return what became of all bodies that events between two views have touched, by label.

    All others are the same. The cost is that of the events between, and of what they moved and wrote.
    """
    changed = touched.between(txn, instance_id, first, second)
    flows = overlaps.flows(txn, instance_id, first, second, changed)
    into: dict[int, dict[int, int]] = defaultdict(dict)
    out_of: dict[int, dict[int, int]] = defaultdict(dict)
    for (source, target), voxels in flows.items():
        into[source][target] = voxels
        out_of[target][source] = voxels
    labels = sorted({*changed.bodies.tolist(), *into, *out_of} - {0})
    sizes = [_sizes(txn, instance_id, labels, view) for view in (first, second)]
    found = []
    taken = set()
    for label in labels:
        one, two = (size.get(label) for size in sizes)
        target = _renumbered(label, sizes, into, out_of)
        if target:
            taken.add(target)
            two = sizes[1][target]
        if one is not None or two is not None:
            change = "renumbered" if target else _word(one, two, into[label], out_of[label])
            found.append(Found(label, change, one, two, target, into[label], out_of[label]))
    return [one for one in found if one.change != "born" or one.label not in taken]


def _sizes(txn: ReadTxn, instance_id: int, labels: list[int], view: View) -> dict[int, Size]:
    values = bodysets.read_values(txn, instance_id, np.array(labels, np.uint64), view)
    pairs = zip(labels, values, strict=True)
    return {label: Size(*bodyrow.peek(value)[:2]) for label, value in pairs if value is not None}


def _renumbered(
    label: int,
    sizes: list[dict[int, Size]],
    into: dict[int, dict[int, int]],
    out_of: dict[int, dict[int, int]],
) -> int:
    """Return the new label of a body that is gone, if that has exactly its voxels; else 0."""
    if label in sizes[1] or len(into[label]) != 1:
        return 0
    (target,) = into[label]
    if target in sizes[0] or list(out_of[target]) != [label]:
        return 0
    return target


def _word(
    first: Size | None, second: Size | None, into: dict[int, int], out_of: dict[int, int]
) -> str:
    others = [label for label in into if label]
    if first is None:
        return "born"
    if second is None:
        return ("gone", "merged")[len(others)] if len(others) < 2 else "split"
    if others:
        return "split"
    if not into:
        return "grown" if out_of else "same"
    more = sum(out_of.values()) - sum(into.values())
    return "moved" if not more else "grown" if more > 0 else "shrunk"
