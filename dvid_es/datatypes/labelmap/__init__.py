"""labelmap: voxels of supervoxels in blocks, bodies that are sets of supervoxels."""

from pathlib import Path

from dvid_es.datatypes.labelmap import (
    blocks,
    endpoints_bodies,
    endpoints_settings,
    endpoints_slices,
    endpoints_splits,
    endpoints_voxels,
    extents,
    fold_splits,
    fold_voxels,
    instance_settings,
    merging,
    svindex,
)
from dvid_es.http.datatype import Datatype

VOXEL_ROWS = {
    blocks.BLOCKS: "blocks",
    svindex.REGIONS: "supervoxel index",
    extents.EXTENTS: "extents",
    svindex.BLOCK_COUNTS: "block counts",
    svindex.TOTALS: "supervoxel totals",
}

LABELMAP = Datatype(
    name="labelmap",
    version="0.1",
    endpoints={
        **endpoints_settings.ENDPOINTS,
        **endpoints_voxels.ENDPOINTS,
        **endpoints_slices.ENDPOINTS,
        **endpoints_bodies.ENDPOINTS,
        **endpoints_splits.ENDPOINTS,
    },
    folds={**fold_voxels.FOLDS, **endpoints_bodies.FOLDS, **fold_splits.FOLDS},
    create=instance_settings.create,
    extended=endpoints_settings.extended_info,
    extents=endpoints_settings.extents_info,
    reads=endpoints_voxels.READS,
    conflicts=merging.conflicts,
    help="".join(
        Path(__file__).with_name(name).read_text() for name in ("HELP.txt", "HELP_BODIES.txt")
    ),
    projections={**VOXEL_ROWS, **endpoints_bodies.PROJECTIONS},
)
