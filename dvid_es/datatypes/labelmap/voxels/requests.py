"""What requests for voxels say in their paths and options, checked.

Source: datatype/labelmap/handlers.go and dvid/point.go (janelia-flyem/dvid).
"""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.instance_settings import MAX_SCALE
from dvid_es.datatypes.labelmap.voxels.prepare import RAW_BYTES_MAX
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box, Triple
from dvid_es.http.node import NodeRequest
from dvid_es.http.wire import parse_point, parse_signed

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

READ_COMPRESSIONS = ("", "lz4", "gzip", "google", "googlegzip")
BLOCK_COMPRESSIONS = ("uncompressed", "lz4", "gzip", "blocks")

_Number = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
_decode_points = msgspec.json.Decoder(list[list[_Number] | None] | None).decode


def parse_scale(request: NodeRequest) -> int:
    """Return the scale of a request, 0 if none is given.

    Raises:
        InvalidRequest: not a number of 0 to 255.
    """
    text = request.args.get("scale")
    if not text:
        return 0
    scale = parse_signed(text, "scale")
    if not 0 <= scale <= MAX_SCALE:
        raise InvalidRequest(f"scale must be 0 to {MAX_SCALE}, not {scale}")
    return scale


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


def parse_box(size: str, offset: str) -> Box:
    """Return the box of a size and an offset such as 64_64_64 and 0_0_0.

    Raises:
        InvalidRequest: not three numbers each, no positive size, or outside of 32 bits.
    """
    size_xyz = parse_point(size, "size")
    offset_xyz = parse_point(offset, "offset")
    if min(size_xyz) < 1:
        raise InvalidRequest(f'size "{size}" must be at least 1 in each dimension')
    if any(a + n > 1 << 31 for a, n in zip(offset_xyz, size_xyz, strict=True)):
        raise InvalidRequest(f"a box of {size} at {offset} leaves the 32 bits of coordinates")
    return Box.from_offset_size(offset_xyz, size_xyz)  # type: ignore[arg-type]


def limit_voxels(box: Box) -> Box:
    """Return a box that is small enough for one request.

    Raises:
        InvalidRequest: its voxels have more than 3 GiB.
    """
    if 8 * box.volume > RAW_BYTES_MAX:
        raise InvalidRequest(
            f"{box.volume} voxels need more than the {RAW_BYTES_MAX} bytes of one request:"
            " ask in parts"
        )
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


def parse_compression(request: NodeRequest, allowed: tuple[str, ...], default: str = "") -> str:
    """Return the compression that a request asks for.

    Raises:
        InvalidRequest: it is not one of those allowed.
    """
    found = request.args.get("compression") or default
    if found not in allowed:
        names = ", ".join(name for name in allowed if name)
        raise InvalidRequest(f'unknown compression "{found}": use one of {names}')
    return found


def refuse_roi(request: NodeRequest) -> None:
    """Refuse a mask that cannot be applied.

    Raises:
        InvalidRequest: a region of interest is asked for.
    """
    name = request.args.get("roi")
    if name:
        raise InvalidRequest(f'no ROI "{name}" can be used here: leave out the option "roi"')


def parse_points(body: bytes) -> NDArray[np.int64]:
    """Return points int64[n, 3] (ZYX) of a JSON array of [x, y, z].

    Missing coordinates are 0 and further ones are not looked at, as in DVID.

    Raises:
        InvalidRequest: not such an array.
    """
    try:
        points = _decode_points(body)
    except msgspec.MsgspecError as problem:
        raise InvalidRequest(f"Malformed JSON request in body: {problem}") from None
    if not points:
        return np.zeros((0, 3), np.int64)
    if all(point is not None and len(point) == 3 for point in points):
        return np.array(points, np.int64)[:, ::-1]
    out = np.zeros((len(points), 3), np.int64)
    for i, point in enumerate(points):
        for axis, value in enumerate((point or ())[:3]):
            out[i, 2 - axis] = value
    return out


def parse_block_list(text: str) -> NDArray[np.int32]:
    """Return blocks int32[n, 3] (ZYX) of the option `blocks=x,y,z,x,y,z...`.

    Raises:
        InvalidRequest: not numbers, or not three for each block.
    """
    parts = text.split(",") if text else []
    if len(parts) % 3:
        raise InvalidRequest(f"blocks needs three numbers for each block, not {len(parts)} in all")
    numbers = [parse_signed(part, "block coordinate") for part in parts]
    return np.array(numbers, np.int32).reshape(-1, 3)[:, ::-1]
