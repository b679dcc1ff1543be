"""Writes of voxels, extents and settings. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelmap import instance_settings
from dvid_es.datatypes.labelmap.voxels import extents
from dvid_es.datatypes.labelmap.voxels.blocks import BLOCKS
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut, ExtentsSet, SettingsChanged
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.regions import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBlocks:
    """Write whole blocks, prepared already; see `BlocksPut` for what the fields mean."""

    scale: int
    coords: Bulk
    blocks: tuple[Bulk, ...]
    shape_zyx: Triple
    """Shape that all blocks have."""

    counts: Bulk = b""
    counted: bool = False
    downres: bool = False
    max_label: int = 0
    extents: tuple[int, ...] = ()
    mutates: bool = True
    """Whether it takes a mutation id: not so for ingestion."""

    region: Region | None = None
    """The region of interest by which blocks were chosen."""

    def decide(self, context: Context) -> Decision:
        """Return the one event of this write.

        Raises:
            InvalidRequest: the instance has other blocks by now, or the region is another one.
        """
        instance = fixed_instance(context)
        if self.region is not None:
            self.region.check(context.txn)
        if instance_settings.block_shape(instance) != self.shape_zyx:
            raise InvalidRequest("the BlockSize of the instance has changed; send the blocks again")
        levels = instance.settings["MaxDownresLevel"] if self.downres else 0
        event = BlocksPut(
            scale=self.scale,
            coords=self.coords,
            blocks=self.blocks,
            indexed=self.counted,
            counts=self.counts,
            downres_levels=levels,
            max_label=self.max_label,
            extents=self.extents,
        )
        mutation = context.mutation_id() if self.mutates else 0
        return Decision((Outcome(event=event, mutation_id=mutation),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetExtents:
    """Set the extents of a version."""

    extents: tuple[int, ...]
    grow: bool = False
    """Whether they shall hold what they held before, too."""

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if the version has these extents already."""
        instance = fixed_instance(context)
        before = extents.read(context.txn, instance, context.view)
        after = extents.union(before or (), self.extents) if self.grow else self.extents
        if before == after:
            return Decision(())
        return Decision((Outcome(event=ExtentsSet(extents=after)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """Change settings of an instance, as POST info does; keys in lower case."""

    config: Mapping[str, str]
    resolution: tuple[float, ...] = ()
    """VoxelSize as numbers, as POST resolution gives it; () leaves it."""

    def decide(self, context: Context) -> Decision:
        """Return what changes.

        Raises:
            InvalidRequest: a value is wrong, or blocks of another size are stored already.
        """
        instance = fixed_instance(context)
        after = instance_settings.changed(instance.settings, self.config)
        if self.resolution:
            after["VoxelSize"] = list(self.resolution)
        different: dict[str, Any] = {
            name: value for name, value in after.items() if value != instance.settings.get(name)
        }
        if "BlockSize" in different and _has_blocks(context):
            raise InvalidRequest(
                "BlockSize cannot change: blocks are stored; make another instance"
            )
        outcomes = []
        if different:
            outcomes.append(Outcome(event=SettingsChanged(settings=different)))
        if (
            {"minpoint", "maxpoint"} & self.config.keys()
            and after["MinPoint"]
            and after["MaxPoint"]
        ):
            box = (*after["MinPoint"], *after["MaxPoint"])
            outcomes.append(Outcome(event=ExtentsSet(extents=box)))
        return Decision(tuple(outcomes))


def _has_blocks(context: Context) -> bool:
    assert context.instance is not None
    prefix = instance_key(context.instance.id, BLOCKS)
    found = context.txn.seek(prefix)
    return found is not None and found[0].startswith(prefix)
