"""labelsz: how many elements of an annotation each label has, and which labels have most."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from dvid_es.datatypes.labelsz.endpoints import ENDPOINTS
from dvid_es.datatypes.labelsz.fold import FOLDS, note_sync
from dvid_es.datatypes.labelsz.rows import PROJECTIONS
from dvid_es.datatypes.labelsz.tables import TABLES
from dvid_es.errors import InvalidRequest
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import ANY_TYPE, Created, Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.projections import labels
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def _create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance.

    Raises:
        InvalidRequest: the region of interest has no version, or a setting cannot be read.
    """
    roi = config.get("roi", "")
    if "roi" in config and len(roi.split(",")) != 2:
        raise InvalidRequest(f'bad ROI value ("{roi}"): expected "<name of a roi>,<uuid>"')
    return Created({"StaticROI": roi}, parse_compression(config), parse_checksum(config))


def _extended(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info."""
    del txn, view
    return {"StaticROI": instance.settings["StaticROI"]}


def _agreed(*_: object) -> Iterator[Any]:
    """Return nothing to settle: counts are read off elements, whatever versions these come from."""
    return iter(())


labels.SYNC_WATCHERS.append(note_sync)

LABELSZ = Datatype(
    name="labelsz",
    version="0.1",
    endpoints=with_verbs(ENDPOINTS, no_head=("count", "counts", "top", "threshold")),
    folds=FOLDS,
    create=_create,
    extended=_extended,
    conflicts=_agreed,
    resolve=_agreed,
    syncs=ANY_TYPE,
    tagged=False,
    help=files(__name__).joinpath("HELP.txt").read_text("utf-8"),
    tables=TABLES,
    projections=PROJECTIONS,
)
