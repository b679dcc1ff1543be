"""labelarray: voxels of labels that are bodies themselves; merges and splits rewrite them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvid_es.datatypes.labelarray import endpoints, fold, maxlabel
from dvid_es.datatypes.labelarray.published import PUBLISHED
from dvid_es.datatypes.labelarray.reads import LabelReads
from dvid_es.datatypes.labelarray.told import TOLD
from dvid_es.datatypes.labelarray.touched import PLACED, TABLES, TOUCHED
from dvid_es.datatypes.labelmap import endpoints_settings, instance_settings, merging
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.requests import READS
from dvid_es.datatypes.labelmap.looked_into import UNMAPPED
from dvid_es.http.datatype import Created, Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.projections.catalog import Instance
from dvid_es.projections.labels import SOURCES, TELL
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance: those of a labelmap, and whether labels are counted.

    Raises:
        InvalidRequest: a value cannot be read or is out of range.
    """
    found = instance_settings.create(config)
    counted = True
    if "countlabels" in config:
        counted = instance_settings.boolean(config["countlabels"])
    return found._replace(settings={**found.settings, "CountLabels": counted})


def extended(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info at a version."""
    highest = maxlabel.all_max(txn, instance.id, view.sequence)
    return {
        **endpoints_settings.properties(txn, instance, view),
        "MaxLabel": {str(version): label for version, label in highest.items()},
        "MaxRepoLabel": counters.read_common(txn, instance.id).repo_max,
        "IndexedLabels": instance.settings["IndexedLabels"],
        "CountLabels": instance.settings["CountLabels"],
        "MaxDownresLevel": instance.settings["MaxDownresLevel"],
    }


READS["labelarray"] = LabelReads

SOURCES["labelarray"] = UNMAPPED
TELL.update(TOLD)

LABELARRAY = Datatype(
    name="labelarray",
    version="0.1",
    endpoints=with_verbs(
        endpoints.ENDPOINTS,
        any_method=("metadata", "sparsevol-by-point", "sparsevol-coarse", "sparsevols-coarse"),
        no_head=(
            *("raw", "isotropic", "pseudocolor", "blocks", "specificblocks", "sparsevol-size"),
            *("maxlabel", "nextlabel"),
        ),
    ),
    tagged=False,
    folds=fold.FOLDS,
    create=create,
    extended=extended,
    extents=endpoints_settings.extents_info,
    conflicts=merging.conflicts,
    syncs=frozenset(),
    touched=TOUCHED,
    placed=PLACED,
    published=PUBLISHED,
    tables=TABLES,
    help=Path(__file__).with_name("HELP.txt").read_text(),
)
