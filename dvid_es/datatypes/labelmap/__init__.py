"""labelmap: voxels of supervoxels in blocks, bodies that are sets of supervoxels."""

from pathlib import Path

from dvid_es.datatypes.labelmap import endpoints_settings, instance_settings, merging
from dvid_es.datatypes.labelmap.bodies import endpoints as endpoints_bodies
from dvid_es.datatypes.labelmap.bodies.reads import supervoxels_of
from dvid_es.datatypes.labelmap.export import endpoints as endpoints_export
from dvid_es.datatypes.labelmap.fsck import endpoints as endpoints_fsck
from dvid_es.datatypes.labelmap.looked_into import MAPPED
from dvid_es.datatypes.labelmap.precomputed import endpoints as endpoints_precomputed
from dvid_es.datatypes.labelmap.published import PUBLISHED
from dvid_es.datatypes.labelmap.splits import endpoints as endpoints_splits
from dvid_es.datatypes.labelmap.splits import fold as fold_splits
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.told import TOLD
from dvid_es.datatypes.labelmap.touched import PLACED, TABLES, TOUCHED
from dvid_es.datatypes.labelmap.voxels import blocks, endpoints_slices, extents
from dvid_es.datatypes.labelmap.voxels import endpoints as endpoints_voxels
from dvid_es.datatypes.labelmap.voxels import fold as fold_voxels
from dvid_es.http.datatype import Datatype
from dvid_es.http.verbs import with_verbs
from dvid_es.projections.labels import SOURCES, TELL

VOXEL_ROWS = {
    blocks.BLOCKS: "blocks",
    svindex.REGIONS: "supervoxel index",
    extents.EXTENTS: "extents",
    svindex.BLOCK_COUNTS: "block counts",
    svindex.TOTALS: "supervoxel totals",
}

SOURCES["labelmap"] = MAPPED
TELL.update(TOLD)

LABELMAP = Datatype(
    name="labelmap",
    version="0.1",
    endpoints=with_verbs(
        {
            **endpoints_settings.ENDPOINTS,
            **endpoints_voxels.ENDPOINTS,
            **endpoints_slices.ENDPOINTS,
            **endpoints_bodies.ENDPOINTS,
            **endpoints_splits.ENDPOINTS,
            **endpoints_precomputed.ENDPOINTS,
            **endpoints_export.ENDPOINTS,
            **endpoints_fsck.ENDPOINTS,
        },
        any_method=(
            *("metadata", "size", "supervoxels", "supervoxel-sizes", "lastmod"),
            *("sparsevol-by-point", "sparsevol-coarse", "sparsevols-coarse"),
        ),
        no_head=(
            *("raw", "isotropic", "pseudocolor", "blocks", "specificblocks", "sparsevol-size"),
            *("existing-labels", "listlabels", "supervoxel-splits", "mappings", "map-stats"),
            *("maxlabel", "nextlabel", "index", "index-version", "mutations", "mutations-range"),
            *("history", "proximity", "fvdb"),
        ),
    ),
    folds={**fold_voxels.FOLDS, **endpoints_bodies.FOLDS, **fold_splits.FOLDS},
    create=instance_settings.create,
    extended=endpoints_settings.extended_info,
    extents=endpoints_settings.extents_info,
    reads=endpoints_fsck.READS | endpoints_export.READS,
    conflicts=merging.conflicts,
    supervoxels=supervoxels_of,
    help="".join(
        Path(__file__).with_name(name).read_text()
        for name in ("HELP.txt", "HELP_BODIES.txt", "HELP_EXPORT.txt")
    ),
    touched=TOUCHED,
    placed=PLACED,
    published=PUBLISHED,
    tables=TABLES,
    projections={**VOXEL_ROWS, **endpoints_bodies.PROJECTIONS},
    contents={blocks.BLOCKS: blocks.content},
)
