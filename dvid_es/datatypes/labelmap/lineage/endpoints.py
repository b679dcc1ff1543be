"""Requests for lineages, and for the differences of two moments."""

import json
from itertools import islice
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import bodysets, mutationlog
from dvid_es.datatypes.labelmap.bodies.requests import indexed, parse_label, reads_of
from dvid_es.datatypes.labelmap.lineage import notes, walk
from dvid_es.datatypes.labelmap.lineage.walk import Step
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.node import NodeRequest, raw_json
from dvid_es.http.wire import parse_unsigned
from dvid_es.projections.txn import ReadTxn

_INNER = {"Moves", "Origins", "Of", "Classic"}
"""Facts of an undo that are kept for the server itself."""

PAGE_MAX = 10_000
"""Most mutations of one answer."""


@indexed
async def get_lineage(request: NodeRequest) -> Any:
    """Answer the mutations that made a body or a supervoxel what it is, the newest first."""
    label = parse_label(request)
    limit = parse_unsigned(request.args.get("limit") or "1000", "limit", 32)
    if not 0 < limit <= PAGE_MAX:
        raise InvalidRequest(f"limit must be 1 to {PAGE_MAX}: the rest comes with before=")
    before = parse_unsigned(request.args.get("before") or str(2**64 - 1), "before")
    body = await request.in_thread(_lineage, request, label, limit, before)
    return raw_json(body)


def _lineage(request: NodeRequest, label: int, limit: int, before: int) -> str:
    txn, instance_id, view = request.txn, request.instance.id, request.view
    supervoxel = request.flag("supervoxels")
    lineage = walk.of_supervoxel if supervoxel else walk.of_body
    steps = lineage(txn, instance_id, label, view)
    known = next(steps, None)
    if known is None:
        what = "supervoxel" if supervoxel else "body"
        raise NotFound(f"{what} {label} has never been seen by this version")
    everything = lineage(txn, instance_id, label, view)
    found = list(islice((one for one in everything if one.sequence < before), limit + 1))
    following = found[limit - 1].sequence if len(found) > limit else None
    answer = {
        "label": label,
        "supervoxel": supervoxel,
        "version": request.version.uuid,
        "exists": _exists(request, label, supervoxel),
        "next": following,
    }
    head = json.dumps(answer)[:-1]
    records = ",\n".join(step_json(txn, step) for step in found[:limit])
    return f'{head}, "mutations": [{records}]}}'


def _exists(request: NodeRequest, label: int, supervoxel: bool) -> bool:
    if supervoxel:
        try:
            return reads_of(request).chosen(label, True) is not None
        except InvalidRequest:
            return False
    return bodysets.read(request.txn, request.instance.id, label, request.view) is not None


def step_json(txn: ReadTxn, step: Step) -> str:
    """Return a mutation as JSON: its record, the word for it and its sequence."""
    entry = step.entry
    uuid = txn.repo.graph.by_id[step.version].uuid
    facts = {name: fact for name, fact in entry.facts.items() if name not in _INNER}
    fields = mutationlog.to_fields(entry, facts, uuid, entry.action.removesuffix("-complete"))
    return gojson.dumps({**fields, "Sequence": step.sequence}, sort_keys=True)


ENDPOINTS = {"GET lineage": get_lineage}

PROJECTIONS = {notes.NOTES: "notes of events"}
"""Kinds of rows of this part, and their names."""
