"""What requests for voxels say in their paths and options, checked.

Source: datatype/labelmap/handlers.go and dvid/point.go (janelia-flyem/dvid).
"""

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.instance_settings import MAX_SCALE
from dvid_es.datatypes.labelmap.voxels.prepare import RAW_BYTES_MAX
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.node import NodeRequest
from dvid_es.http.shapes import (
    VOLUME,
    need_aligned,
    need_words,
    parse_box,
    parse_rows,
    parse_shape,
)
from dvid_es.http.wire import parse_signed

__all__ = ["VOLUME", "need_aligned", "need_words", "parse_box", "parse_shape"]

READ_COMPRESSIONS = ("", "lz4", "gzip", "google", "googlegzip")
BLOCK_COMPRESSIONS = ("uncompressed", "lz4", "gzip", "blocks")


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


def parse_roi(request: NodeRequest, scale: int = 0) -> str:
    """Return the name of the region of interest that masks a request, or "".

    Raises:
        InvalidRequest: a scale is asked for with it, as DVID has no such masks either.
    """
    name = request.args.get("roi", "")
    if name and scale:
        raise InvalidRequest("a ROI masks voxels of scale 0 only: leave out roi= or scale=")
    return name


def parse_points(body: bytes) -> NDArray[np.int64]:
    """Return points int64[n, 3] (ZYX) of a JSON array of [x, y, z].

    Raises:
        InvalidRequest: not such an array.
    """
    return parse_rows(body, 3)[:, ::-1]


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
