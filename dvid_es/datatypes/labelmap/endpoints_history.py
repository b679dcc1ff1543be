"""Requests for what happened to bodies: records of mutations, of splits.

Source: handleMutations and GetMutationRange in datatype/labelmap (janelia-flyem/dvid).
"""

from typing import Any

from dvid_es.datatypes.labelmap import mutationlog
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, raw_json
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
    return raw_json(await request.in_thread(_records, request, [version], version))


async def get_mutations_range(request: NodeRequest) -> Any:
    """Answer the records from one version back to an earlier one, along first parents."""
    if len(request.words) < 2:
        raise InvalidRequest(f"{request.path} needs a first and a last version")
    first, last = (_version(request, spec) for spec in request.words[:2])
    line = request.repo.graph.first_parents(last.id)
    if first.id not in line:
        raise InvalidRequest(
            f"version {first.uuid} is not {last.uuid} or among its first parents: give the earlier"
            " version first"
        )
    versions = line[: line.index(first.id) + 1]
    return raw_json(await request.in_thread(_records, request, versions, last.id))


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


ENDPOINTS = {
    "GET mutations": get_mutations,
    "GET mutations-range": get_mutations_range,
    "GET supervoxel-splits": get_supervoxel_splits,
}
