"""Runs of the mapping: a large posted mapping as one value in a pack, read where it lies.

    u32 form = 1 | u32 buckets | u64 n | radix u32[buckets + 1] | supervoxels u64[n] | bodies u64[n]

Supervoxels are ascending and distinct; the radix index is that of `codecs.labelremap`. All is
little-endian. A run needs 16.4 bytes for each entry on disk and nothing in memory.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelremap
from dvid_es.datatypes.labelmap.mapping import kernels
from dvid_es.errors import CorruptPack
from dvid_es.events import Record
from dvid_es.ids import PackRef
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, split_suffix

RUNS = 84
"""Kind of the rows that name runs."""

MIN_ENTRIES = 4096
"""Smaller mappings become rows."""

MAX_ENTRIES = 1 << 25
"""Larger ones are cut: 512 MiB in one value."""

Labels = NDArray[np.uint64]

_FORM = 1
_HEADER = struct.Struct("<IIQ")
_REF = struct.Struct(">IQII16s")


class Run(NamedTuple):
    """A run that a view sees."""

    version: int
    sequence: int
    data: NDArray[np.uint8]
    """The value itself, in place."""

    @property
    def stamp(self) -> int:
        """Its place in the order of events."""
        return self.version << kernels.SEQUENCE_BITS | self.sequence

    @property
    def svs(self) -> Labels:
        """uint64[n] supervoxels, ascending."""
        start, count = self._place()
        return np.frombuffer(self.data, "<u8", count, start).astype(np.uint64)

    @property
    def bodies(self) -> Labels:
        """uint64[n]: the body of each."""
        start, count = self._place()
        return np.frombuffer(self.data, "<u8", count, start + 8 * count).astype(np.uint64)

    @property
    def entries(self) -> int:
        """How many there are."""
        return self._place()[1]

    def _place(self) -> tuple[int, int]:
        _, buckets, count = _HEADER.unpack_from(self.data)
        return _HEADER.size + 4 * (buckets + 1), count


def build(svs: Labels, bodies: Labels) -> bytes:
    """Return the run of ascending distinct supervoxels and their bodies."""
    radix = labelremap.build_radix(svs)
    head = _HEADER.pack(_FORM, len(radix) - 1, len(svs))
    return b"".join((head, radix.tobytes(), svs.tobytes(), bodies.tobytes()))


def open_run(version: int, sequence: int, value: bytes | memoryview) -> Run:
    """Return the run of a value.

    Raises:
        CorruptPack: it is no run; kernels must not read beyond its end.
    """
    if len(value) >= _HEADER.size:
        form, buckets, count = _HEADER.unpack_from(value)
        if form == _FORM and len(value) == _HEADER.size + 4 * (buckets + 1) + 16 * count:
            return Run(version, sequence, np.frombuffer(value, np.uint8))
    raise CorruptPack(f"the mapping written by event {sequence} is not a run of supervoxels")


def put(txn: WriteTxn, record: Record, part: int, ref: PackRef) -> None:
    """Add the row of one run of an event."""
    key = instance_key(record.header.instance, RUNS) + part.to_bytes(2, "big")
    versioned.put(txn, key, record.header.version, record.offset, _REF.pack(*ref))


def reference(value: bytes) -> PackRef:
    """Return the place of the run of a row."""
    return PackRef(*_REF.unpack(value))


def has_any(txn: ReadTxn, instance_id: int) -> bool:
    """Say whether there are runs of an instance, of whatever version."""
    prefix = instance_key(instance_id, RUNS)
    pair = txn.seek(prefix)
    return pair is not None and pair[0].startswith(prefix)


def visible(txn: ReadTxn, instance_id: int, view: View) -> list[tuple[int, int, PackRef]]:
    """Return version, sequence and place of the runs that a view sees, the newest first."""
    if not has_any(txn, instance_id):
        return []
    prefix = instance_key(instance_id, RUNS)
    found = []
    for key, value in txn.scan(prefix, prefix + b"\xff" * 15):
        version, sequence = split_suffix(key)
        if sequence <= view.bounds.get(version, -1):
            found.append((version, sequence, reference(value)))
    return sorted(found, reverse=True)
