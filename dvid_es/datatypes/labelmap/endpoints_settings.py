"""Requests about an instance itself: settings, metadata, extents, resolution."""

import json
from typing import Any

from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.instance_settings import voxel_size
from dvid_es.datatypes.labelmap.voxels import extents
from dvid_es.datatypes.labelmap.voxels.commands import ChangeSettings, SetExtents
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, empty, json_response, raw_json
from dvid_es.http.wire import parse_json, parse_json_object
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


def properties(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return what info and metadata say of the voxels of any label type."""
    settings = instance.settings
    found = extents_info(txn, instance, view)
    low, high = found["MinPoint"], found["MaxPoint"]
    sides = settings["BlockSize"]
    return {
        "Values": [{"DataType": "uint64", "Label": instance.typename}],
        "Interpolable": False,
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


def extended_info(txn: ReadTxn, instance: Instance, view: View) -> dict[str, Any]:
    """Return `Extended` of info at a version."""
    common = counters.read_common(txn, instance.id)
    highest = counters.effective_max(txn, instance.id, view)
    return {
        **properties(txn, instance, view),
        "MaxLabel": {} if highest is None else {str(view.version): highest},
        "MaxRepoLabel": common.repo_max,
        "NextLabel": common.next_label,
        "IndexedLabels": instance.settings["IndexedLabels"],
        "MaxDownresLevel": instance.settings["MaxDownresLevel"],
    }


async def post_info(request: NodeRequest) -> Any:
    """Change settings."""
    given = parse_json_object(request.body, empty=True)
    config: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(value, str):
            shown = json.dumps(value)[:60]
            raise InvalidRequest(f"Setting for '{name}' was not a string: {shown}")
        config[name.lower()] = value
    await request.write(ChangeSettings(config=config))
    items = " ".join(f"{name}:{value}" for name, value in sorted(config.items()))
    name = request.instance.name
    return raw_text(f"Changed '{name}' based on received configuration:\n{{map[{items}]}}\n")


def raw_text(text: str) -> Any:
    """Return plain text."""
    answer = raw_json(text)
    answer.content_type = "text/plain; charset=utf-8"
    return answer


def get_metadata(request: NodeRequest) -> Any:
    """Answer the axes of the volume and its properties."""
    found = properties(request.txn, request.instance, request.view)
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


def get_extents(request: NodeRequest) -> Any:
    """Answer the extents of the version."""
    return json_response(extents_info(request.txn, request.instance, request.view))


async def post_extents(request: NodeRequest) -> Any:
    """Set the extents of the version."""
    given = parse_json_object(request.body)
    low, high = _point(given, "MinPoint"), _point(given, "MaxPoint")
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise InvalidRequest(f"MinPoint {low} lies beyond MaxPoint {high}")
    await request.write(SetExtents(extents=(*low, *high)))
    return empty()


def _point(given: dict[str, Any], name: str) -> list[int]:
    point = given.get(name)
    if (
        not isinstance(point, list)
        or len(point) != 3
        or not all(type(value) is int and -(1 << 31) <= value < 1 << 31 for value in point)
    ):
        raise InvalidRequest(f"{name} must be a list of three 32-bit integers, x, y and z")
    return point


def get_resolution(request: NodeRequest) -> Any:
    """Answer the size of a voxel."""
    return json_response(request.instance.settings["VoxelSize"])


async def post_resolution(request: NodeRequest) -> Any:
    """Set the size of a voxel, for all versions."""
    sizes = voxel_size(parse_json(request.body))
    await request.write(ChangeSettings(config={}, resolution=tuple(sizes)))
    return empty()


ENDPOINTS = {
    "POST info": post_info,
    "GET metadata": get_metadata,
    "GET extents": get_extents,
    "POST extents": post_extents,
    "GET resolution": get_resolution,
    "POST resolution": post_resolution,
}
