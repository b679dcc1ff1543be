"""neuronjson: a JSON object for each body, with authors and times of its fields, and queries."""

from collections.abc import Mapping
from pathlib import Path

from dvid_es.datatypes.neuronjson.endpoints import ENDPOINTS
from dvid_es.datatypes.neuronjson.endpoints_bulk import BULK
from dvid_es.datatypes.neuronjson.endpoints_lists import LISTS
from dvid_es.datatypes.neuronjson.fold import FOLDS
from dvid_es.datatypes.neuronjson.merging import conflicts, resolve
from dvid_es.datatypes.neuronjson.published import PUBLISHED
from dvid_es.datatypes.neuronjson.rows import JOURNAL, RECORDS, SCHEMAS
from dvid_es.datatypes.neuronjson.touched import TABLES, TOUCHED
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created, Datatype


def _create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance: compression and checksum are kept to be shown."""
    return Created({}, parse_compression(config), parse_checksum(config))


NEURONJSON = Datatype(
    name="neuronjson",
    version="0.1",
    endpoints={**ENDPOINTS, **LISTS, **BULK},
    folds=FOLDS,
    create=_create,
    reads=frozenset({"POST query"}),
    conflicts=conflicts,
    resolve=resolve,
    help=Path(__file__).with_name("HELP.txt").read_text("utf-8"),
    touched=TOUCHED,
    published=PUBLISHED,
    tables=TABLES,
    projections={
        RECORDS: "annotations",
        SCHEMAS: "annotation schemas",
        JOURNAL: "annotation journal",
    },
)
