"""tarsupervoxels: a blob for each supervoxel, delivered as a tar for each body."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvid_es.datatypes.tarsupervoxels.commands import check_extension
from dvid_es.datatypes.tarsupervoxels.endpoints import ENDPOINTS
from dvid_es.datatypes.tarsupervoxels.fold import FOLDS
from dvid_es.datatypes.tarsupervoxels.rows import BLOBS
from dvid_es.datatypes.tarsupervoxels.touched import TABLES, TOUCHED
from dvid_es.errors import InvalidRequest
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import ANY_TYPE, Created, Datatype


def _create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance."""
    extension = config.get("extension")
    if extension is None:
        raise InvalidRequest(
            "tarsupervoxels instances must have Extension set in the configuration"
        )
    settings = {"Extension": check_extension(extension)}
    return Created(settings, parse_compression(config), parse_checksum(config))


def _nothing(*_: Any) -> Iterator[Any]:
    """Iterate over what version merges can disagree about: blobs are of no version."""
    return iter(())


TARSUPERVOXELS = Datatype(
    name="tarsupervoxels",
    version="0.1",
    endpoints=ENDPOINTS,
    tagged=False,
    folds=FOLDS,
    create=_create,
    extended=lambda txn, instance, view: {"Extension": instance.settings["Extension"]},
    conflicts=_nothing,
    resolve=_nothing,
    syncs=ANY_TYPE,
    help=Path(__file__).with_name("HELP.txt").read_text("utf-8"),
    touched=TOUCHED,
    tables=TABLES,
    projections={BLOBS: "supervoxel blobs"},
)
