"""labelmap: voxels of supervoxels in blocks, bodies that are sets of supervoxels."""

from pathlib import Path

from dvid_es.datatypes.labelmap import blocks, instance_settings, svindex
from dvid_es.http.datatype import Datatype

VOXEL_ROWS = {
    blocks.BLOCKS: "blocks",
    svindex.REGIONS: "supervoxel index",
    svindex.BLOCK_COUNTS: "block counts",
    svindex.TOTALS: "supervoxel totals",
}

LABELMAP = Datatype(
    name="labelmap",
    version="0.1",
    endpoints={},
    folds={},
    create=instance_settings.create,
    help=Path(__file__).with_name("HELP.txt").read_text(),
    projections=VOXEL_ROWS,
)
