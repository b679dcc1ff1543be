"""The settings of a labelmap instance: parsed from DVID's texts, changed later, shown in info.

Source: newData and modifyByConfig in datatype/labelmap/labelmap.go, SetByConfig in
datatype/imageblk/imageblk.go, and dvid/config.go (janelia-flyem/dvid).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Triple
from dvid_es.http.configuration import parse_boolean as boolean
from dvid_es.http.configuration import parse_checksum, parse_compression
from dvid_es.http.datatype import Created
from dvid_es.projections.catalog import Instance

MAX_SCALE = 255
MAX_BLOCK_SIDE = 1024

DEFAULTS: dict[str, Any] = {
    "BlockSize": [64, 64, 64],
    "VoxelSize": [8, 8, 8],
    "VoxelUnits": ["nanometers"] * 3,
    "MinPoint": None,
    "MaxPoint": None,
    "Background": 0,
    "GridStore": "",
    "ScaleLevel": 0,
    "IndexedLabels": True,
    "MaxDownresLevel": 0,
}

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")


def create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance; keys of `config` are in lower case.

    Raises:
        InvalidRequest: a value cannot be read or is out of range.
    """
    settings = changed(DEFAULTS, config)
    if "indexedlabels" in config:
        settings["IndexedLabels"] = boolean(config["indexedlabels"])
    compression, checksum = parse_compression(config, "gzip"), parse_checksum(config)
    if compression.startswith("gzip"):
        checksum = "No checksum"  # gzip has its own
    return Created(settings, compression, checksum)


def changed(settings: Mapping[str, Any], config: Mapping[str, str]) -> dict[str, Any]:
    """Return settings with those of `config` (keys in lower case) that may change later.

    Raises:
        InvalidRequest: a value cannot be read or is out of range.
    """
    found = dict(settings)
    if "blocksize" in config:
        found["BlockSize"] = _block_size(config["blocksize"])
    if "voxelsize" in config:
        found["VoxelSize"] = voxel_size(_floats(config["voxelsize"]))
    if "voxelunits" in config:
        found["VoxelUnits"] = _three(config["voxelunits"].split(","), "VoxelUnits")
    for name in ("MinPoint", "MaxPoint"):
        if name.lower() in config:
            found[name] = _point(config[name.lower()], name)
    for name in ("Background", "ScaleLevel", "MaxDownresLevel"):
        if name.lower() in config:
            found[name] = _byte(config[name.lower()], name)
    if store := config.get("gridstore"):
        raise InvalidRequest(
            f'bad store ({store}) designated for GridStore: could not find store with alias "{store}"'
        )
    return found


def block_shape(instance: Instance) -> Triple:
    """Return the shape of the instance's blocks in voxels, ZYX."""
    x, y, z = instance.settings["BlockSize"]
    return z, y, x


def has_bodies(instance: Instance) -> bool:
    """Say whether bodies are sets of supervoxels; labels of the older types are bodies themselves."""
    return instance.typename == "labelmap"


def voxel_size(values: Any) -> list[float]:
    """Return three sizes as they are kept: whole numbers without a point.

    Raises:
        InvalidRequest: not three finite numbers above 0.
    """
    if not isinstance(values, list) or len(values) != 3:
        raise InvalidRequest("a resolution is a list of three numbers, x, y and z")
    for value in values:
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise InvalidRequest(f"{value!r} is no resolution: a number above 0 is needed")
    return [int(value) if float(value).is_integer() else float(value) for value in values]


def _integer(text: str, what: str) -> int:
    if not _INTEGER.match(text):
        raise InvalidRequest(f'{what} "{text}" is not a whole number')
    return int(text)


def _byte(text: str, what: str) -> int:
    number = _integer(text, what)
    if not 0 <= number <= MAX_SCALE:
        raise InvalidRequest(f"{what} must be 0 to {MAX_SCALE}, not {number}")
    return number


def _three(parts: list[Any], what: str) -> list[Any]:
    if len(parts) != 3:
        raise InvalidRequest(f"{what} needs three values, x, y and z, not {len(parts)}")
    return parts


def _block_size(text: str) -> list[int]:
    sides = [_integer(part, "BlockSize") for part in _three(text.split(","), "BlockSize")]
    if any(side < 16 or side % 16 for side in sides):
        raise InvalidRequest("BlockSize must be multiples of 16")
    if max(sides) > MAX_BLOCK_SIDE:
        raise InvalidRequest(f"BlockSize must be at most {MAX_BLOCK_SIDE}")
    return sides


def _point(text: str, what: str) -> list[int]:
    point = [_integer(part, what) for part in _three(text.split(","), what)]
    if not all(-(1 << 31) <= value < 1 << 31 for value in point):
        raise InvalidRequest(f'{what} "{text}" has a number that needs more than 32 bits')
    return point


def _floats(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidRequest(f'VoxelSize "{text}" is not three numbers') from None
