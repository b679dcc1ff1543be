"""Merges into and cleaves off a body of very many supervoxels, which is posted as a label index."""

from collections.abc import Iterator

import numpy as np

from dvid_es.bench.figures import MILLISECONDS, Sample
from dvid_es.bench.target import Target
from dvid_es.bench.truth import fingerprint
from dvid_es.bench.volume import Segmentation
from dvid_es.bench.workloads.base import Finding, Request, Workload, as_json
from dvid_es.codecs import izyx, labelindex

HUGE = 100_000
"""Supervoxels of the body: 1 to so many."""

SINGLES = 1000
"""Bodies of one supervoxel to merge into it, whose labels follow."""

BODY = 1_000_000
"""The body's label, above all others."""

EACH = 20
"""Mutations of a repeat."""


class HugeBody(Workload):
    """Mutations of one body of `HUGE` supervoxels, one client."""

    unit = MILLISECONDS

    def __init__(self, data: Segmentation) -> None:
        """Start without a body."""
        super().__init__(data)
        self._state: dict[str, tuple[str, int]] = {}

    def prepare(self, target: Target) -> None:
        """Post the body and do one repeat."""
        instance = target.new_labelmap()
        labels = [BODY, *range(HUGE + 1, HUGE + SINGLES + 1)]
        messages = [index_of(label) for label in labels]
        path = target.node(f"{instance}/indices")
        target.send("POST", path, b"".join(framed(messages)))
        self._state[target.name] = (instance, 0)
        self.measure(target)

    def take(self, target: Target) -> tuple[str, range]:
        """Return the instance and the places of the next mutations."""
        instance, done = self._state[target.name]
        self._state[target.name] = (instance, done + EACH)
        return instance, range(done + 1, done + EACH + 1)

    def mutated(self, target: Target) -> tuple[str, list[int]]:
        """Return the instance and the places of all mutations so far."""
        instance, done = self._state[target.name]
        return instance, list(range(1, done + 1))

    def compare(self, target: Target, instance: str, members: list[int]) -> Finding:
        """Compare the supervoxels of the body with what they must be."""
        finding = Finding()
        got = sorted(target.get_json(target.node(f"{instance}/supervoxels/{BODY}")))
        if got != members:
            wrong = sorted(set(got) ^ set(members))
            finding.add(f"body {BODY}: {len(wrong)} supervoxels are wrong, {wrong[:4]} among them")
        finding.fingerprint = fingerprint(np.array(got))
        return finding


class CleaveHuge(HugeBody):
    """Cleaves of one supervoxel each, in ascending order."""

    name = "cleave-huge"
    title = f"POST cleave of 1 off a body of {HUGE} supervoxels"

    def measure(self, target: Target) -> Sample:
        """Cleave."""
        instance, places = self.take(target)
        path = target.node(f"{instance}/cleave/{BODY}")
        requests: list[Request] = [("POST", path, as_json([place])) for place in places]
        return target.timed(requests)[0]

    def check(self, target: Target) -> Finding:
        """Look at the rest of the body, and whether each supervoxel has a body of its own."""
        instance, gone = self.mutated(target)
        finding = self.compare(target, instance, list(range(len(gone) + 1, HUGE + 1)))
        mapped = target.get_json(target.node(f"{instance}/mapping"), gone)
        if len(set(mapped)) != len(gone) or {0, BODY} & set(mapped):
            finding.add(
                f"supervoxels {gone[:4]} map to {mapped[:4]} and not to bodies of their own"
            )
        return finding


class MergeHuge(HugeBody):
    """Merges of one body of one supervoxel each."""

    name = "merge-huge"
    title = f"POST merge of 1 into a body of {HUGE} supervoxels"

    def measure(self, target: Target) -> Sample:
        """Merge."""
        instance, places = self.take(target)
        path = target.node(f"{instance}/merge")
        return target.timed([("POST", path, as_json([BODY, HUGE + n])) for n in places])[0]

    def check(self, target: Target) -> Finding:
        """Look at the body, and at what the merged supervoxels map to."""
        instance, come = self.mutated(target)
        finding = self.compare(target, instance, list(range(1, HUGE + len(come) + 1)))
        asked = [HUGE + place for place in come]
        mapped = target.get_json(target.node(f"{instance}/mapping"), asked)
        if set(mapped) != {BODY}:
            finding.add(f"supervoxels {asked[:4]} map to {mapped[:4]} and not to {BODY}")
        return finding


def index_of(label: int) -> bytes:
    """Return the LabelIndex message of the body, or of one of the others: 100 voxels each."""
    members = range(1, HUGE + 1) if label == BODY else (label,)
    svs = np.array(members, np.uint64)
    at = svs.astype(np.int32)
    coords_zyx = np.stack([at >> 12, at >> 6 & 63, at & 63], axis=1)
    counts = np.full(len(svs), 100, np.uint32)
    index = labelindex.from_rows(label, izyx.pack_keys(coords_zyx), svs, counts)
    return labelindex.encode(index)


def framed(messages: list[bytes]) -> Iterator[bytes]:
    """Return the pieces of a LabelIndices message: field 1, repeated."""
    for message in messages:
        size, length = b"", len(message)
        while length > 127:
            size += bytes((length & 127 | 128,))
            length >>= 7
        yield b"\x0a" + size + bytes((length,)) + message


HUGE_BODIES = (MergeHuge, CleaveHuge)
