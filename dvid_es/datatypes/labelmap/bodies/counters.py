"""Label counters: the highest label of each version, and the label that is given out next.

`MaxLabel` belongs to a version and is inherited; the rest is common to all versions of an instance,
because new labels must be new in all of them, so it is kept for the present only.

Source: newLabel and updateMaxLabel in datatype/labelmap/labelmap.go (janelia-flyem/dvid).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dvid_es.errors import InvalidRequest
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, row_suffix, split_suffix

COUNTERS = 86
"""Kind of these rows."""

LAST_LABEL = 2**64 - 2
"""The highest label that is ever given out."""

_USED_KINDS = (68, 80, 82)
"""Kinds whose keys begin with a label that is in use: totals of supervoxels, bodies, mapping."""

_TRIES = 1000
_COMMON = struct.Struct("<QQQ")


class Common(NamedTuple):
    """The counters that all versions share."""

    repo_max: int = 0
    """Highest label of any version."""

    next_label: int = 0
    """Last label given out by the counter that an administrator has set; 0 if none was set."""

    ceiling: int = 0
    """No label above it is given out by that counter; 0 for no limit."""


def read_common(txn: ReadTxn, instance_id: int) -> Common:
    """Return the counters that all versions share."""
    value = txn.get(_common_key(instance_id))
    return Common() if value is None else Common(*_COMMON.unpack(value))


def effective_max(txn: ReadTxn, instance_id: int, view: View) -> int | None:
    """Return the highest label of a version: of its own entry and all its ancestors'; None if none.

    A low entry of the version itself does not hide a higher one of an ancestor.
    """
    return max(_entries(txn, instance_id, view), default=None)


def _entries(txn: ReadTxn, instance_id: int, view: View) -> Iterator[int]:
    """Iterate over the highest labels of the versions that a view sees, the newest version first.

    Those of one version only rise, so its newest one that is seen is the highest.
    """
    key = _max_key(instance_id)
    pair = txn.seek(key)
    while pair is not None and pair[0].startswith(key):
        version, sequence = split_suffix(pair[0])
        bound = view.bounds.get(version, -1)
        if sequence <= bound:
            yield int.from_bytes(pair[1], "little")
        elif bound >= 0:
            pair = txn.seek(key + row_suffix(version, bound))
            continue
        pair = txn.seek(key + row_suffix(version, 0) + b"\0")


def raise_max(txn: WriteTxn, instance_id: int, version: int, label: int, sequence: int) -> None:
    """Raise the highest label of a version, and of the instance, to at least `label`."""
    _raise_version(txn, instance_id, version, label, sequence)
    _raise_common(txn, instance_id, read_common(txn, instance_id), label)


def _raise_common(txn: WriteTxn, instance_id: int, common: Common, label: int) -> None:
    if label > common.repo_max:
        put_common(txn, instance_id, common._replace(repo_max=label))


def _raise_version(
    txn: WriteTxn, instance_id: int, version: int, label: int, sequence: int
) -> None:
    view = txn.view(version)
    if view.linear:
        # An entry includes what was inherited when it was written, so the first one nearly always decides.
        row = versioned.read(txn, _max_key(instance_id), view)
        highest = int.from_bytes(row or b"", "little")
    else:
        highest = max(_entries(txn, instance_id, view), default=0)
    if label > highest:
        value = label.to_bytes(8, "little")
        versioned.put(txn, _max_key(instance_id), version, sequence, value)


def allocate(txn: ReadTxn, instance_id: int, count: int = 1, beyond: int = 0) -> tuple[int, int]:
    """Return the first and the last of `count` new labels; nothing changes until they are taken.

    They are higher than `beyond`.

    Labels that any version knows as body or supervoxel are passed over.

    Raises:
        InvalidRequest: there are no such labels left below the ceiling or 2**64 - 1.
    """
    common = read_common(txn, instance_id)
    begin = max(common.next_label or common.repo_max, beyond) + 1
    limit = LAST_LABEL
    if common.next_label and common.ceiling:
        limit = min(limit, common.ceiling)
    for _ in range(_TRIES):
        end = begin + count - 1
        if end > limit:
            what = "the ceiling" if limit < LAST_LABEL else "the highest label of 64 bits"
            raise InvalidRequest(
                f"cannot give out {count} new labels from {begin} on: {what} is {limit}"
            )
        used = _used(txn, instance_id, begin, end)
        if used is None:
            return begin, end
        begin = used + 1
    raise InvalidRequest(
        f"labels from {begin} on are in use: move the counter beyond them with set-nextlabel"
    )


def is_used(txn: ReadTxn, instance_id: int, label: int) -> bool:
    """Say whether any version knows a label as body or supervoxel."""
    return _used(txn, instance_id, label, label) is not None


def take(txn: WriteTxn, instance_id: int, version: int, end: int, sequence: int) -> None:
    """Note that all labels up to `end` are given out."""
    common = read_common(txn, instance_id)
    _raise_version(txn, instance_id, version, end, sequence)
    if common.next_label:
        put_common(txn, instance_id, common._replace(next_label=max(end, common.next_label)))
    else:
        _raise_common(txn, instance_id, common, end)


def put_common(txn: WriteTxn, instance_id: int, common: Common) -> None:
    """Store the counters that all versions share."""
    txn.put(_common_key(instance_id), _COMMON.pack(*common))


def _used(txn: ReadTxn, instance_id: int, begin: int, end: int) -> int | None:
    """Return a label of begin ... end that is in use: the last one that is found at once."""
    found = None
    for kind in _USED_KINDS:
        prefix = instance_key(instance_id, kind)
        pair = txn.seek(prefix + begin.to_bytes(8, "big"))
        if pair is None or not pair[0].startswith(prefix):
            continue
        label = int.from_bytes(pair[0][5:13], "big")
        if label <= end:
            found = max(found or 0, label)
    return found


def _max_key(instance_id: int) -> bytes:
    return instance_key(instance_id, COUNTERS) + b"\x01"


def _common_key(instance_id: int) -> bytes:
    return instance_key(instance_id, COUNTERS) + b"\x02"
