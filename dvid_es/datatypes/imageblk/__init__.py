"""uint8blk, uint16blk, uint32blk, uint64blk, float32blk and rgba8blk: plain voxels in blocks."""

from functools import partial
from importlib.resources import files

from dvid_es.datatypes.imageblk import (
    blocks,
    endpoints,
    endpoints_settings,
    extents,
    merging,
    settings,
)
from dvid_es.datatypes.imageblk.events import BlocksPut
from dvid_es.datatypes.imageblk.fold import FOLDS
from dvid_es.datatypes.imageblk.layout import KINDS
from dvid_es.http.datatype import Datatype


def _datatype(name: str) -> Datatype:
    kind = KINDS[name]
    first = name == next(iter(KINDS))  # what the types have in common is given once
    return Datatype(
        name=name,
        version=kind.version,
        path=f"imageblk/{kind.file}",
        endpoints={**endpoints.ENDPOINTS, **endpoints_settings.ENDPOINTS},
        folds=FOLDS if first else {},
        create=partial(settings.create, name),
        extended=endpoints_settings.extended_info,
        extents=endpoints_settings.extents_info,
        conflicts=merging.conflicts,
        tagged=False,
        resolve=merging.resolve,
        help=files(__name__).joinpath("HELP.txt").read_text("utf-8"),
        placed={BlocksPut: lambda event: (event.coords, 0)} if first else {},
        projections={blocks.BLOCKS: "blocks of voxels", extents.EXTENTS: "extents of volumes"},
    )


IMAGEBLK = tuple(map(_datatype, KINDS))
