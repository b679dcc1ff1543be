"""How it changes which elements count. Counts themselves are read off the lists of elements."""

from dvid_es.datatypes.labelsz import rows
from dvid_es.datatypes.labelsz.events import CountsReloaded
from dvid_es.datatypes.labelsz.rows import Synced
from dvid_es.events import Event, Record
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn
from dvid_es.versions import UNBOUNDED


def fold_reloaded(txn: WriteTxn, record: Record) -> None:
    """Let all elements count at a version and its descendants."""
    rows.put_reload(txn, record.header.instance, record.header.version, record.offset)


def note_sync(txn: WriteTxn, record: Record) -> None:
    """Keep which elements the instance of a record counts from now on, or that it follows none."""
    instance = txn.repo.instances[record.header.instance]
    if instance.typename != "labelsz":
        return
    annotation = rows.counted_annotation(txn, instance)
    before = rows.read_synced(txn, instance.id)
    if annotation is not None:
        if before is None or before.annotation != annotation.id or before.until != UNBOUNDED:
            synced = Synced(annotation.id, record.offset, UNBOUNDED)
            rows.put_synced(txn, instance.id, record.offset, synced)
    elif before is not None and before.until == UNBOUNDED:
        ended = before._replace(until=record.offset)
        rows.put_synced(txn, instance.id, record.offset, ended)


FOLDS: dict[type[Event], Fold] = {CountsReloaded: fold_reloaded}
