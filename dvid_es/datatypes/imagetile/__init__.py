"""imagetile: pictures of tiles in three planes and several scales, as clients made them."""

from importlib.resources import files

from dvid_es.datatypes.imagetile import merging, settings
from dvid_es.datatypes.imagetile.endpoints import ENDPOINTS
from dvid_es.datatypes.imagetile.fold import FOLDS
from dvid_es.datatypes.imagetile.tiles import TILES
from dvid_es.http.datatype import Datatype

IMAGETILE = Datatype(
    name="imagetile",
    version="0.1",
    endpoints=ENDPOINTS,
    folds=FOLDS,
    create=settings.create,
    extended=lambda txn, instance, view: dict(instance.settings),
    conflicts=merging.conflicts,
    tagged=False,
    resolve=merging.resolve,
    help=files(__name__).joinpath("HELP.txt").read_text("utf-8"),
    projections={TILES: "tiles"},
)
