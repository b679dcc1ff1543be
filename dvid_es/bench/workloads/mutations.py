"""Merges and cleaves: one after the other, from 16 clients at once, and of a thousand supervoxels."""

import numpy as np

from dvid_es.bench.figures import MILLISECONDS, PER_SECOND, Bar, Sample
from dvid_es.bench.target import Target
from dvid_es.bench.truth import fingerprint
from dvid_es.bench.volume import Segmentation
from dvid_es.bench.workloads.base import Finding, Request, Workload, as_json
from dvid_es.bench.workloads.instances import LARGE, supply

CHECK_AT_MOST = 40
"""Bodies whose supervoxels are asked one by one."""


class Mutation(Workload):
    """Mutations of which each is granted once; the bodies they make are remembered for the check."""

    def __init__(self, data: Segmentation) -> None:
        """Start with nothing mutated."""
        super().__init__(data)
        self._together: dict[str, list[tuple[str, int, list[int]]]] = {}

    def prepare(self, target: Target) -> None:
        """Do one repeat."""
        self._together[target.name] = []
        self.measure(target)

    def expect(self, target: Target, instance: str, body: int, members: list[int]) -> None:
        """Remember that supervoxels must be one body now; `body` 0 is one that the server named."""
        self._together[target.name].append((instance, body, members))

    def check(self, target: Target) -> Finding:
        """Compare the mapping of each supervoxel, and supervoxels and sizes of some bodies."""
        finding = Finding()
        groups = self._together[target.name]
        asked: dict[str, list[int]] = {}
        for instance, _, members in groups:
            asked.setdefault(instance, []).extend(members)
        mapped: dict[tuple[str, int], int] = {}
        for instance, members in asked.items():
            got = target.get_json(target.node(f"{instance}/mapping"), members)
            mapped |= {(instance, sv): body for sv, body in zip(members, got, strict=True)}
        for place, (instance, body, members) in enumerate(groups):
            bodies = {mapped[instance, member] for member in members}
            if len(bodies) != 1 or 0 in bodies or (body and bodies != {body}):
                wanted = body or "one new body"
                finding.add(
                    f"supervoxels {members[:4]} map to {sorted(bodies)} and not to {wanted}"
                )
            elif place % max(1, len(groups) // CHECK_AT_MOST) == 0:
                self._check_body(target, instance, bodies.pop(), members, finding)
        sizes = [int(self.data.sizes[members].sum()) for _, _, members in groups]
        finding.fingerprint = fingerprint(np.sort(np.array(sizes))) + f" {len(groups)} bodies"
        return finding

    def _check_body(
        self, target: Target, instance: str, body: int, members: list[int], finding: Finding
    ) -> None:
        got = sorted(target.get_json(target.node(f"{instance}/supervoxels/{body}")))
        if got != sorted(members):
            finding.add(f"body {body}: supervoxels {got[:6]} and not {sorted(members)[:6]}")
        voxels = target.get_json(target.node(f"{instance}/size/{body}"))["voxels"]
        want = int(self.data.sizes[members].sum())
        if voxels != want:
            finding.add(f"body {body}: {voxels} voxels and not {want}")

    def per_repeat(self, most: int, each: int) -> int:
        """Return how many operations of `each` supervoxels a repeat can have, at most `most`."""
        return max(1, min(most, len(self.data.present) // (4 * each)))


class MergeSequential(Mutation):
    """Merges of two bodies, one client."""

    name = "merge-sequential"
    title = "POST merge of 2 bodies, 1 client"
    unit = MILLISECONDS
    bar = Bar(1.5, 3.0)

    def measure(self, target: Target) -> Sample:
        """Merge pairs."""
        count = self.per_repeat(100, 2)
        instance, given = supply(target, self.data).take(target, 2 * count)
        pairs = [given[place : place + 2] for place in range(0, len(given), 2)]
        path = target.node(f"{instance}/merge")
        sample, _ = target.timed([("POST", path, as_json(pair)) for pair in pairs])
        for pair in pairs:
            self.expect(target, instance, pair[0], pair)
        return sample


class CleaveSequential(Mutation):
    """Cleaves of two of a body's four supervoxels, one client."""

    name = "cleave-sequential"
    title = "POST cleave 2 of 4 supervoxels, 1 client"
    unit = MILLISECONDS
    bar = Bar(1.5, 3.0)

    def measure(self, target: Target) -> Sample:
        """Make bodies of four, not timed, and cleave each."""
        count = self.per_repeat(50, 4)
        instance, given = supply(target, self.data).take(target, 4 * count)
        fours = [given[place : place + 4] for place in range(0, len(given), 4)]
        for four in fours:
            target.post_json(target.node(f"{instance}/merge"), four)
        requests: list[Request] = [
            ("POST", target.node(f"{instance}/cleave/{four[0]}"), as_json(four[2:]))
            for four in fours
        ]
        sample, _ = target.timed(requests)
        for four in fours:
            self.expect(target, instance, four[0], four[:2])
            self.expect(target, instance, 0, four[2:])
        return sample


class Mutations16(Mutation):
    """Merges and cleaves in turn from 16 clients, each on bodies of its own."""

    name = "mutations-16"
    title = "merges and cleaves, 16 clients, disjoint bodies"
    unit = PER_SECOND
    bar = Bar(3.0, 5.0)
    clients = 16

    def measure(self, target: Target) -> Sample:
        """Let each client merge three supervoxels into one and cleave one off again, some times."""
        turns = self.per_repeat(20, 3 * self.clients)
        instance, given = supply(target, self.data).take(target, 3 * self.clients * turns)
        threes = [given[place : place + 3] for place in range(0, len(given), 3)]
        make = target.address.request
        queues = []
        for client in range(self.clients):
            queue = []
            for three in threes[client * turns : (client + 1) * turns]:
                merge, cleave = f"{instance}/merge", f"{instance}/cleave/{three[0]}"
                queue.append(make("POST", target.node(merge), as_json(three)))
                queue.append(make("POST", target.node(cleave), as_json(three[2:])))
            queues.append(queue)
        sample, _ = target.loaded(queues)
        for three in threes:
            self.expect(target, instance, three[0], three[:2])
            self.expect(target, instance, 0, three[2:])
        return sample


class MergeLarge(Mutation):
    """One merge of many supervoxels scattered over all blocks."""

    name = "merge-1000"
    title = f"POST merge of {LARGE} supervoxels"
    unit = MILLISECONDS
    bar = Bar(5.0, 15.0)

    def measure(self, target: Target) -> Sample:
        """Merge."""
        count = min(LARGE, len(self.data.present))
        instance, given = supply(target, self.data).take(target, count)
        path = target.node(f"{instance}/merge")
        sample, _ = target.timed([("POST", path, as_json(given))])
        self.expect(target, instance, given[0], given)
        return sample


MUTATIONS = (MergeSequential, CleaveSequential, Mutations16, MergeLarge)
