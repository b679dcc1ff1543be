"""The settings of a volume of voxels: parsed from DVID's texts at creation, shown in info.

Source: setByConfig and setDefault in datatype/imageblk/imageblk.go, and dvid/config.go
(janelia-flyem/dvid).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.imageblk.layout import BLOCK_BYTES_MAX, JPEG_HEIGHT_MAX, KINDS
from dvid_es.errors import InvalidRequest
from dvid_es.http.configuration import Configuration, parse_checksum, parse_compression
from dvid_es.http.datatype import Created

BLOCK_SIDE = 32
"""Side of a block that is not said, in voxels."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_UNSIGNED = re.compile(r"[0-9]{1,20}\Z")


def create(typename: str, config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance of one of KINDS; keys of `config` are in lower case.

    DVID takes a BlockSize without voxels, and one or two numbers for three axes, and then panics.

    Raises:
        InvalidRequest: a value cannot be read or is out of range.
    """
    sides = _integers(config, "BlockSize") or [BLOCK_SIDE] * 3
    compression = parse_compression(config)
    _check_block(sides, KINDS[typename].dtype.itemsize, compression)
    store = _text(config, "GridStore")
    if store:
        raise InvalidRequest(
            f'bad store ({store}) designated for GridStore: could not find store with alias "{store}"'
        )
    units = _text(config, "VoxelUnits")
    settings = {
        "BlockSize": sides,
        "VoxelSize": _voxel_size(config),
        "VoxelUnits": ["nanometers"] * 3 if units is None else _three(units, "VoxelUnits"),
        "MinPoint": _integers(config, "MinPoint"),
        "MaxPoint": _integers(config, "MaxPoint"),
        "Background": _background(config),
        "GridStore": "",
        "ScaleLevel": _integer(_text(config, "ScaleLevel") or "0", "ScaleLevel"),
    }
    return Created(settings, compression, parse_checksum(config))


def voxel_size(values: Any) -> list[float]:
    """Return three sizes as they are kept: floats of 32 bits, whole numbers without a point.

    Raises:
        InvalidRequest: not three numbers above 0.
    """
    if not isinstance(values, list) or len(values) != 3:
        raise InvalidRequest("a resolution is a list of three numbers, x, y and z")
    return [_size(value) for value in values]


def _size(value: Any) -> float:
    if type(value) not in (int, float) or not 1e-38 < value < 3.4e38:
        raise InvalidRequest(f"{value!r} is no resolution: a number above 0 is needed")
    return gojson.float32(value)


def _text(config: Mapping[str, str], name: str) -> str | None:
    """Return a setting, a bare number too, whose meaning is clear; None if it is not there."""
    given = config.raw(name) if isinstance(config, Configuration) else None
    if type(given) in (int, float):
        return str(given)
    return config.get(name.lower())


def _three(text: str, what: str) -> list[str]:
    parts = text.split(",")
    if len(parts) != 3:
        raise InvalidRequest(f"{what} needs three values, x, y and z, not {len(parts)}")
    return parts


def _integer(text: str, what: str) -> int:
    if not _INTEGER.match(text) or not -(1 << 31) <= int(text) < 1 << 31:
        raise InvalidRequest(f'{what} "{text}" is not a whole number of 32 bits')
    return int(text)


def _integers(config: Mapping[str, str], name: str) -> list[int] | None:
    text = _text(config, name)
    return None if text is None else [_integer(part, name) for part in _three(text, name)]


def _background(config: Mapping[str, str]) -> int:
    text = _text(config, "Background")
    if text is None:
        return 0
    if not _UNSIGNED.match(text) or int(text) > 255:
        raise InvalidRequest(f'Background "{text}" is not a whole number of 0 to 255')
    return int(text)


def _voxel_size(config: Mapping[str, str]) -> list[float]:
    text = _text(config, "VoxelSize")
    if text is None:
        return [8, 8, 8]
    try:
        sizes = [float(part) for part in _three(text, "VoxelSize")]
    except ValueError:
        raise InvalidRequest(f'VoxelSize "{text}" is not three numbers') from None
    return voxel_size(sizes)


def _check_block(sides: list[int], voxel_bytes: int, compression: str) -> None:
    if min(sides) < 1:
        raise InvalidRequest("each side of BlockSize must be at least 1")
    if voxel_bytes * math.prod(sides) > BLOCK_BYTES_MAX:
        raise InvalidRequest(
            f"a block may have {BLOCK_BYTES_MAX} bytes: choose a smaller BlockSize"
        )
    picture = max(sides[0], sides[1] * sides[2])
    if compression.startswith("jpeg") and voxel_bytes == 1 and picture > JPEG_HEIGHT_MAX:
        raise InvalidRequest(
            f"a block is stored as a JPEG of {sides[0]} x {sides[1] * sides[2]} pixels, and one has at"
            f" most {JPEG_HEIGHT_MAX} in each direction: choose a smaller BlockSize"
        )
