"""Requests for what happened to bodies: records of mutations, of splits.

Source: handleMutations and GetMutationRange in datatype/labelmap (janelia-flyem/dvid).
"""

from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import mutationlog
from dvid_es.datatypes.labelmap.bodies.requests import parse_label
from dvid_es.datatypes.labelmap.lineage import walk
from dvid_es.datatypes.labelmap.mapping import listing as mappinglist
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import TEXT, HTTPResponse, NodeRequest, raw_json
from dvid_es.versions import Version


def _records(request: NodeRequest, versions: list[int], seen_from: int) -> str:
    """Return the records of versions, one after the other, as a JSON array."""
    if not request.instance.versioned:
        versions, seen_from = [1], 1
    txn, instance_id = request.txn, request.instance.id
    view = txn.view(seen_from)
    user = request.args.get("userid") or None
    texts: list[str] = []
    for version in versions:
        texts.extend(mutationlog.read(txn, instance_id, version, view, user))
    return f"[{','.join(texts)}]"


async def get_mutations(request: NodeRequest) -> Any:
    """Answer the records of this version."""
    version = request.version_id
    return _as_text(await request.in_thread(_records, request, [version], version))


async def get_mutations_range(request: NodeRequest) -> Any:
    """Answer the records from one version back to an earlier one, along first parents."""
    if len(request.words) < 2:
        raise InvalidRequest(f"{request.path} needs a first and a last version")
    versions, last = _line(request, *request.words[:2])
    return _as_text(await request.in_thread(_records, request, versions, last.id))


def _as_text(body: str) -> HTTPResponse:
    """Return JSON with the content type that DVID gives to it here."""
    return HTTPResponse(body, 200, content_type=TEXT)


def _line(request: NodeRequest, first_spec: str, last_spec: str) -> tuple[list[int], Version]:
    """Return the ordinals from a version back to an earlier one, and the later version."""
    first, last = _version(request, first_spec), _version(request, last_spec)
    line = request.repo.graph.first_parents(last.id)
    if first.id not in line:
        raise InvalidRequest(
            f"version {first.uuid} is not {last.uuid} or among its first parents: give the earlier"
            " version first"
        )
    return line[: line.index(first.id) + 1], last


def _version(request: NodeRequest, spec: str) -> Version:
    stream, _, version = request.engine.resolve(spec)
    if stream.root != request.stream.root:
        raise InvalidRequest(f"version {spec} belongs to another repository")
    return version


async def get_supervoxel_splits(request: NodeRequest) -> Any:
    """Answer all splits that this version has inherited or made, the nearest version first."""
    if request.method == "POST":
        raise InvalidRequest("supervoxel-splits can only be read")

    def work() -> str:
        txn, view = request.txn, request.view
        parts = []
        for version in sorted(view.bounds, reverse=True):
            splits = mutationlog.splits(txn, request.instance.id, version, view)
            if splits:
                tuples = ",".join(f"[{','.join(map(str, split))}]" for split in splits)
                parts.append(f'"{txn.repo.graph.by_id[version].uuid}",[{tuples}]')
        return f"[{','.join(parts)}]"

    return raw_json(await request.in_thread(work))


async def get_history(request: NodeRequest) -> Any:
    """Answer the records of all that made a body what it is, the oldest first."""
    label = parse_label(request)
    if len(request.words) < 3:
        raise InvalidRequest(f"{request.path} needs a label, a first and a last version")
    versions, last = _line(request, *request.words[1:3])
    if not request.instance.versioned:
        versions = [1]
    view = request.txn.view(1 if not request.instance.versioned else last.id)

    txn, instance_id = request.txn, request.instance.id

    def work() -> str:
        texts = []
        for step in walk.of_body(txn, instance_id, label, view):
            if step.version in versions:
                uuid = txn.repo.graph.by_id[step.version].uuid
                texts += [*mutationlog.logged(step.entry, uuid)][::-1]
        return f"[{','.join(reversed(texts))}]"

    return raw_json(await request.in_thread(work))


async def get_map_stats(request: NodeRequest) -> Any:
    """Answer the size of the mappings of all labelmap instances of this server."""
    engine = request.engine
    request.finish()

    def work() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for stream, repo in engine.repos():
            txn = engine.store.begin_read(repo, stream.packs)
            try:
                for instance in repo.names.values():
                    if instance.typename == request.instance.typename:
                        found[instance.name] = mappinglist.statistics(txn, instance.id)
            finally:
                engine.store.finish_read(txn)
        return found

    return raw_json(gojson.dumps(await request.in_thread(work), sort_keys=True))


ENDPOINTS = {
    "GET map-stats": get_map_stats,
    "GET history": get_history,
    "GET mutations": get_mutations,
    "GET mutations-range": get_mutations_range,
    "GET supervoxel-splits": get_supervoxel_splits,
}
