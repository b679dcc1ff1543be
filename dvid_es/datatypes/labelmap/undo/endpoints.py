"""Requests to undo and redo."""

from typing import Any

from dvid_es.datatypes.labelmap.bodies.requests import indexed
from dvid_es.datatypes.labelmap.splits.splitting import Outdated
from dvid_es.datatypes.labelmap.undo import fold, status
from dvid_es.datatypes.labelmap.undo.commands import Made, Reverse
from dvid_es.datatypes.labelmap.undo.preparing import prepare_blocks
from dvid_es.datatypes.labelmap.undo.target import SPLITS, find
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, raw_json
from dvid_es.http.wire import parse_json_object

TRIES = 16
"""How often blocks are prepared while other writes change what they are made from."""


@indexed
async def post_undo(request: NodeRequest) -> Any:
    """Take back what a mutation did: {"mutation": id}."""
    return raw_json(await _write(request, redo=False))


@indexed
async def post_redo(request: NodeRequest) -> Any:
    """Do again what was undone: {"mutation": id}."""
    return raw_json(await _write(request, redo=True))


async def refuse(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("undo and redo can only be POSTed")


async def _write(request: NodeRequest, *, redo: bool) -> bytes:
    number = _parse(request.body)
    problem = Outdated()
    for _ in range(TRIES):
        made = await _prepared(request, number, redo=redo)
        try:
            return await request.write(Reverse(number, redo, made))
        except Outdated as outdated:
            problem = outdated
    raise problem


async def _prepared(request: NodeRequest, number: int, *, redo: bool) -> Made | None:
    txn, view = request.txn, request.view
    target = await request.in_thread(find, txn, request.instance.id, view, number, redo=redo)
    return await prepare_blocks(request, target) if target.action in SPLITS else None


def _parse(body: bytes) -> int:
    found = parse_json_object(body)
    number = found.get("mutation")
    if found.keys() != {"mutation"} or type(number) is not int or not 0 <= number < 2**64:
        raise InvalidRequest(
            'the body must be {"mutation": N}: a mutation id, or the sequence of an event without one'
        )
    return number


ENDPOINTS = {
    "POST undo": post_undo,
    "* undo": refuse,
    "POST redo": post_redo,
    "* redo": refuse,
}

FOLDS = fold.FOLDS

PROJECTIONS = {status.STATUS: "undone mutations"}
"""Kinds of rows of this part, and their names."""
