"""labelvol: the sparse volumes of labels of a labelblk, and their merges and splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvid_es.datatypes.labelarray import maxlabel
from dvid_es.datatypes.labelarray.reads import LabelReads
from dvid_es.datatypes.labelarray.touched import TABLES
from dvid_es.datatypes.labelblk.following import refused
from dvid_es.datatypes.labelmap import instance_settings, merging
from dvid_es.datatypes.labelmap.bodies.requests import READS
from dvid_es.datatypes.labelmap.looked_into import UNMAPPED
from dvid_es.datatypes.labelvol import endpoints, fold
from dvid_es.datatypes.labelvol.touched import PLACED, TOUCHED
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created, Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.projections.catalog import Instance
from dvid_es.projections.labels import SOURCES
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

DEFAULTS: dict[str, Any] = {**instance_settings.DEFAULTS, "BlockSize": [32, 32, 32]}


def create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance.

    Raises:
        InvalidRequest: a value cannot be read or is out of range.
    """
    settings = {**instance_settings.changed(DEFAULTS, config), "MaxDownresLevel": 0}
    return Created(settings, parse_compression(config, "lz4"), parse_checksum(config))


def extended(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info at a version."""
    highest = maxlabel.all_max(txn, instance.id, view.sequence)
    versions = txn.repo.graph.by_id
    return {
        "VoxelSize": instance.settings["VoxelSize"],
        "VoxelUnits": instance.settings["VoxelUnits"],
        "BlockSize": instance.settings["BlockSize"],
        "MaxLabel": {versions[version].uuid: label for version, label in highest.items()},
    }


READS["labelvol"] = LabelReads

SOURCES["labelvol"] = UNMAPPED

LABELVOL = Datatype(
    name="labelvol",
    version="0.1",
    endpoints=with_verbs(
        endpoints.ENDPOINTS,
        any_method=("sparsevol-by-point", "sparsevol-coarse"),
        no_head=("maxlabel", "nextlabel"),
    ),
    tagged=False,
    folds=fold.FOLDS,
    create=create,
    extended=extended,
    conflicts=merging.conflicts,
    syncs=frozenset({"labelblk"}),
    partner=refused,
    touched=TOUCHED,
    placed=PLACED,
    tables=TABLES,
    help=Path(__file__).with_name("HELP.txt").read_text(),
)
