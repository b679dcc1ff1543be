"""Which labels an annotation follows, and how it looks into them.

It follows the labels that it is synced with. When the sync is removed, lists stay as they were: a row keeps
which labels they are of, and up to which sequence these count.

Source: getSyncedLabels and blockSize in datatype/annotation/annotation.go (janelia-flyem/dvid).
"""

from typing import NamedTuple

import numpy as np

from dvid_es.datatypes.annotation import rows
from dvid_es.errors import VersionConflict
from dvid_es.events import Record
from dvid_es.geometry import Triple
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, Repo
from dvid_es.projections.labels import SOURCES, Labels, LabelSource
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import UNBOUNDED, View

DEFAULT_BLOCK: Triple = (64, 64, 64)
UNVERSIONED = 1
"""The version that all data of an unversioned instance belong to."""

SYNCS = frozenset({"labelmap", "labelarray", "labelblk", "labelvol"})


def followed(repo: Repo, instance: Instance) -> Instance | None:
    """Return the labels that an annotation is synced with: voxels before sparse volumes; None without."""
    found = [
        labels
        for number in instance.syncs
        if (labels := repo.instances.get(number)) is not None
        and labels.typename in SYNCS
        and not labels.deleted
    ]
    return min(found, key=lambda labels: labels.typename == "labelvol", default=None)


def block_shape(repo: Repo, instance: Instance) -> Triple:
    """Return the shape of the blocks that elements lie in, ZYX: that of the labels it follows."""
    labels = followed(repo, instance)
    return DEFAULT_BLOCK if labels is None else SOURCES[labels.typename].block_shape(labels)


class Listed(NamedTuple):
    """The labels that the lists of an annotation are of, as one request sees them."""

    source: LabelSource
    labels: Instance
    view: View
    txn: ReadTxn
    instance: int
    """The annotation."""

    def bodies(self, svs: Labels) -> Labels:
        """Return the bodies of supervoxels."""
        return self.source.bodies(self.txn, self.labels, self.view, svs)

    def members(self, label: int) -> Labels:
        """Return the supervoxels of a body, ascending.

        Posted mappings count for what was listed since, as in DVID: see `mapped`.
        """
        svs = self.source.members(self.txn, self.labels, self.view, label)
        head = rows.instance_key(self.instance, rows.ALIASES)
        first = self.txn.seek(head)
        if first is None or not first[0].startswith(head):
            return svs
        bodies = self.bodies(svs)
        elsewhere = np.flatnonzero(bodies != np.uint64(label))
        kept = np.ones(len(svs), bool)
        kept[elsewhere] = [
            self.txn.get(rows.alias_prefix(self.instance, body) + sv.to_bytes(8, "big")) is None
            for body, sv in zip(bodies[elsewhere].tolist(), svs[elsewhere].tolist(), strict=True)
        ]
        prefix = rows.alias_prefix(self.instance, label)
        found = self.txn.scan(prefix, prefix + b"\xff" * 9)
        more = np.array([int.from_bytes(key[-8:], "big") for key, _ in found], np.uint64)
        more = more[self.bodies(more) == np.uint64(label)]
        return np.union1d(svs[kept], more)

    def mapped(self, svs: Labels) -> list[tuple[int, int]]:
        """Return bodies and those of their supervoxels that they do not have among their members.

        They have been mapped there without an index. Rows that say so are kept for lists to find them.
        """
        svs = np.unique(svs[svs != 0])
        if not len(svs):
            return []
        try:
            bodies = self.bodies(svs)
            held = self.source.held(self.txn, self.labels, self.view, bodies, svs)
        except VersionConflict:
            return []  # of bodies that parents of a version merge disagree about, nothing is known
        places = np.flatnonzero(~held & (bodies != 0))
        pairs = zip(bodies[places].tolist(), svs[places].tolist(), strict=True)
        return [
            (body, sv)
            for body, sv in pairs
            if self.txn.get(rows.alias_prefix(self.instance, body) + sv.to_bytes(8, "big")) is None
        ]


def listed(txn: ReadTxn, instance: Instance, version: int) -> Listed | None:
    """Return what the lists of an annotation are of, at a version; None if it never followed labels."""
    value = versioned.read(txn, rows.source_key(instance.id), txn.view(UNVERSIONED))
    if value is None:
        return None
    number, bound = rows.decode_source(value)
    labels = txn.repo.instances.get(number)
    if labels is None:
        return None
    view = txn.view(version if labels.versioned else UNVERSIONED)
    view = view if bound == UNBOUNDED else view.at(bound)
    return Listed(SOURCES[labels.typename], labels, view, txn, instance.id)


def listed_members(txn: ReadTxn, instance: Instance, version: int, label: int) -> Labels:
    """Return the supervoxels whose elements a label lists: without labels, its own number."""
    found = listed(txn, instance, version)
    return np.array([label], np.uint64) if found is None else found.members(label)


def note_source(txn: WriteTxn, record: Record) -> None:
    """Keep which labels the instance of a record follows from now on, or that it follows none."""
    instance = txn.repo.instances[record.header.instance]
    if instance.typename != "annotation":
        return
    labels = followed(txn.repo, instance)
    key = rows.source_key(instance.id)
    before = versioned.read(txn, key, txn.view(UNVERSIONED))
    if labels is not None:
        value = rows.encode_source(labels.id, UNBOUNDED)
    elif before is None or rows.decode_source(before)[1] != UNBOUNDED:
        return
    else:
        value = rows.encode_source(rows.decode_source(before)[0], record.offset)
    if value != before:
        versioned.put(txn, key, UNVERSIONED, record.offset, value)
