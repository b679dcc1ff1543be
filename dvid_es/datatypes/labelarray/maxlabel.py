"""The highest label of each version itself, which labelarray and labelvol show: never an ancestor's.

Source: updateMaxLabel in datatype/labelarray/labelarray.go (janelia-flyem/dvid).
"""

from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View, row_suffix, split_suffix


def own_max(txn: ReadTxn, instance_id: int, view: View) -> int | None:
    """Return the highest label that was written or made at the version of a view; None if none was."""
    key = _key(instance_id)
    pair = txn.seek(key + row_suffix(view.version, view.bounds[view.version]))
    if pair is None or not pair[0].startswith(key):
        return None
    version, _ = split_suffix(pair[0])
    return int.from_bytes(pair[1], "little") if version == view.version else None


def all_max(txn: ReadTxn, instance_id: int, sequence: int) -> dict[int, int]:
    """Return what `own_max` says of every version, by ordinal, as of a sequence."""
    key = _key(instance_id)
    found: dict[int, int] = {}
    for row, value in txn.scan(key, key + b"\xff" * (versioned.SUFFIX_BYTES + 1)):
        version, written = split_suffix(row)
        if written <= sequence:
            found.setdefault(version, int.from_bytes(value, "little"))
    return dict(sorted(found.items()))


def note(txn: WriteTxn, instance_id: int, version: int, label: int, sequence: int) -> None:
    """Note a label at a version; also in the counters from which new labels are given."""
    if not label:
        return
    if label > (own_max(txn, instance_id, txn.view(version)) or 0):
        versioned.put(txn, _key(instance_id), version, sequence, label.to_bytes(8, "little"))
    counters.raise_max(txn, instance_id, version, label, sequence)


def _key(instance_id: int) -> bytes:
    return instance_key(instance_id, counters.COUNTERS) + b"\x03"
