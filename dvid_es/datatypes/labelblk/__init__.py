"""labelblk: voxels of labels at one scale, which a labelvol that listens to it indexes and edits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvid_es.datatypes.labelblk import endpoints, fold
from dvid_es.datatypes.labelblk.following import refused
from dvid_es.datatypes.labelmap import endpoints_settings, instance_settings, merging
from dvid_es.datatypes.labelmap.looked_into import UNMAPPED
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created, Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.projections.catalog import Instance
from dvid_es.projections.labels import SOURCES
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

DEFAULTS: dict[str, Any] = {
    **instance_settings.DEFAULTS,
    "BlockSize": [32, 32, 32],
    "IndexedLabels": False,
}
"""Of these, MaxDownresLevel and IndexedLabels never change: scales and index are other instances."""


def create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance.

    Raises:
        InvalidRequest: a value cannot be read or is out of range.
    """
    settings = {**instance_settings.changed(DEFAULTS, config), "MaxDownresLevel": 0}
    return Created(settings, parse_compression(config, "lz4"), parse_checksum(config))


def extended(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info at a version."""
    found = endpoints_settings.properties(txn, instance, view)
    return {**found, "MinIndex": None, "MaxIndex": None}


SOURCES["labelblk"] = UNMAPPED

LABELBLK = Datatype(
    name="labelblk",
    version="0.1",
    endpoints=with_verbs(
        endpoints.ENDPOINTS,
        any_method=("metadata",),
        no_head=(
            *("raw", "isotropic", "pseudocolor", "blocks"),
            *("info", "help", "metadata", "label"),
        ),
    ),
    tagged=False,
    folds=fold.FOLDS,
    create=create,
    extended=extended,
    conflicts=merging.conflicts,
    syncs=frozenset({"labelblk", "labelvol"}),
    partner=refused,
    help=Path(__file__).with_name("HELP.txt").read_text(),
)
