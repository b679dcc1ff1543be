"""What requests for voxels say, checked; and the blocks that they are about."""

from typing import Any

import numpy as np

from dvid_es.datatypes.imageblk import blocks
from dvid_es.datatypes.imageblk.layout import Layout, layout
from dvid_es.datatypes.imageblk.prepare import RAW_BYTES_MAX
from dvid_es.datatypes.imageblk.reads import Coords, Found
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.node import NodeRequest
from dvid_es.http.wire import parse_signed
from dvid_es.projections import regions

ATTENUATIONS = range(1, 8)


def layout_of(request: NodeRequest) -> Layout:
    """Return the layout of the instance."""
    return layout(request.instance)


def limit_bytes(voxels: int, found: Layout) -> None:
    """Refuse more than one request may have.

    Raises:
        InvalidRequest: the voxels have more than 3 GiB.
    """
    if voxels * found.dtype.itemsize > RAW_BYTES_MAX:
        raise InvalidRequest(
            f"{voxels} voxels need more than the {RAW_BYTES_MAX} bytes of one request: ask in parts"
        )


def parse_attenuation(request: NodeRequest) -> None:
    """Check an option that has no effect, in DVID neither; without an ROI it is not looked at.

    Raises:
        InvalidRequest: not a number of 1 to 7.
    """
    text = request.args.get("attenuation")
    if text and request.args.get("roi") and parse_signed(text, "attenuation") not in ATTENUATIONS:
        raise InvalidRequest("Attenuation should be from 1 to 7 (divides by 2^n)")


def parse_block_list(text: str) -> Coords:
    """Return blocks int32[n, 3] (ZYX) of the option `blocks=x,y,z,x,y,z...`.

    Raises:
        InvalidRequest: not numbers, or not three for each block.
    """
    parts = text.split(",") if text else []
    if len(parts) % 3:
        raise InvalidRequest(f"blocks needs three numbers for each block, not {len(parts)} in all")
    numbers = [parse_signed(part, "block coordinate") for part in parts]
    return np.array(numbers, np.int32).reshape(-1, 3)[:, ::-1]


def region_of(request: NodeRequest) -> regions.Region | None:
    """Return the region of interest that the option `roi` names; None without it.

    Raises:
        InvalidRequest: there is no such region, or its blocks are of another size than ours, which DVID
            does not check: then it takes them for ours.
    """
    name = request.args.get("roi")
    if not name:
        return None
    region = regions.find(request.txn, name, request.version.id)
    ours = layout_of(request).shape_zyx
    if region.block_zyx != ours:
        raise InvalidRequest(
            f'the blocks of ROI "{name}" are {_shown(region.block_zyx)} voxels and those of'
            f" {request.instance.name} {_shown(ours)}: use an ROI with blocks of the same size"
        )
    return region


def _shown(shape_zyx: tuple[int, int, int]) -> str:
    z, y, x = shape_zyx
    return f"{x} x {y} x {z}"


def find_box(request: NodeRequest, box: Box) -> Found:
    """Return the blocks that cover a box of voxels, masked by the option `roi`."""
    region = region_of(request)
    found = find_blocks(request, box.blocks(layout_of(request).shape_zyx))
    if region is not None:
        found.inside = region.mask(box).holds(found.coords_zyx)
    return found


def find_blocks(request: NodeRequest, box: Box) -> Found:
    """Return the blocks of a box of blocks; the request's transaction may end then."""
    coords, there = blocks.find_box(request.txn, request.instance.id, box, request.view)
    return Found(request.stream.packs, layout_of(request), coords, there)


def find_list(request: NodeRequest, coords_zyx: Coords) -> Found:
    """Return those of a list of blocks that are there, in its order, as often as they are in it."""
    there: list[Any] = blocks.find_list(request.txn, request.instance.id, coords_zyx, request.view)
    places = [place for place, block in enumerate(there) if block is not None]
    chosen = [there[place] for place in places]
    return Found(request.stream.packs, layout_of(request), coords_zyx[places], chosen)
