"""Labelmap instances that several workloads share: filled, agglomerated, or with one large body."""

from dvid_es.bench.target import Target, TargetError
from dvid_es.bench.volume import Segmentation
from dvid_es.bench.workloads.base import as_json

LARGE = 1000
"""Supervoxels of the large body, and points and labels of the requests for many."""

CLIENTS = 8


def new_filled(target: Target, data: Segmentation) -> str:
    """Make an instance, post all blocks with indexing, and return its name."""
    name = target.new_labelmap()
    target.send("POST", target.node(f"{name}/blocks"), data.stream)
    wait_for_index(target, name, data)
    return name


def wait_for_index(target: Target, name: str, data: Segmentation) -> None:
    """Wait until the server has counted the voxels: some count them after their answer."""
    # Counts are asked by body, which at this point is the supervoxel itself.
    asked = data.present[:: max(1, len(data.present) // 200)]
    want = [int(data.sizes[one]) for one in asked]
    path = target.node(f"{name}/sizes")
    target.wait_until(lambda: target.get_json(path, asked) == want, f"the index of {name}")


def agglomerated(target: Target, data: Segmentation) -> str:
    """Return the instance in which all supervoxels are merged into the bodies of the data."""

    def make(one: Target) -> str:
        name = new_filled(one, data)
        path = one.node(f"{name}/merge")
        merges = [as_json(members) for members in data.members.values() if len(members) > 1]
        requests = [one.address.request("POST", path, body, "application/json") for body in merges]
        one.loaded([requests[client::CLIENTS] for client in range(CLIENTS)])
        return name

    name: str = target.fixture("agglomerated", make)
    return name


def large_body(target: Target, data: Segmentation) -> tuple[str, list[int]]:
    """Return an instance and the supervoxels of its one large body, called by the first."""

    def make(one: Target) -> tuple[str, list[int]]:
        name = new_filled(one, data)
        members = scattered(data)[:LARGE]
        one.post_json(one.node(f"{name}/merge"), members)
        return name, members

    found: tuple[str, list[int]] = target.fixture("large body", make)
    return found


def scattered(data: Segmentation) -> list[int]:
    """Return all supervoxels that have voxels, in an order that jumps through the volume."""
    present = data.present
    # A stride without a common factor with the count visits each once, far from the one before.
    stride = next(
        step
        for step in range(int(len(present) * 0.618) | 1, 2 * len(present) + 3)
        if _common_factor(step, len(present)) == 1
    )
    return [present[place * stride % len(present)] for place in range(len(present))]


def _common_factor(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


class Supply:
    """Supervoxels for mutations, each given out once; a new instance when one is used up."""

    def __init__(self, data: Segmentation) -> None:
        """Start with nothing."""
        self._data = data
        self._order = scattered(data)
        self._name = ""
        self._left: list[int] = []

    def take(self, target: Target, count: int) -> tuple[str, list[int]]:
        """Return an instance and so many supervoxels in it that no mutation has touched.

        Raises:
            TargetError: the segmentation has not that many at all.
        """
        if count > len(self._order):
            raise TargetError(
                f"{count} supervoxels are needed, {self._data.name} has {len(self._order)}:"
                " use a larger --size"
            )
        if count > len(self._left):
            self._name, self._left = new_filled(target, self._data), list(self._order)
        given, self._left = self._left[:count], self._left[count:]
        return self._name, given


def supply(target: Target, data: Segmentation) -> Supply:
    """Return the server's supply."""
    found: Supply = target.fixture("supply", lambda _: Supply(data))
    return found
