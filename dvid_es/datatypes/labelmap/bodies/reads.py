"""What bodies are asked: sizes, supervoxels, where they lie, lists of them. Sync; one transaction."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets
from dvid_es.datatypes.labelmap.bodies.bodyrow import NO_LABELS, Body
from dvid_es.datatypes.labelmap.indices import assembly as indices
from dvid_es.datatypes.labelmap.mapping.lookup import Mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.errors import InvalidRequest
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.temporal import PAGE_ROWS, scan_pages
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]


class BodyReads:
    """Reads of the bodies of one instance in one view."""

    def __init__(self, txn: ReadTxn, instance_id: int, view: View) -> None:
        """Read with `txn`, from one thread at a time."""
        self.txn = txn
        self.instance_id = instance_id
        self.view = view

    def body(self, label: int) -> Body | None:
        """Return a body, or None."""
        return bodysets.read(self.txn, self.instance_id, label, self.view)

    def mapping(self) -> Mapping:
        """Return the mapping."""
        return Mapping.at(self.txn, self.instance_id, self.view)

    def chosen(self, label: int, supervoxel: bool) -> tuple[int, Body, Labels] | None:
        """Return which body, and which of its supervoxels, a request is about; None if none.

        Args:
            label: a body, or with `supervoxel` a supervoxel, whose body is found by the mapping.
            supervoxel: which of both.

        Raises:
            InvalidRequest: the supervoxel was split and is no more.
        """
        one = np.array([label], np.uint64)
        if supervoxel:
            label = self.body_of(label)
        body = self.body(label)
        if body is None or not body.members:
            return None
        if not supervoxel:
            return label, body, bodysets.supervoxels(self.txn, self.instance_id, body)
        if not bodysets.contains(self.txn, self.instance_id, body, one)[0]:
            return None
        return label, body, one

    def body_of(self, supervoxel: int) -> int:
        """Return the body that a supervoxel is mapped to, itself unless the mapping says otherwise.

        Raises:
            InvalidRequest: the supervoxel was split and is no more.
        """
        labels, found = self.mapping().look_up(np.array([supervoxel], np.uint64))
        if found[0] and not labels[0]:
            raise InvalidRequest(
                f"cannot get label for supervoxel {supervoxel}, which has been split and doesn't"
                " exist anymore"
            )
        return int(labels[0])

    def size(self, label: int, supervoxel: bool) -> int:
        """Return the voxels of a body or a supervoxel; 0 if there is none.

        Raises:
            InvalidRequest: as in `chosen`.
        """
        if not supervoxel:
            body = self.body(label)
            return 0 if body is None else body.voxels
        found = self.chosen(label, True)
        return 0 if found is None else int(self._voxels(*found)[0])

    def sizes(self, labels: Labels, supervoxels: bool) -> list[int]:
        """Return the voxels of many bodies or supervoxels, 0 for those that are not there."""
        if not supervoxels:
            values = bodysets.read_values(self.txn, self.instance_id, labels, self.view)
            return bodysets.total_voxels(values)
        owners = self.mapping().map(labels)
        out = svindex.voxels_of(self.txn, self.instance_id, labels, self.view)
        inside, overridden = self.held(owners, labels)
        out[~inside] = 0
        for owner in overridden:
            places = np.flatnonzero(inside & (owners == np.uint64(owner)))
            body = self.body(owner)
            assert body is not None
            out[places] = self._voxels(owner, body, labels[places])
        return out.tolist()

    def held(self, owners: Labels, svs: Labels) -> tuple[NDArray[np.bool_], list[int]]:
        """Say of each supervoxel whether a body has it.

        Most bodies have one supervoxel: they are compared without making objects or arrays of them.

        Args:
            owners: uint64[n]: the bodies.
            svs: uint64[n].

        Returns:
            bool[n], and the bodies among them with posted counts.
        """
        order = np.argsort(owners, kind="stable")
        distinct, starts = np.unique(owners[order], return_index=True)
        values = bodysets.read_values(self.txn, self.instance_id, distinct, self.view)
        inside = np.zeros(len(svs), bool)
        bounds = [*starts.tolist(), len(order)]
        single = bytearray(len(order))
        ordered = svs[order]
        data = ordered.tobytes()
        posted = []
        for number, value in enumerate(values):
            if value is None:
                continue
            start, stop = bounds[number], bounds[number + 1]
            _, members, whole, overridden = bodyrow.peek(value)
            if overridden:
                posted.append(int(distinct[number]))
            if members == 1 and stop - start == 1 and whole is not None:
                single[start] = whole == data[8 * start : 8 * stop]
            else:
                body = bodyrow.decode(value)
                found = bodysets.contains(self.txn, self.instance_id, body, ordered[start:stop])
                inside[order[start:stop]] = found
        inside[order] |= np.frombuffer(single, bool)
        return inside, posted

    def supervoxel_sizes(self, label: int) -> tuple[Labels, Labels] | None:
        """Return the supervoxels of a body, ascending, and the voxels of each; None if none."""
        found = self.chosen(label, False)
        return None if found is None else (found[2], self._voxels(*found))

    def _voxels(self, label: int, body: Body, svs: Labels) -> Labels:
        return indices.voxels_of(self.txn, self.instance_id, label, body, svs, self.view)

    def blocks(self, label: int, body: Body, svs: Labels) -> Coords:
        """Return the blocks of scale 0 of some supervoxels of a body: int32[n, 3] in ZYX order."""
        rows = indices.rows_of(self.txn, self.instance_id, label, body, svs, self.view)
        return ordered_blocks(rows.coords_zyx)

    def mapped(self, svs: Labels, verify: bool) -> Labels:
        """Return the body of each supervoxel, as GET mapping does.

        Args:
            svs: uint64[n].
            verify: whether one without an entry is itself only if the body of that label has it,
                and otherwise 0.
        """
        labels, found = self.mapping().look_up(svs)
        if not verify:
            return labels
        unknown = np.flatnonzero(~found & (svs != 0))
        inside, _ = self.held(svs[unknown], svs[unknown])
        labels[unknown[~inside]] = 0
        return labels

    def listed(self, start: int, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over label (u64, big endian) and row of the bodies from a label on."""
        prefix = instance_key(self.instance_id, bodysets.BODIES)
        first = prefix + start.to_bytes(8, "big")
        rows = versioned.scan(self.txn, first, prefix + b"\xff" * 9, self.view)
        for (key, value), _ in zip(rows, range(limit), strict=False):
            yield key[5:], value

    def pages(self, start: int = 0, some: int = PAGE_ROWS) -> Iterator[tuple[Labels, list[bytes]]]:
        """Iterate over labels, ascending, and rows of the bodies from a label on.

        `some` says for how many rows it is worth looking at once.
        """
        prefix = instance_key(self.instance_id, bodysets.BODIES)
        first, stop = prefix + start.to_bytes(8, "big"), prefix + b"\xff" * 9
        page = min(PAGE_ROWS, max(some, 1))
        for keys, rows in scan_pages(self.txn, first, stop, self.view, len(first), page):
            labels = np.ascontiguousarray(keys[:, len(prefix) :]).view(">u8")[:, 0]
            yield labels.astype(np.uint64), rows

    def labels(self, start: int, limit: int) -> Labels:
        """Return the labels of bodies from a label on, ascending."""
        found, count = [NO_LABELS], 0
        for labels, _ in self.pages(start, limit):
            found.append(labels[: limit - count])
            count += len(found[-1])
            if count >= limit:
                break
        return np.concatenate(found)

    def label_list(self, start: int, limit: int, sizes: bool) -> bytes:
        """Return labels as little-endian u64, each followed by its voxels if asked for."""
        if not sizes:
            return self.labels(start, limit).astype("<u8").tobytes()
        found, count = [], 0
        for labels, rows in self.pages(start, limit):
            both = np.stack([labels, bodyrow.peek_many(rows)[0]], axis=1)[: limit - count]
            found.append(both.astype("<u8").tobytes())
            count += len(both)
            if count >= limit:
                break
        return b"".join(found)

    def stored_at(self, label: int) -> int | None:
        """Return the ordinal of the version that holds the row (or tombstone) of a body."""
        key = bodysets.body_key(self.instance_id, label)
        row = versioned.read_row(self.txn, key, self.view)
        return None if row is None else row.version


def ordered_blocks(coords_zyx: Coords) -> Coords:
    """Return distinct blocks in ZYX order."""
    if not len(coords_zyx):
        return coords_zyx
    order = np.lexsort((coords_zyx[:, 2], coords_zyx[:, 1], coords_zyx[:, 0]))
    coords_zyx = coords_zyx[order]
    first = np.append(True, (coords_zyx[1:] != coords_zyx[:-1]).any(axis=1))
    return coords_zyx[first]


def supervoxels_of(txn: ReadTxn, instance: Instance, view: View, label: int) -> list[int]:
    """Return the supervoxels of a body, ascending; none if there is no such body."""
    found = BodyReads(txn, instance.id, view).chosen(label, False)
    return [] if found is None else found[2].tolist()
