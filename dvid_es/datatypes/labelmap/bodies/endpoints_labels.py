"""Requests about label counters: the highest label, the next one, reserving them.

Source: datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

import contextlib
from typing import Any

from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.commands_labels import (
    RaiseMaxLabel,
    ReserveLabels,
    SetNextLabel,
)
from dvid_es.datatypes.labelmap.bodies.requests import indexed, parse_number
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, empty, raw_json
from dvid_es.http.wire import parse_unsigned


@indexed
async def get_maxlabel(request: NodeRequest) -> Any:
    """Answer the highest label of the version."""
    highest = counters.effective_max(request.txn, request.instance.id, request.view)
    if highest is None:
        raise InvalidRequest(
            f"No maximum label found for {request.instance.name} version {request.version.uuid}"
        )
    return raw_json(f'{{"maxlabel": {highest}}}')


@indexed
async def post_maxlabel(request: NodeRequest) -> Any:
    """Raise the highest label of the version."""
    request.need_admin("POST on maxlabel")
    await request.write(RaiseMaxLabel(parse_number(request, "label")))
    return empty()


@indexed
async def get_nextlabel(request: NodeRequest) -> Any:
    """Answer the label that would be given out next."""
    common = counters.read_common(request.txn, request.instance.id)
    following = (common.next_label or common.repo_max) + 1
    # If there is none left, where the counter stands is still an answer.
    with contextlib.suppress(InvalidRequest):
        following, _ = counters.allocate(request.txn, request.instance.id)
    return raw_json(f'{{"nextlabel": {following}}}')


@indexed
async def post_nextlabel(request: NodeRequest) -> Any:
    """Reserve labels."""
    return raw_json(await request.write(ReserveLabels(parse_number(request, "count"))))


async def post_set_nextlabel(request: NodeRequest) -> Any:
    """Set from where labels are given."""
    request.need_admin("POST on set-nextlabel")
    text = request.args.get("ceiling")
    ceiling = parse_unsigned(text, "ceiling") if text else None
    await request.write(SetNextLabel(parse_number(request, "label"), ceiling))
    return empty()


ENDPOINTS = {
    "GET maxlabel": get_maxlabel,
    "POST maxlabel": post_maxlabel,
    "GET nextlabel": get_nextlabel,
    "POST nextlabel": post_nextlabel,
    "POST set-nextlabel": post_set_nextlabel,
}
