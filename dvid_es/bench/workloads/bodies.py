"""Reading about bodies: sparse volumes, labels at points, sizes, supervoxels, index, mapping."""

import json

import numpy as np

from dvid_es.bench import truth, wire
from dvid_es.bench.client import Answer
from dvid_es.bench.figures import Bar
from dvid_es.bench.target import Target
from dvid_es.bench.volume import BLOCK
from dvid_es.bench.workloads.base import Finding, Latency, Request, as_json
from dvid_es.bench.workloads.instances import LARGE, agglomerated, large_body, scattered


class OfLargeBody(Latency):
    """One GET about the body of a thousand supervoxels."""

    word = ""

    def requests(self, target: Target) -> list[Request]:
        """Return the one GET."""
        name, members = large_body(target, self.data)
        return [("GET", target.node(f"{name}/{self.word}/{members[0]}"), b"")]

    def chosen(self, target: Target) -> np.ndarray:
        """Return bool[n + 1]: which supervoxels the body has."""
        _, members = large_body(target, self.data)
        chosen = np.zeros(len(self.data.sizes), bool)
        chosen[members] = True
        return chosen


class Sparsevol(OfLargeBody):
    """Its voxels as runs."""

    name = "sparsevol"
    title = f"GET sparsevol, body of {LARGE} supervoxels"
    bar = Bar(5.0, 14.0)
    word = "sparsevol"

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare the set of voxels."""
        runs = truth.sorted_runs(wire.decode_runs(answer.body()))
        want = truth.runs_of(self.chosen(target)[self.data.supervoxels])
        finding = Finding(truth.fingerprint(runs))
        finding.add(truth.first_difference(runs, want, "runs"))
        return finding


class Supervoxels(OfLargeBody):
    """Its supervoxels."""

    name = "supervoxels"
    title = f"GET supervoxels, body of {LARGE}"
    word = "supervoxels"

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare the set."""
        got = np.sort(np.array(json.loads(answer.body()), np.int64))
        finding = Finding(truth.fingerprint(got))
        finding.add(truth.first_difference(got, np.flatnonzero(self.chosen(target)), "supervoxels"))
        return finding


class Index(OfLargeBody):
    """Its label index."""

    name = "index"
    title = f"GET index, body of {LARGE} supervoxels"
    word = "index"

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare the voxels of each supervoxel in each block."""
        label, index = wire.decode_index(answer.body())
        want = truth.counts_by_block(self.data.supervoxels, self.chosen(target), BLOCK)
        finding = Finding(truth.fingerprint(repr(_ordered(index)).encode()))
        if label != large_body(target, self.data)[1][0]:
            finding.add(f"the index is that of body {label}")
        if index != want:
            differs = sorted(
                key for key in index.keys() | want.keys() if index.get(key) != want.get(key)
            )
            finding.add(f"{len(differs)} blocks of the index differ, first {differs[0]:#x}")
        return finding


class Labels(Latency):
    """The bodies at a thousand points, other points in each request."""

    name = "labels-1000"
    title = f"GET labels at {LARGE} points"
    bar = Bar(1.5, 3.5)
    SETS = 8

    def requests(self, target: Target) -> list[Request]:
        """Return a GET with points as its body, for each set of points."""
        path = target.node(f"{agglomerated(target, self.data)}/labels")
        generator = np.random.default_rng(2)
        extent_xyz = self.data.shape_zyx[::-1]
        return [
            ("GET", path, as_json(generator.integers(0, extent_xyz, (LARGE, 3)).tolist()))
            for _ in range(self.SETS)
        ]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare all labels."""
        x, y, z = np.array(json.loads(request[2])).T
        got = np.array(json.loads(answer.body()), np.uint64)
        want = self.data.body_of[self.data.supervoxels[z, y, x]]
        finding = Finding(truth.fingerprint(got))
        finding.add(truth.first_difference(got, want, "labels"))
        return finding


class Sizes(Latency):
    """The sizes of a thousand bodies."""

    name = "sizes-1000"
    title = f"GET sizes of {LARGE} bodies"

    def requests(self, target: Target) -> list[Request]:
        """Return the one GET."""
        path = target.node(f"{agglomerated(target, self.data)}/sizes")
        return [("GET", path, as_json(list(self.data.members)[:LARGE]))]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare all sizes."""
        got = np.array(json.loads(answer.body()), np.int64)
        members = list(self.data.members.values())[:LARGE]
        want = np.array([self.data.sizes[one].sum() for one in members], np.int64)
        finding = Finding(truth.fingerprint(got))
        finding.add(truth.first_difference(got, want, "sizes"))
        return finding


class Mapping(Latency):
    """The bodies of a thousand supervoxels."""

    name = "mapping-1000"
    title = f"GET mapping of {LARGE} supervoxels"

    def requests(self, target: Target) -> list[Request]:
        """Return the one GET."""
        path = target.node(f"{agglomerated(target, self.data)}/mapping")
        return [("GET", path, as_json(scattered(self.data)[:LARGE]))]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare all bodies."""
        got = np.array(json.loads(answer.body()), np.uint64)
        want = self.data.body_of[scattered(self.data)[:LARGE]]
        finding = Finding(truth.fingerprint(got))
        finding.add(truth.first_difference(got, want, "mapping"))
        return finding


def _ordered(index: dict[int, dict[int, int]]) -> list[tuple[int, list[tuple[int, int]]]]:
    return [(key, sorted(counts.items())) for key, counts in sorted(index.items())]


BODIES = (Sparsevol, Labels, Sizes, Supervoxels, Index, Mapping)
