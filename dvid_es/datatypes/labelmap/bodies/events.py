"""What happens to bodies: events 120 to 149. Arrays of labels are little-endian uint64."""

from dvid_es.events import Bulk, Event, event
from dvid_es.ids import PackRef


@event(120, "labelmap.merge")
class Merged(Event):
    """Bodies were merged into another one."""

    target: int
    """The body that stays."""

    bodies: Bulk
    """u64[n]: the bodies that are gone, ascending."""

    sizes: Bulk
    """u32[n], little endian: supervoxels of each."""

    supervoxels: Bulk
    """u64: those of all of them behind each other, ascending in each."""

    voxels: int
    """Voxels that the target has gained."""

    overridden: tuple[int, ...] = ()
    """Those of `bodies` with posted counts in place of those of the voxels."""


@event(121, "labelmap.cleave")
class Cleaved(Event):
    """Supervoxels left a body and make a new one."""

    body: int
    new_body: int
    supervoxels: Bulk
    """u64[n], as posted: order and repeats."""

    ghosts: Bulk
    """u64: those of them without voxels, which change in the mapping only; ascending."""

    cleaved_voxels: int
    remain_voxels: int


@event(122, "labelmap.mappings")
class MappingsPosted(Event):
    """Entries of the mapping were set, and nothing else."""

    supervoxels: Bulk = b""
    """u64[n], ascending and distinct."""

    bodies: Bulk = b""
    """u64[n]: what each maps to; itself, or 0 for none, are entries like others."""

    runs: tuple[PackRef, ...] = ()
    """Instead of these: the entries as runs (see mapruns.py), where there are many."""


@event(123, "labelmap.index-put")
class IndicesPut(Event):
    """Label indices were set, one after the other."""

    indices: Bulk
    """A LabelIndices message; an index without blocks deletes the body."""


@event(124, "labelmap.labels-reserved")
class LabelsReserved(Event):
    """New labels were given to a client."""

    start: int
    end: int
    """The last one, included."""


@event(125, "labelmap.max-label")
class MaxLabelRaised(Event):
    """An administrator raised the highest label of a version."""

    label: int


@event(126, "labelmap.next-label")
class NextLabelSet(Event):
    """An administrator set from where new labels are given."""

    label: int
    """The next one is one more."""

    ceiling: int
    """The highest one to be given, 0 for no limit."""


@event(127, "labelmap.renumber")
class Renumbered(Event):
    """A body got another label."""

    old: int
    new: int
    supervoxels: Bulk
    """u64: those of the body, ascending."""

    retires_new: bool
    """Whether the mapping says that `new` is no supervoxel."""
