"""Requests for lineages, and for the differences of two moments."""

import json
from collections import Counter
from itertools import islice
from typing import Any, NamedTuple

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import bodysets, mutationlog
from dvid_es.datatypes.labelmap.bodies.requests import indexed, parse_label, reads_of
from dvid_es.datatypes.labelmap.lineage import diff, notes, walk
from dvid_es.datatypes.labelmap.lineage.walk import Step
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.node import HTTPResponse, NodeRequest, raw_json
from dvid_es.http.wire import parse_unsigned
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.projections.catalog import checkpoint, sequence_of_mutation
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

_INNER = {"Moves", "Origins", "Of", "Classic"}
"""Facts of an undo that are kept for the server itself."""

PAGE_MAX = 10_000
"""Most mutations of one answer."""

DIFF_MAX = 1_000_000
"""Most bodies of one answer."""

_DIGITS = 20
"""A number of at most so many digits is no version: those have 32."""


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


@indexed
async def get_diff(request: NodeRequest) -> Any:
    """Answer what became of bodies between two moments: versions, or sequences of this version."""
    if "from" not in request.args:
        raise InvalidRequest(
            "diff needs from=: a version, a sequence or mutation id of this version, or version@number"
        )
    limit = parse_unsigned(request.args.get("limit") or str(PAGE_MAX), "limit", 32)
    after = parse_unsigned(request.args.get("after") or "0", "after")
    if not 0 < limit <= DIFF_MAX:
        raise InvalidRequest(f"limit must be 1 to {DIFF_MAX}: the rest comes with after=")
    table = request.args.get("format", "json")
    if table not in ("json", "csv"):
        raise InvalidRequest(f'format must be json or csv, not "{table}"')
    points = [_point(request, request.args.get(name, "")) for name in ("from", "to")]
    found = await request.in_thread(
        diff.compare, request.txn, request.instance.id, points[0].view, points[1].view
    )
    counts = Counter(one.change for one in found)
    listed = [one for one in found if one.change != "same" or request.flag("same")]
    listed = [one for one in listed if one.label > after]
    page = listed[:limit]
    following = page[-1].label if len(listed) > limit else None
    if table == "csv":
        lines = [diff.COLUMNS, *(one.as_row() for one in page)]
        headers = {} if following is None else {"X-DVID-ES-Next": str(following)}
        return HTTPResponse("\n".join(lines) + "\n", 200, headers, "text/csv; charset=utf-8")
    head = json.dumps(
        {
            **{name: point.said for name, point in zip(("from", "to"), points, strict=True)},
            "counts": {word: counts[word] for word in diff.CHANGES},
            "next": following,
        }
    )
    bodies = ",\n".join(json.dumps(one.as_json()) for one in page)
    return raw_json(f'{head[:-1]}, "bodies": [{bodies}]}}')


class _Point(NamedTuple):
    """A moment of a version."""

    view: View
    said: dict[str, Any]
    """As shown in the answer."""


def _point(request: NodeRequest, text: str) -> _Point:
    """Return the moment that an option names: "" is this version, as of at= if that is given."""
    spec, _, number = text.partition("@")
    if not number and spec.isascii() and spec.isdigit() and len(spec) <= _DIGITS:
        spec, number = "", spec
    version = request.version
    if spec:
        stream, _, version = request.engine.resolve(spec)
        if stream.root != request.stream.root:
            raise InvalidRequest(f"version {spec} belongs to another repository")
    txn = request.txn
    view = txn.view(version.id if request.instance.versioned else 1)
    if number:
        at = parse_unsigned(number, "sequence")
        view = view.at(at if at < FIRST_MUTATION_ID else sequence_of_mutation(txn, at))
    last = min(view.sequence, checkpoint(txn) - 1)
    return _Point(view, {"version": version.uuid, "sequence": last})


ENDPOINTS = {"GET lineage": get_lineage, "GET diff": get_diff}

PROJECTIONS = {notes.NOTES: "notes of events"}
"""Kinds of rows of this part, and their names."""
