"""Requests to check an instance, and to repair a body or a box of it from the log: long jobs."""

import re
from functools import partial

from sanic.response import HTTPResponse

from dvid_es.datatypes.labelmap.fsck.choosing import rows_of_body, rows_of_box
from dvid_es.datatypes.labelmap.fsck.run import check, put_right
from dvid_es.datatypes.labelmap.fsck.state import State
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box, Triple
from dvid_es.http.jobs import accepted
from dvid_es.http.node import NodeRequest
from dvid_es.replay.repair import Choose

BOX_BLOCKS_MAX = 1 << 20

_BODY = re.compile(r"body:([1-9][0-9]{0,19})\Z")
_BOX = re.compile(r"box:" + ",".join([r"(-?[0-9]{1,10})"] * 6) + r"\Z")


def post_fsck(request: NodeRequest) -> HTTPResponse:
    """POST fsck: check the instance at this version, or with repair= put a part right from the log."""
    about = {"repo": request.stream.root, "instance": request.instance.name}
    wanted = request.args.get("repair")
    if wanted is not None:
        choose = parse_repair(request, wanted)
        data = request.server.settings.data
        work = partial(put_right, request.engine, request.stream, choose, data)
        place = f"repair of {request.stream.root}"
        job = request.engine.jobs.submit("repair", {**about, "repair": wanted}, work, place)
        return accepted(job)
    deep = request.flag("deep")
    about |= {"version": request.version.uuid, "deep": str(deep).lower()}
    assert request.view is not None
    return accepted(
        request.engine.jobs.submit("fsck", about, partial(check, State.of(request), deep))
    )


def parse_repair(request: NodeRequest, wanted: str) -> Choose:
    """Return which rows `body:<label>` or `box:<x0>,<y0>,<z0>,<x1>,<y1>,<z1>` (voxels) means.

    Raises:
        InvalidRequest: it is neither, or the box is empty or too large.
    """
    instance_id = request.instance.id
    if found := _BODY.match(wanted):
        label = int(found[1])
        if label >= 1 << 64:
            raise InvalidRequest(f"{label} is no label: it needs more than 64 bits")
        return rows_of_body(instance_id, label)
    if not (found := _BOX.match(wanted)):
        raise InvalidRequest(
            f'cannot repair "{wanted}": say body:<label>, or box:<x0>,<y0>,<z0>,<x1>,<y1>,<z1> in voxels'
        )
    x0, y0, z0, x1, y1, z1 = map(int, found.groups())
    depth, height, width = block_shape(request.instance)
    start: Triple = z0 // depth, y0 // height, x0 // width
    stop: Triple = -(-z1 // depth), -(-y1 // height), -(-x1 // width)
    box = Box(start, stop)
    if any(a >= b for a, b in zip(start, stop, strict=True)) or box.volume > BOX_BLOCKS_MAX:
        raise InvalidRequest(f"a box to repair has 1 to {BOX_BLOCKS_MAX} blocks")
    scales = int(request.instance.settings.get("MaxDownresLevel", 0))
    return rows_of_box(instance_id, box, scales)


ENDPOINTS = {"POST fsck": post_fsck}
READS = frozenset(ENDPOINTS)
