"""roi: a region of interest, as blocks in spans along X."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from dvid_es.datatypes.roi.endpoints import ENDPOINTS, READS
from dvid_es.datatypes.roi.events import SpansReplaced
from dvid_es.datatypes.roi.fold import FOLDS
from dvid_es.datatypes.roi.tables import TABLES
from dvid_es.errors import InvalidRequest
from dvid_es.feed.messages import Spans
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created, Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.http.wire import parse_point
from dvid_es.projections import regions
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

DEFAULT_BLOCK_XYZ = "32,32,32"


def _create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance.

    Raises:
        InvalidRequest: the block size is not three positive numbers, or a setting cannot be read.
    """
    text = config.get("blocksize", DEFAULT_BLOCK_XYZ)
    sides = parse_point(",".join(map(str.strip, text.split(","))), "BlockSize", separator=",")
    if min(sides) < 1:
        raise InvalidRequest(f'BlockSize "{text}" must be at least 1 in each dimension')
    settings = {"BlockSize": list(sides)}
    return Created(settings, parse_compression(config), parse_checksum(config))


def _extended(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info; other than DVID's, the layers are those of the version asked for."""
    min_z, max_z = regions.layers(txn, instance.id, view)
    return {"BlockSize": instance.settings["BlockSize"], "MinZ": min_z, "MaxZ": max_z}


def _agreed(*_: object) -> Iterator[Any]:
    """Return nothing to settle: regions of parents that differ are read together."""
    return iter(())


ROI = Datatype(
    name="roi",
    version="0.1",
    endpoints=with_verbs(ENDPOINTS, no_head=("mask", "partition")),
    folds=FOLDS,
    create=_create,
    extended=_extended,
    reads=READS,
    tagged=False,
    conflicts=_agreed,
    resolve=_agreed,
    tables=TABLES,
    placed={SpansReplaced: lambda event: Spans(event.spans)},
    help=files(__name__).joinpath("HELP.txt").read_text("utf-8"),
    projections={regions.SPANS: "regions of interest"},
)
