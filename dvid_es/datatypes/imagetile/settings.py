"""The settings of tiles: format and source at creation, scales by POST metadata.

Source: NewDataService and parseTileSpec in datatype/imagetile/imagetile.go (janelia-flyem/dvid).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.imagetile.levels import Level, Metadata
from dvid_es.errors import InvalidRequest
from dvid_es.http.configuration import parse_boolean, parse_checksum, parse_compression
from dvid_es.http.datatype import Created
from dvid_es.http.slices import PIXELS_MAX

FORMATS = {"lz4": 0, "png": 1, "jpg": 2}
"""How tiles are stored, and its number in info."""

SCALES_MAX = 256

_INTEGER = re.compile(r"[+-]?[0-9]{1,9}\Z")
_REMAINDER = 0.001


def create(config: Mapping[str, str]) -> Created:
    """Return the settings of a new instance; keys of `config` are in lower case.

    Raises:
        InvalidRequest: a value cannot be read, or the compression is not that of the format.
    """
    text = config.get("format", "png")
    form = text.lower()
    if form not in FORMATS:
        raise InvalidRequest(
            f"Unknown encoding specified: '{text}' (should be 'lz4', 'png', or 'jpg')"
        )
    compression = "lz4" if form == "lz4" else "none"
    asked = config.get("compression", compression)
    if asked.lower() != compression:
        raise InvalidRequest(
            f"Conflict between specified compression '{asked}' and format '{text}'."
            "  Suggest not dictating compression."
        )
    settings = {
        "Levels": {},
        "MinTileCoord": [0, 0, 0],
        "MaxTileCoord": [0, 0, 0],
        "Source": config.get("source", ""),
        "Placeholder": parse_boolean(config.get("placeholder", "false")),
        "Encoding": FORMATS[form],
        "Quality": 0,
    }
    shown = parse_compression({"compression": compression})
    return Created(settings, shown, parse_checksum(config))


def parse_metadata(given: Any) -> Metadata:
    """Return metadata of a JSON body; names are read in any case, as in Go.

    DVID takes level -1 for 255, tiles without a size, and half magnifications.

    Raises:
        InvalidRequest: levels are missing, or no whole magnifications of each other, or a tile has no size.
    """
    body = _lower(given, "Go value of type imagetile.metadataJSON")
    levels = body.get("levels") or {}
    known = {}
    for name, level in _object(levels, "metadataJSON.Levels").items():
        if not _INTEGER.match(name):
            raise InvalidRequest(f"Scaling '{name}' needs to be a number for the scale level.")
        if not 0 <= int(name) < len(levels):
            raise InvalidRequest(
                "Tile levels must be consecutive integers from [0,Max]: Got scale level"
                f" {int(name)} > # levels ({len(levels)})\n"
            )
        known[int(name)] = _level(_lower(level, "metadataJSON.Levels"), int(name))
    for scale in range(max(1, len(levels))):
        if scale not in known:
            raise InvalidRequest(f"Could not find tile spec for level {scale}")
    if len(known) > SCALES_MAX:
        raise InvalidRequest(f"there may be {SCALES_MAX} levels, not {len(known)}")
    found = tuple(known[scale] for scale in range(len(known)))
    for scale in range(len(found) - 1):
        _check_magnification(found[scale], found[scale + 1], scale)
    low, high = (_point(body.get(name.lower()), name) for name in ("MinTileCoord", "MaxTileCoord"))
    return Metadata(low, high, found)


def _check_magnification(fine: Level, coarse: Level, scale: int) -> None:
    for high, low in zip(fine.resolution_xyz, coarse.resolution_xyz, strict=True):
        rest = math.remainder(low, high)
        if rest <= _REMAINDER and low / high < 0.99:
            raise InvalidRequest(
                f"A resolution between scale {scale} and {scale + 1} actually increases!"
            )
        if abs(rest) > _REMAINDER:
            raise InvalidRequest(
                f"Resolutions between scale {scale} and {scale + 1} aren't integral magnifications!"
            )


def _level(level: dict[str, Any], scale: int) -> Level:
    resolution, size = level.get("resolution"), level.get("tilesize")
    if (
        not isinstance(resolution, list)
        or len(resolution) != 3
        or not all(
            type(number) in (int, float) and 1e-38 < number < 3.4e38 for number in resolution
        )
    ):
        raise InvalidRequest(f"Resolution of level {scale} must be three numbers above 0: x, y, z")
    if (
        not isinstance(size, list)
        or len(size) != 3
        or not all(type(side) is int and 0 < side < 1 << 31 for side in size)
    ):
        raise InvalidRequest(f"TileSize of level {scale} must be three integers above 0: x, y, z")
    x, y, z = size
    if max(x * y, x * z, y * z) > PIXELS_MAX:
        raise InvalidRequest(
            f"a tile may have {PIXELS_MAX} pixels: TileSize of level {scale} has more"
        )
    return Level(tuple(map(float, map(gojson.float32, resolution))), (x, y, z))


def _lower(given: Any, what: str) -> dict[str, Any]:
    return {name.lower(): value for name, value in _object(given, what).items()}


def _object(given: Any, what: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(given), "number")
        raise InvalidRequest(f"json: cannot unmarshal {kind} into {what}")
    return given


def _point(given: Any, name: str) -> tuple[int, ...]:
    """Return three numbers: what is missing is 0, and more are not looked at, as in Go."""
    numbers = [] if given is None else given
    if not isinstance(numbers, list) or not all(
        type(number) is int and -(1 << 31) <= number < 1 << 31 for number in numbers[:3]
    ):
        raise InvalidRequest(f"{name} must be a list of three 32-bit integers, x, y and z")
    return (*numbers[:3], *[0] * (3 - len(numbers)))
