"""Planes and boxes of voxels in paths, such as `raw/0_1_2/64_64_64/0_0_0`, and lists of points in bodies.

Source: dvid/geometry.go and dvid/point.go (janelia-flyem/dvid).
"""

import json
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box, Triple
from dvid_es.http.node import NodeRequest
from dvid_es.http.wire import parse_json, parse_point

VOLUME = "volume"
_SHAPES = {
    "0_1_2": VOLUME,
    "vol": VOLUME,
    "xy": "xy",
    "0_1": "xy",
    "xz": "xz",
    "0_2": "xz",
    "yz": "yz",
    "1_2": "yz",
}

_Number = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
_decode_rows = msgspec.json.Decoder(list[list[_Number]]).decode


def parse_shape(text: str) -> str:
    """Return the plane of a request for voxels, or VOLUME.

    Raises:
        InvalidRequest: there is no such shape.
    """
    found = _SHAPES.get(text.lower().replace(",", "_"))
    if found is None:
        raise InvalidRequest(f'"{text}" is no shape of voxels: use 0_1_2, xy, xz or yz')
    return found


def need_words(request: NodeRequest, count: int, usage: str) -> list[str]:
    """Return the parts of the path behind the keyword.

    Raises:
        InvalidRequest: there are fewer than `count`.
    """
    if len(request.words) < count:
        raise InvalidRequest(f"the path is too short: {usage}")
    return request.words


def parse_box(size: str, offset: str, *, smallest: int = 1) -> Box:
    """Return the box of a size and an offset such as 64_64_64 and 0_0_0.

    Args:
        size: X, Y and Z, joined by `_`.
        offset: the same.
        smallest: the least that each size may be; 0 where DVID answers nothing for a box without voxels.

    Raises:
        InvalidRequest: not three numbers each, a size that is too small, or outside of 32 bits.
    """
    size_xyz = parse_point(size, "size")
    offset_xyz = parse_point(offset, "offset")
    if min(size_xyz) < smallest:
        raise InvalidRequest(f'size "{size}" must be at least {smallest} in each dimension')
    box = Box.from_offset_size(offset_xyz, size_xyz)  # type: ignore[arg-type]
    if max(box.stop_zyx) > 1 << 31:
        raise InvalidRequest(f"a box of {size} at {offset} leaves the 32 bits of coordinates")
    return box


def need_aligned(box: Box, shape_zyx: Triple) -> Box:
    """Return a box of whole blocks.

    Raises:
        InvalidRequest: it is not.
    """
    if not box.is_aligned(shape_zyx):
        z, y, x = shape_zyx
        raise InvalidRequest(f"size and offset must be multiples of the block size {x}x{y}x{z}")
    return box


def parse_rows(body: bytes, width: int) -> NDArray[np.int64]:
    """Return a JSON array of arrays of numbers of 32 bits as int64[n, width].

    As in Go, missing numbers and null are 0, further ones are not looked at, and null for all is none.

    Raises:
        InvalidRequest: not such an array.
    """
    try:
        rows = _decode_rows(body)
    except msgspec.MsgspecError:
        rows = _loose_rows(parse_json(body), width)
    if any(len(row) != width for row in rows):
        rows = [[*row[:width], *[0] * (width - len(row))] for row in rows]
    return np.array(rows, np.int64).reshape(-1, width)


def _loose_rows(value: Any, width: int) -> list[list[int]]:
    if value is not None and not isinstance(value, list):
        raise InvalidRequest("Malformed JSON request in body: an array of arrays is needed")
    rows = []
    for item in value or ():
        if item is not None and not isinstance(item, list):
            shown = json.dumps(item)[:60]
            raise InvalidRequest(
                f"Malformed JSON request in body: {shown} is not an array of numbers"
            )
        row = [0 if number is None else number for number in (item or ())[:width]]
        for number in row:
            if type(number) is not int or not -(1 << 31) <= number < 1 << 31:
                shown = json.dumps(number)[:60]
                raise InvalidRequest(
                    f"Malformed JSON request in body: {shown} is not an integer of 32 bits"
                )
        rows.append(row)
    return rows
