"""Writes of voxels, extents and resolution. Pure."""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.imageblk import extents
from dvid_es.datatypes.imageblk.events import BlocksPut, ExtentsSet, ResolutionSet
from dvid_es.events import Bulk
from dvid_es.projections.regions import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBlocks:
    """Write whole blocks, prepared already; see `BlocksPut` for what the fields mean."""

    coords: Bulk
    blocks: tuple[Bulk, ...]
    extents: tuple[int, ...] = ()
    region: Region | None = None
    """The region of interest by which blocks were chosen."""

    def decide(self, context: Context) -> Decision:
        """Return the one event of this write, or none if it changes nothing.

        Raises:
            InvalidRequest: the region is another one by now.
        """
        instance = fixed_instance(context)
        if self.region is not None:
            self.region.check(context.txn)
        if not self.blocks:
            before = extents.read(context.txn, instance, context.view)
            if not self.extents or extents.union(before or (), self.extents) == before:
                return Decision(())
        put = BlocksPut(coords=self.coords, blocks=self.blocks, extents=self.extents)
        return Decision((Outcome(event=put, mutation_id=context.mutation_id()),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetExtents:
    """Set the extents of a version."""

    extents: tuple[int, ...]

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if the version has these extents already."""
        instance = fixed_instance(context)
        if extents.read(context.txn, instance, context.view) == self.extents:
            return Decision(())
        return Decision((Outcome(event=ExtentsSet(extents=self.extents)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResolution:
    """Set the size of a voxel, for all versions."""

    sizes: tuple[float, ...]

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if that is the size already."""
        if fixed_instance(context).settings["VoxelSize"] == list(self.sizes):
            return Decision(())
        return Decision((Outcome(event=ResolutionSet(sizes=self.sizes)),))
