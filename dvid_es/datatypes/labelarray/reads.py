"""Labels that are bodies themselves, read from the index of voxels alone.

What voxels say is all there is, so nothing can be in conflict below a version merge but voxels.
"""

from collections.abc import Iterator
from itertools import groupby, islice

import numpy as np

from dvid_es.datatypes.labelarray.edits import voxels_of
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.bodies.reads import BodyReads, Labels
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.projections.catalog import instance_key

PAGE_LABELS = 4096


class LabelReads(BodyReads):
    """Reads of the labels of one instance in one view: each has one supervoxel, of its number."""

    def body(self, label: int) -> Body | None:
        """Return a label as a body, or None if no voxel has it."""
        voxels = voxels_of(self.txn, self.instance_id, label, self.view)
        if not voxels:
            return None
        return Body(voxels=voxels, members=1, added=np.array([label], np.uint64))

    def chosen(self, label: int, supervoxel: bool) -> tuple[int, Body, Labels] | None:
        """Return label, body and its only supervoxel; None if no voxel has the label."""
        found = self.body(label)
        return None if found is None else (label, found, found.added)

    def body_of(self, supervoxel: int) -> int:
        """Return the label itself."""
        return supervoxel

    def listed(self, start: int, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over label (u64, big endian) and voxels (u64, little endian) from a label on."""
        return islice(self._listed(start), limit)

    def _listed(self, start: int) -> Iterator[tuple[bytes, bytes]]:
        prefix = instance_key(self.instance_id, svindex.TOTALS)
        stop = prefix + b"\xff" * 9
        first = prefix + start.to_bytes(8, "big")
        while True:
            rows = self.txn.scan(first, stop)
            keys = [key for key, _ in islice(groupby(row[5:13] for row, _ in rows), PAGE_LABELS)]
            labels = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)
            counts = svindex.voxels_of(self.txn, self.instance_id, labels, self.view).tolist()
            for key, voxels in zip(keys, counts, strict=True):
                if voxels:
                    yield key, voxels.to_bytes(8, "little")
            if len(keys) < PAGE_LABELS:
                return
            first = prefix + keys[-1] + b"\xff" * 13  # behind all rows of this label
