"""What may be asked of an annotation, and when the answer is no. Pure.

What voxels hold is looked up before a command is queued, beside others; where a block of voxels has changed
since, it is looked up again.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.changes import Block
from dvid_es.datatypes.annotation.events import (
    AllDeleted,
    BlocksReplaced,
    ElementDeleted,
    ElementMoved,
    ElementsPut,
    LabelsListed,
)
from dvid_es.datatypes.annotation.source import UNVERSIONED, block_shape, followed, listed
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.projections.catalog import Instance
from dvid_es.projections.labels import SOURCES, Coords, Labels, LabelSource, Points
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


class Outdated(InvalidRequest):
    """Other writes came between preparing and deciding: prepare again."""

    def __init__(self) -> None:
        """Say what to do if that happens too often."""
        super().__init__("other writes changed what this is made from, several times: try again")


def _seen_labels(
    txn: ReadTxn, instance: Instance, version: int
) -> tuple[LabelSource, Instance, View] | None:
    """Return the labels that an annotation follows, as a version sees them."""
    labels = followed(txn.repo, instance)
    if labels is None:
        return None
    view = txn.view(version if labels.versioned else UNVERSIONED)
    return SOURCES[labels.typename], labels, view


class Found(NamedTuple):
    """What was looked up under points."""

    labels: int
    """Instance of the labels."""

    coords_zyx: Coords
    """int32[m, 3]: the blocks that the points are in."""

    places: NDArray[np.int64]
    """int64[n]: in which of them each point is."""

    blocks: tuple[Bulk | None, ...]
    """As they are stored."""

    svs: Labels


@dataclass(frozen=True, slots=True)
class UnderPoints:
    """What the voxels under some points hold, as of one state."""

    points_zyx: Points
    """int64[n, 3]."""

    version: int
    """Ordinal of the version addressed: that of the labels, also for unversioned annotations."""

    found: Found | None = None
    """None if there were no labels to follow."""

    @classmethod
    def look(
        cls, txn: ReadTxn, instance: Instance, version: int, points_zyx: Points
    ) -> "UnderPoints":
        """Look under points with the labels that an annotation follows."""
        seen = _seen_labels(txn, instance, version)
        if seen is None or not len(points_zyx):
            return cls(points_zyx, version)
        source, labels, view = seen
        at = points_zyx // np.array(source.block_shape(labels))
        coords, places = np.unique(at.astype(np.int32), axis=0, return_inverse=True)
        blocks = tuple(source.find_blocks(txn, labels, view, coords))
        svs = source.supervoxels_at(txn, labels, view, points_zyx)
        found = Found(labels.id, coords, places.reshape(-1), blocks, svs)
        return cls(points_zyx, version, found)

    def settled(self, txn: ReadTxn, instance: Instance) -> Labels:
        """Return what the voxels hold in another state, zeros without labels to follow."""
        seen = _seen_labels(txn, instance, self.version)
        if seen is None or not len(self.points_zyx):
            return np.zeros(len(self.points_zyx), np.uint64)
        source, labels, view = seen
        found = self.found
        if found is None or found.labels != labels.id:
            return source.supervoxels_at(txn, labels, view, self.points_zyx)
        now = source.find_blocks(txn, labels, view, found.coords_zyx)
        changed = [n for n, block in enumerate(now) if block != found.blocks[n]]
        if not changed:
            return found.svs
        svs, again = found.svs.copy(), np.flatnonzero(np.isin(found.places, changed))
        svs[again] = source.supervoxels_at(txn, labels, view, self.points_zyx[again])
        return svs


def _one(context: Context, version: int, point: Triple) -> tuple[bool, int]:
    """Say whether there are labels to follow, and return what one voxel holds."""
    seen = _seen_labels(context.txn, fixed_instance(context), version)
    if seen is None:
        return False, 0
    source, labels, view = seen
    found = source.supervoxels_at(context.txn, labels, view, np.array([point], np.int64))
    return True, int(found[0])


def _block(context: Context, shape: Triple, point: Triple) -> Block:
    z, y, x = (c // side for c, side in zip(point, shape, strict=True))
    return Block(context.txn, fixed_instance(context).id, context.view, (z, y, x))


def shown(point: Triple) -> str:
    """Return a place as DVID's messages show it."""
    z, y, x = point
    return f"({x},{y},{z})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutElements:
    """Write elements, all or none."""

    block: Triple
    """Shape of the blocks that the links were made for."""

    points: Bulk
    elements: Bulk
    links: Bulk
    under: UnderPoints
    posted: Bulk = b""
    told: bool = True

    def decide(self, context: Context) -> Decision:
        """Return the event; none for no elements.

        Raises:
            Outdated: it must be prepared again.
        """
        instance = fixed_instance(context)
        if block_shape(context.repo, instance) != self.block:
            raise Outdated
        if not len(self.under.points_zyx) and not self.told:
            return Decision(())
        svs = self.under.settled(context.txn, instance)
        event = ElementsPut(
            block=self.block,
            points=self.points,
            elements=self.elements,
            supervoxels=svs.astype("<u8").tobytes(),
            links=self.links,
            version=self.under.version,
            posted=self.posted,
            told=self.told,
        )
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteElement:
    """Delete the element at a place."""

    point: Triple
    version: int
    """Ordinal of the version addressed."""

    told: bool = True

    def decide(self, context: Context) -> Decision:
        """Return the event.

        Raises:
            InvalidRequest: there is no element.
        """
        shape = block_shape(context.repo, fixed_instance(context))
        if not _block(context, shape, self.point).at(rows.point_bytes(self.point)):
            raise InvalidRequest(f"Did not find element {shown(self.point)} in datastore")
        _, sv = _one(context, self.version, self.point)
        event = ElementDeleted(block=shape, point=self.point, supervoxel=sv, told=self.told)
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveElement:
    """Move an element; it takes the place of one that is there."""

    source: Triple
    target: Triple
    version: int
    """Ordinal of the version addressed."""

    told: bool = True

    def decide(self, context: Context) -> Decision:
        """Return the event; none if it stays where it is.

        Raises:
            InvalidRequest: there is no element.
        """
        shape = block_shape(context.repo, fixed_instance(context))
        if not _block(context, shape, self.source).at(rows.point_bytes(self.source)):
            raise InvalidRequest(f"Did not find moved element {shown(self.source)} in datastore")
        if self.source == self.target:
            return Decision(())
        labeled, before = _one(context, self.version, self.source)
        _, after = _one(context, self.version, self.target)
        event = ElementMoved(
            block=shape,
            source=self.source,
            target=self.target,
            labeled=labeled,
            version=self.version,
            source_supervoxel=before,
            target_supervoxel=after,
            told=self.told,
        )
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceBlocks:
    """Give blocks other elements."""

    block: Triple
    """Shape of the blocks that the links were made for."""

    blocks: Bulk
    counts: Bulk
    points: Bulk
    elements: Bulk
    links: Bulk
    posted: Bulk = b""
    told: bool = True

    def decide(self, context: Context) -> Decision:
        """Return the event.

        Raises:
            Outdated: it must be prepared again.
        """
        if block_shape(context.repo, fixed_instance(context)) != self.block:
            raise Outdated
        event = BlocksReplaced(
            blocks=self.blocks,
            counts=self.counts,
            points=self.points,
            elements=self.elements,
            links=self.links,
            posted=self.posted,
            told=self.told,
        )
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLabels:
    """Give labels other lists of elements."""

    labels: Labels
    counts: NDArray[np.uint32]
    points: Bulk
    elements: Bulk
    under: UnderPoints

    def decide(self, context: Context) -> Decision:
        """Return the event; none for no labels.

        Raises:
            VersionConflict: parents of a version merge disagree about a body.
        """
        if not len(self.labels):
            return Decision(())
        instance, version = fixed_instance(context), self.under.version
        svs = self.under.settled(context.txn, instance)
        owners = np.repeat(self.labels, self.counts)
        lists = listed(context.txn, instance, version)
        if lists is not None:
            for label in self.labels.tolist():
                lists.members(label)  # raises where parents of a version merge disagree
            bodies = lists.bodies(svs)
            svs = np.where((bodies == owners) & (svs != 0), svs, owners)
        else:
            svs = owners
        event = LabelsListed(
            labels=self.labels.astype("<u8").tobytes(),
            counts=self.counts.astype("<u4").tobytes(),
            points=self.points,
            elements=self.elements,
            supervoxels=svs.astype("<u8").tobytes(),
            version=version,
        )
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True)
class DeleteAll:
    """Delete everything at a version."""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        fixed_instance(context)
        return Decision((Outcome(event=AllDeleted()),))
