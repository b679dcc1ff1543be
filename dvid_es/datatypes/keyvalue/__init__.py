"""keyvalue: any bytes under text keys, branched and versioned."""

from collections.abc import Mapping
from importlib.resources import files

from dvid_es.datatypes.keyvalue.endpoints import ENDPOINTS
from dvid_es.datatypes.keyvalue.fold import FOLDS
from dvid_es.datatypes.keyvalue.merging import conflicts, resolve
from dvid_es.datatypes.keyvalue.published import PUBLISHED
from dvid_es.datatypes.keyvalue.rows import VALUES
from dvid_es.datatypes.keyvalue.tables import TABLES
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created, Datatype


def _create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance: compression and checksum are kept to be shown."""
    return Created({}, parse_compression(config), parse_checksum(config))


KEYVALUE = Datatype(
    name="keyvalue",
    version="0.2",
    endpoints=ENDPOINTS,
    folds=FOLDS,
    create=_create,
    conflicts=conflicts,
    resolve=resolve,
    help=files(__name__).joinpath("HELP.txt").read_text("utf-8"),
    tables=TABLES,
    published=PUBLISHED,
    projections={VALUES: "keyvalue values"},
)
