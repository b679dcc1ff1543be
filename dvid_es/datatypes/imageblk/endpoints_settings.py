"""Requests about a volume itself: metadata, extents, resolution."""

import json
from typing import Any

from dvid_es.datatypes.imageblk import extents
from dvid_es.datatypes.imageblk.commands import SetExtents, SetResolution
from dvid_es.datatypes.imageblk.layout import KINDS
from dvid_es.datatypes.imageblk.settings import voxel_size
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, empty, json_response
from dvid_es.http.wire import parse_json
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

METADATA_TYPE = "application/vnd.dvid-nd-data+json"


def extents_info(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extents` of info at a version."""
    box = extents.shown(txn, instance, view)
    return {
        "MinPoint": None if box is None else list(box[:3]),
        "MaxPoint": None if box is None else list(box[3:]),
    }


def extended_info(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info at a version, which is `Properties` of metadata, too."""
    settings = instance.settings
    found = extents_info(txn, instance, view)
    low, high = found["MinPoint"], found["MaxPoint"]
    sides = settings["BlockSize"]
    values = KINDS[instance.typename].values
    return {
        "Values": [{"DataType": kind, "Label": label} for kind, label in values],
        "Interpolable": True,
        "BlockSize": sides,
        "VoxelSize": settings["VoxelSize"],
        "VoxelUnits": settings["VoxelUnits"],
        **found,
        "MinIndex": low and [a // side for a, side in zip(low, sides, strict=True)],
        "MaxIndex": high and [a // side for a, side in zip(high, sides, strict=True)],
        "Background": settings["Background"],
        "GridStore": settings["GridStore"],
        "ScaleLevel": settings["ScaleLevel"],
    }


def get_metadata(request: NodeRequest) -> Any:
    """Answer the axes of the volume and its properties."""
    found = extended_info(request.txn, request.instance, request.view)
    low, high = found["MinPoint"], found["MaxPoint"]
    axes = [
        {
            "Label": label,
            "Resolution": found["VoxelSize"][axis],
            "Units": found["VoxelUnits"][axis],
            "Size": high[axis] - low[axis] + 1 if low else 0,
            "Offset": low[axis] if low else 0,
        }
        for axis, label in enumerate("XYZ")
    ]
    answer = json_response({"Axes": axes, "Properties": found})
    answer.content_type = METADATA_TYPE
    return answer


async def post_extents(request: NodeRequest) -> Any:
    """Set the extents of the version, whatever they were; names are read in any case, as in Go."""
    body = parse_json(request.body)
    if body is not None and not isinstance(body, dict):
        raise _unfit(body, "Go value of type imageblk.extents3D")
    given = {name.lower(): value for name, value in (body or {}).items()}
    low, high = _point(given, "MinPoint"), _point(given, "MaxPoint")
    await request.write(SetExtents(extents=(*low, *high)))
    return empty()


def _point(body: dict[str, Any], name: str) -> list[int]:
    """Return three numbers: what is missing is 0, and more are not looked at, as in Go.

    Raises:
        InvalidRequest: not a list of integers of 32 bits.
    """
    given = body.get(name.lower())
    if given is not None and not isinstance(given, list):
        raise _unfit(given, f"extents3D.{name} of type dvid.Point3d")
    point = [0 if value is None else value for value in (given or ())[:3]]
    for place, value in enumerate(point):
        if type(value) is not int or not -(1 << 31) <= value < 1 << 31:
            raise _unfit(value, f"extents3D.{name}.{place} of type int32")
    return [*point, *[0] * (3 - len(point))]


def _unfit(value: Any, wanted: str) -> InvalidRequest:
    """Return what Go's reader of JSON says of a value that has no place where it stands."""
    kinds = {bool: "bool", str: "string", list: "array", dict: "object"}
    kind = kinds.get(type(value), "number")
    # Of numbers in lists it tells which, of others not.
    shown = f" {json.dumps(value)}" if kind == "number" and "Go value" not in wanted else ""
    return InvalidRequest(f"json: cannot unmarshal {kind}{shown} into {wanted}")


async def post_resolution(request: NodeRequest) -> Any:
    """Set the size of a voxel, for all versions."""
    given = parse_json(request.body)
    if not isinstance(given, list):
        raise _unfit(given, "Go value of type dvid.NdFloat32")
    for place, value in enumerate(given):
        if type(value) not in (int, float):
            raise _unfit(value, f"NdFloat32.{place} of type float32")
    sizes = voxel_size(given)
    await request.write(SetResolution(sizes=tuple(sizes)))
    return empty()


async def refuse_rawkey(request: NodeRequest) -> Any:
    """Refuse what DVID answers with nothing: blocks have no key that others could use."""
    raise InvalidRequest(
        "rawkey is not applicable: stored blocks have no key of DVID's; use specificblocks"
    )


ENDPOINTS = {
    "GET metadata": get_metadata,
    "POST metadata": get_metadata,
    "POST extents": post_extents,
    "POST resolution": post_resolution,
    "GET rawkey": refuse_rawkey,
}
