"""What may be asked of tiles. Pure."""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.imagetile.events import MetadataSet, TilePut
from dvid_es.events import Bulk


@dataclass(frozen=True, slots=True, kw_only=True)
class PutTile:
    """Give a tile its bytes; long ones are in the packs already."""

    plane: str
    scale: int
    tile_xyz: tuple[int, ...]
    data: Bulk

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        fixed_instance(context)
        put = TilePut(plane=self.plane, scale=self.scale, tile=self.tile_xyz, data=self.data)
        return Decision((Outcome(event=put),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMetadata:
    """Describe the scales, for all versions; see `MetadataSet` for what the fields mean."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    resolutions: tuple[tuple[float, ...], ...]
    sizes: tuple[tuple[int, ...], ...]

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        fixed_instance(context)
        event = MetadataSet(
            low=self.low, high=self.high, resolutions=self.resolutions, sizes=self.sizes
        )
        return Decision((Outcome(event=event),))
