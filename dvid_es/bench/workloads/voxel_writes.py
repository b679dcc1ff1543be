"""Writing voxels: each repeat fills an instance of its own, so that every one does the same."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dvid_es.bench import wire
from dvid_es.bench.figures import MILLISECONDS, Bar, Sample
from dvid_es.bench.target import Target
from dvid_es.bench.truth import fingerprint, first_difference, half
from dvid_es.bench.volume import BLOCK, Segmentation
from dvid_es.bench.workloads.base import Finding, Workload
from dvid_es.bench.workloads.voxel_reads import place_xyz

LEVELS = 3


class Write(Workload):
    """One POST of voxels into an empty instance: time until the answer.

    The CPU time is taken when the voxels are counted too, for a server may do that after its answer.
    """

    unit = MILLISECONDS
    levels = 0
    is_indexed = True

    def __init__(self, data: Segmentation) -> None:
        """Start with no instance written."""
        super().__init__(data)
        self._last: dict[str, str] = {}

    def path(self) -> str:
        """Return what follows the instance's name."""
        raise NotImplementedError

    def body(self) -> bytes:
        """Return the bytes to post."""
        return self.data.stream

    def part(self) -> NDArray[np.uint64]:
        """Return the supervoxels that are written, from the origin."""
        return self.data.supervoxels

    def prepare(self, target: Target) -> None:
        """Do one repeat."""
        self.measure(target)

    def measure(self, target: Target) -> Sample:
        """Post into a new instance."""
        name = self._last[target.name] = target.new_labelmap(self.levels)
        before = target.cpu_seconds()
        answer = target.send("POST", target.node(f"{name}/{self.path()}"), self.body())
        if self.is_indexed:
            self._wait_for_sizes(target, name)
        after = target.cpu_seconds()
        cpu = None if before is None or after is None else after - before
        return Sample(1, answer.seconds, cpu)

    def check(self, target: Target) -> Finding:
        """Compare the voxels of each scale and, if it is indexed, the size of each supervoxel."""
        name, finding = self._last[target.name], Finding()
        truth = self.part()
        for scale in range(self.levels + 1):
            if scale:
                truth = half(truth)
            padded = _padded(truth)
            size = place_xyz(padded.shape[::-1])
            path = f"{name}/blocks/{size}/0_0_0?supervoxels=true&compression=blocks&scale={scale}"
            volume = wire.decode_stream(target.get(target.node(path)), padded.shape, BLOCK)
            finding.add(first_difference(volume, padded, f"scale {scale}"))
            finding.fingerprint += fingerprint(volume) + ";"
        if self.is_indexed:
            labels, counts = self._sizes
            got = np.array(target.get_json(target.node(f"{name}/sizes"), labels.tolist()))
            finding.add(first_difference(got, counts, "sizes"))
            finding.fingerprint += fingerprint(got)
        return finding

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = np.zeros(len(self.data.sizes), np.int64)
        for plane in self.part():
            counts += np.bincount(plane.ravel().view(np.int64), minlength=len(counts))
        counts[0] = 0
        labels = np.flatnonzero(counts)
        return labels, counts[labels]

    def _wait_for_sizes(self, target: Target, name: str) -> None:
        labels, counts = self._sizes
        step = max(1, len(labels) // 200)
        asked, want = labels[::step].tolist(), counts[::step].tolist()
        path = target.node(f"{name}/sizes")
        target.wait_until(lambda: target.get_json(path, asked) == want, f"the index of {name}")


class PostBlocks(Write):
    """All blocks with indexing."""

    name = "post-blocks"
    title = "POST blocks, all, indexed"
    bar = Bar(3.0, 6.0)

    def path(self) -> str:
        """Return the endpoint."""
        return "blocks"


class PostBlocksDownres(Write):
    """All blocks with indexing and lower resolutions."""

    name = "post-blocks-downres"
    title = f"POST blocks, all, indexed, {LEVELS} down-res levels"
    bar = Bar(4.0, 8.0)
    levels = LEVELS

    def path(self) -> str:
        """Return the endpoint."""
        return "blocks?downres=true"


class IngestSupervoxels(Write):
    """All blocks without anything else."""

    name = "ingest-supervoxels"
    title = "POST ingest-supervoxels, all"
    is_indexed = False

    def path(self) -> str:
        """Return the endpoint."""
        return "ingest-supervoxels?scale=0"


class PostRaw(Write):
    """A box of uncompressed voxels with indexing."""

    name = "post-raw-256"
    title = "POST raw 256^3, indexed"
    bar = Bar(3.0, 6.0)

    def path(self) -> str:
        """Return the endpoint."""
        return f"raw/0_1_2/{place_xyz(self.part().shape[::-1])}/0_0_0"

    def body(self) -> bytes:
        """Return the voxels."""
        return self.part().astype("<u8").tobytes()

    def part(self) -> NDArray[np.uint64]:
        """Return the first 256 of each axis."""
        return self.data.supervoxels[:256, :256, :256]


class PostRawDownres(PostRaw):
    """A box of uncompressed voxels with indexing and lower resolutions."""

    name = "post-raw-256-downres"
    title = f"POST raw 256^3, indexed, {LEVELS} down-res levels"
    levels = LEVELS


def _padded(volume: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a volume filled up with 0 to whole blocks."""
    return np.pad(volume, [(0, -extent % BLOCK) for extent in volume.shape])


VOXEL_WRITES = (PostBlocks, PostBlocksDownres, PostRaw, PostRawDownres, IngestSupervoxels)
