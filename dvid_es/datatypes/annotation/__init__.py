"""annotation: points in space with kinds, tags, properties and relationships, found by place, tag and label."""

from collections.abc import Mapping
from importlib.resources import files

from dvid_es.datatypes.annotation.endpoints import ENDPOINTS
from dvid_es.datatypes.annotation.fold import FOLDS
from dvid_es.datatypes.annotation.following import follow_voxels
from dvid_es.datatypes.annotation.looked_into import LISTED
from dvid_es.datatypes.annotation.merging import conflicts, resolve
from dvid_es.datatypes.annotation.overheard import messages
from dvid_es.datatypes.annotation.published import PUBLISHED
from dvid_es.datatypes.annotation.rows import PROJECTIONS
from dvid_es.datatypes.annotation.source import SYNCS, note_source
from dvid_es.datatypes.annotation.touched import PLACED, TABLES, TOUCHED
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created, Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.projections.elements import SOURCES
from dvid_es.projections.labels import SYNC_WATCHERS, WATCHERS


def _create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance: it has none; a size of blocks comes with a sync."""
    return Created({}, parse_compression(config), parse_checksum(config))


SOURCES["annotation"] = LISTED
WATCHERS.append(follow_voxels)
SYNC_WATCHERS.append(note_source)

ANNOTATION = Datatype(
    name="annotation",
    version="0.1",
    endpoints=with_verbs(
        ENDPOINTS,
        no_head=("elements", "label", "tag", "roi", "blocks", "all-elements", "scan"),
    ),
    folds=FOLDS,
    create=_create,
    conflicts=conflicts,
    resolve=resolve,
    syncs=SYNCS,
    help=files(__name__).joinpath("HELP.txt").read_text("utf-8"),
    tables=TABLES,
    touched=TOUCHED,
    placed=PLACED,
    published=PUBLISHED,
    overheard=messages,
    projections=PROJECTIONS,
)
