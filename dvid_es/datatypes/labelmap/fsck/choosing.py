"""Which rows belong to one body, or to one box: what a repair puts right."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, surfaces
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.geometry import Box
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.store import LmdbTxn
from dvid_es.projections.temporal import SIGN
from dvid_es.replay.repair import Choose, Range
from dvid_es.versions import split_suffix

_END = b"\xff" * 40
_LABEL_BYTES = 8
_BLOCK_TABLE_ENTRY = 12


def rows_of_body(instance_id: int, label: int) -> Choose:
    """Choose the rows of a body and of all supervoxels that it has or had, at any version."""

    def choose(live: LmdbTxn, rebuilt: LmdbTxn) -> Iterator[Range]:
        svs: set[int] = set()
        bases: set[int] = {label}
        for txn in (live, rebuilt):
            for body in _all_rows(txn, instance_id, label):
                svs.update(body.added.tolist())
                for base in body.bases:
                    bases.add(base.body)
                    value = txn.get(bodysets.base_key(instance_id, base))
                    svs.update(np.frombuffer(value or b"", "<u8").tolist())
        for kind in (bodysets.BODIES, surfaces.MOVES, overrides.OVERRIDES):
            yield _under(instance_id, kind, label)
        for base_label in bases:
            yield _under(instance_id, bodysets.BASES, base_label)
        yield from _supervoxels(instance_id, svs, (live, rebuilt))

    return choose


def rows_of_box(instance_id: int, box: Box, scales: int) -> Choose:
    """Choose the rows of blocks in a box of scale 0, and of all supervoxels that are or were there.

    Args:
        instance_id: of the labelmap.
        box: blocks of scale 0.
        scales: lower scales that there are.
    """

    def choose(live: LmdbTxn, rebuilt: LmdbTxn) -> Iterator[Range]:
        svs: set[int] = set()
        for scale in range(scales + 1):
            start = tuple(side >> scale for side in box.start_zyx)
            stop = tuple((side - 1 >> scale) + 1 for side in box.stop_zyx)
            prefix = instance_key(instance_id, blocks.BLOCKS) + bytes((scale,))
            yield from _lines(prefix, Box(start, stop))  # type: ignore[arg-type]
        for begin, end in _lines(instance_key(instance_id, svindex.BLOCK_COUNTS), box):
            yield begin, end
            for txn in (live, rebuilt):
                for _, value in txn.scan(begin, end):
                    n = len(value) // _BLOCK_TABLE_ENTRY
                    svs.update(np.frombuffer(value, "<u8", n).tolist())
        yield from _supervoxels(instance_id, svs, (live, rebuilt))

    return choose


def _all_rows(txn: LmdbTxn, instance_id: int, label: int) -> Iterator[Body]:
    for _, value in txn.scan(*_under(instance_id, bodysets.BODIES, label)):
        if value:
            yield bodyrow.decode(value)


def _supervoxels(
    instance_id: int, svs: Iterable[int], stores: tuple[LmdbTxn, LmdbTxn]
) -> Iterator[Range]:
    """Iterate over the rows of supervoxels, and of the events that changed what they map to."""
    journal = instance_key(instance_id, JOURNAL)
    sequences: set[int] = set()
    for sv in svs:
        for kind in (svindex.REGIONS, svindex.TOTALS, mapping.ENTRIES):
            yield _under(instance_id, kind, sv)
        for txn in stores:
            rows = txn.scan(*_under(instance_id, mapping.ENTRIES, sv))
            sequences.update(split_suffix(key)[1] for key, _ in rows)
    for sequence in sequences:
        key = journal + sequence.to_bytes(8, "big")
        yield key, key + b"\0"


def _under(instance_id: int, kind: int, label: int) -> Range:
    prefix = instance_key(instance_id, kind) + label.to_bytes(_LABEL_BYTES, "big")
    return prefix, prefix + _END


def _lines(prefix: bytes, box: Box) -> Iterator[Range]:
    """Iterate over the ranges of keys of each line of blocks along x."""
    (z0, y0, x0), (z1, y1, x1) = box
    for z in range(z0, z1):
        for y in range(y0, y1):
            line: NDArray[np.uint32] = np.array([z + SIGN, y + SIGN], ">u4")
            first, last = ((x + SIGN).to_bytes(4, "big") for x in (x0, x1 - 1))
            yield prefix + line.tobytes() + first, prefix + line.tobytes() + last + _END
