"""Which events a follower wants."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dvid_es.errors import InvalidRequest
from dvid_es.events import BY_NUMBER
from dvid_es.feed.messages import Message
from dvid_es.projections.catalog import Repo

_LABELS_MAX = 1000
_BOX = re.compile(",".join([r"(-?[0-9]{1,10})"] * 6) + r"\Z")


@dataclass(frozen=True, slots=True)
class Filter:
    """What all events that are wanted have in common; empty parts ask for nothing."""

    instances: frozenset[int] = frozenset()
    types: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    labels: frozenset[int] = frozenset()
    box: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """First voxel and the one behind the last, XYZ."""

    def wants(self, message: Message) -> bool:
        """Say whether to send an event."""
        if self.instances and message.instance not in self.instances:
            return False
        if self.types and message.type not in self.types:
            return False
        if self.users and message.user not in self.users:
            return False
        # Labels that are too many to list may be among them: it is sent rather than lost.
        if self.labels and message.labels is not None and not (self.labels & message.labels):
            return False
        return self.box is None or self._meets(message)

    def _meets(self, message: Message) -> bool:
        if message.boxes is None or self.box is None:
            return False
        start, stop = np.array(self.box[0]), np.array(self.box[1])
        inside = (message.boxes[:, 0] < stop) & (message.boxes[:, 1] > start)
        return bool(inside.all(axis=1).any())


def parse_filter(args: Mapping[str, str], repo: Repo) -> Filter:
    """Return the filter of a query: instance=, type=, user= and body= (each with commas), box=.

    Raises:
        InvalidRequest: an instance, an event or a box that there cannot be.
    """
    names = _listed(args, "instance")
    unknown = names - repo.names.keys()
    if unknown:
        raise InvalidRequest(f'invalid data instance name "{min(unknown)}"')
    types = _listed(args, "type")
    unknown = types - {known.name for known in BY_NUMBER.values()}
    if unknown:
        raise InvalidRequest(f'there are no events "{min(unknown)}": see /api/events/schema')
    labels = _listed(args, "body")
    if len(labels) > _LABELS_MAX or not all(
        text.isascii() and text.isdigit() and 0 < int(text) < 1 << 64 for text in labels
    ):
        raise InvalidRequest(f"body= is up to {_LABELS_MAX} labels, with commas between them")
    return Filter(
        instances=frozenset(repo.names[name].id for name in names),
        types=types,
        users=_listed(args, "user"),
        labels=frozenset(map(int, labels)),
        box=_box(args["box"]) if "box" in args else None,
    )


def _listed(args: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(part for part in args.get(name, "").split(",") if part)


def _box(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found = _BOX.match(text)
    numbers = tuple(map(int, found.groups())) if found else ()
    start, stop = numbers[:3], numbers[3:]
    if not found or any(a >= b for a, b in zip(start, stop, strict=True)):
        raise InvalidRequest(
            f'box "{text}" is not <x0>,<y0>,<z0>,<x1>,<y1>,<z1> in voxels, the end not included'
        )
    return start, stop
