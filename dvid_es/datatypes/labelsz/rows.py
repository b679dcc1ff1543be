"""The rows of a labelsz instance: what it counts; see KEYS.md, kinds 168 and 169."""

import struct
from typing import NamedTuple

from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import UNBOUNDED, View

SYNCED = 168
"""Which elements count."""

RELOADED = 169
"""From where on all of them do."""

UNVERSIONED = 1
"""The version that syncs belong to."""

PROJECTIONS = {SYNCED: "counted elements", RELOADED: "reloads"}

_SYNCED = struct.Struct(">IQQ")
_RELOADED = struct.Struct(">Q")


class Synced(NamedTuple):
    """Which elements an instance counts."""

    annotation: int
    """Number of the instance that has them."""

    since: int
    """Sequence of the sync: what was listed before does not count until a reload."""

    until: int
    """Sequence up to which they count; UNBOUNDED while the sync lasts."""


def read_synced(txn: ReadTxn, instance: int, sequence: int = UNBOUNDED) -> Synced | None:
    """Return what an instance counts as of a sequence; None if it never was synced with elements."""
    view = txn.view(UNVERSIONED)
    view = view if sequence == UNBOUNDED else view.at(sequence)
    value = versioned.read(txn, instance_key(instance, SYNCED), view)
    return None if value is None else Synced(*_SYNCED.unpack(value))


def put_synced(txn: WriteTxn, instance: int, sequence: int, synced: Synced) -> None:
    """Keep what an instance counts from an event on."""
    key = instance_key(instance, SYNCED)
    versioned.put(txn, key, UNVERSIONED, sequence, _SYNCED.pack(*synced))


def read_reload(txn: ReadTxn, instance: int, view: View) -> int:
    """Return the sequence of the last reload that a view sees; -1 if there is none."""
    # Parents of a version merge may each have one: the nearest of any of them is as good.
    seen = versioned.visible_rows(txn, instance_key(instance, RELOADED), view)
    return max((row.sequence for row in seen), default=-1)


def put_reload(txn: WriteTxn, instance: int, version: int, sequence: int) -> None:
    """Keep that all elements count from an event on."""
    key = instance_key(instance, RELOADED)
    versioned.put(txn, key, version, sequence, _RELOADED.pack(sequence))


def counted_annotation(txn: ReadTxn, instance: Instance) -> Instance | None:
    """Return the first instance with elements that another one is synced with, or None."""
    for number in instance.syncs:
        found = txn.repo.instances.get(number)
        if found is not None and found.typename == "annotation" and not found.deleted:
            return found
    return None
