"""What happened to elements. Places are voxels; texts are JSON as Go writes it."""

from dvid_es.events import Bulk, Event, event


@event(190, "annotation.elements")
class ElementsPut(Event, frozen=True, kw_only=True):
    """Elements were posted; each takes the place of one that is at its place."""

    block: tuple[int, int, int]
    """Shape of the blocks that elements lie in, ZYX."""

    points: Bulk
    """int32[n, 3] ZYX: their places, none twice."""

    elements: Bulk
    """Of each text the bytes before its relationships u32[n], the lengths u32[n], and the texts."""

    supervoxels: Bulk
    """u64[n]: what voxels hold at these places; 0 for nothing, or without labels to follow."""

    links: Bulk
    """int32[m, 2, 3] ZYX: blocks, and places in other blocks that their elements have relationships to."""

    version: int
    """Ordinal of the version whose bodies are meant: the one addressed, also of unversioned annotations."""

    posted: Bulk = b""
    """The body of the request, which is kept as a blob; empty if nobody is told of it."""

    told: bool = True
    """Whether Kafka hears of it."""


@event(191, "annotation.delete")
class ElementDeleted(Event, frozen=True, kw_only=True):
    """An element was deleted, and all relationships to it."""

    block: tuple[int, int, int]
    point: tuple[int, int, int]
    """ZYX."""

    supervoxel: int = 0
    """What the voxel there holds; 0 for nothing, or without labels to follow."""

    told: bool = True


@event(192, "annotation.move")
class ElementMoved(Event, frozen=True, kw_only=True):
    """An element was moved, and all relationships to it follow. It takes the place of one that is there."""

    block: tuple[int, int, int]
    source: tuple[int, int, int]
    """ZYX."""

    target: tuple[int, int, int]
    """ZYX."""

    labeled: bool
    """Whether there are labels to follow. Without them lists of labels stay as they are."""

    version: int
    """Ordinal of the version whose bodies are meant: the one addressed, also of unversioned annotations."""

    source_supervoxel: int = 0
    target_supervoxel: int = 0
    told: bool = True


@event(193, "annotation.blocks")
class BlocksReplaced(Event, frozen=True, kw_only=True):
    """Blocks were posted: each has these elements and no others. Lists of labels and tags stay."""

    blocks: Bulk
    """int32[n, 3] ZYX: coordinates of distinct blocks."""

    counts: Bulk
    """u32[n]: how many elements each has; 2^32 - 1 for one that was posted as null."""

    points: Bulk
    """Places as in annotation.elements, block by block; one may be there twice."""

    elements: Bulk
    """Texts as in annotation.elements, in the same order."""

    links: Bulk
    posted: Bulk = b""
    told: bool = True


@event(194, "annotation.labels")
class LabelsListed(Event, frozen=True, kw_only=True):
    """Lists of labels were posted: each takes the place of the list that there was."""

    labels: Bulk
    """u64[n], distinct."""

    counts: Bulk
    """u32[n]: how many elements each list has."""

    points: Bulk
    """Places as in annotation.elements, list by list."""

    elements: Bulk
    """Texts as in annotation.elements, without relationships."""

    supervoxels: Bulk
    """u64 for each element: what its voxel holds, if that is of the body; else the label itself."""

    version: int
    """Ordinal of the version whose bodies are meant: the one addressed, also of unversioned annotations."""


@event(195, "annotation.reindex")
class BlocksIndexed(Event, frozen=True, kw_only=True):
    """The elements of some blocks were listed by label and tag again."""

    blocks: Bulk
    """int32[n, 3] ZYX."""

    supervoxels: Bulk
    """u64 for each element of these blocks, in the order of blocks, places and copies: what its voxel
    holds; 0 for nothing, or without labels to follow."""

    version: int
    """Ordinal of the version whose bodies are meant: the one addressed, also of unversioned annotations."""


@event(196, "annotation.unlist")
class ListsCorrected(Event, frozen=True, kw_only=True):
    """Entries of lists were dropped that no element stands behind any more."""

    labeled: Bulk
    """For each: supervoxel (u64, big endian) and place, as keys of rows hold them, 20 bytes."""

    tagged: tuple[tuple[str, tuple[int, int, int]], ...]
    """For each: tag and place, ZYX."""


@event(197, "annotation.clear")
class AllDeleted(Event, frozen=True, kw_only=True):
    """All blocks and lists were deleted at a version."""


@event(198, "annotation.settle")
class RowsSettled(Event, frozen=True, kw_only=True):
    """Where parents of a version merge disagreed, what one of them has was chosen."""

    rows: tuple[tuple[bytes, bytes], ...]
    """Keys of rows without the instance (4 bytes), and their values; empty for none."""
