"""Requests about bodies: mapping, merge, cleave, sizes, lists, counters; and all tables of this half.

Source: datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

from typing import Any

import numpy as np

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import (
    bodysets,
    counters,
    endpoints_history,
    endpoints_labels,
    mutationlog,
    surfaces,
)
from dvid_es.datatypes.labelmap.bodies import fold as folds
from dvid_es.datatypes.labelmap.bodies.commands import Cleave, Merge, PostMappings, Renumber
from dvid_es.datatypes.labelmap.bodies.requests import (
    indexed,
    parse_body,
    parse_label,
    reads_of,
)
from dvid_es.datatypes.labelmap.indices import cache as indexcache
from dvid_es.datatypes.labelmap.indices import endpoints as endpoints_indices
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.indices.posted import parse_mappings
from dvid_es.datatypes.labelmap.lineage import endpoints as endpoints_lineage
from dvid_es.datatypes.labelmap.mapping import listing as mappinglist
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import overlay
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.datatypes.labelmap.sparse import endpoints as endpoints_sparse
from dvid_es.datatypes.labelmap.svindex import posted_counts
from dvid_es.datatypes.labelmap.undo import endpoints as endpoints_undo
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.node import TEXT, HTTPResponse, NodeRequest, empty, octets, raw_json
from dvid_es.http.wire import parse_labels, parse_unsigned

LIST_MAX = 10_000_000
"""Most labels of one listlabels."""


def _array(labels: Any) -> str:
    return f"[{','.join(map(str, labels))}]"


# -- mutations -------------------------------------------------------------------------------


@indexed
async def post_merge(request: NodeRequest) -> Any:
    """Merge bodies: [target, body, body ...]."""
    labels = parse_labels(request.body)
    if len(labels) < 2:
        raise InvalidRequest("merge needs a list of the target and at least one other label")
    _check_label(labels[0])
    return raw_json(await request.write(Merge(labels[0], tuple(labels[1:]))))


@indexed
async def post_cleave(request: NodeRequest) -> Any:
    """Make a new body of some supervoxels of a body."""
    label = parse_label(request)
    if not request.body:
        raise InvalidRequest("no cleave supervoxels JSON was POSTed")
    return raw_json(await request.write(Cleave(label, tuple(parse_labels(request.body)))))


post_merge.quick_write = post_cleave.quick_write = True  # type: ignore[attr-defined]


async def post_renumber(request: NodeRequest) -> Any:
    """Give bodies other labels: [new, old, new, old ...]."""
    labels = parse_labels(request.body)
    if len(labels) % 2:
        raise InvalidRequest("renumber needs pairs of a new and an old label: this list is odd")
    pairs = tuple(zip(labels[::2], labels[1::2], strict=True))
    for new, _ in pairs:
        _check_label(new)
    if pairs:
        await request.write(Renumber(pairs))
    return empty()


def _check_label(label: int) -> None:
    """Refuse to map supervoxels to the one label that stands for no body."""
    if label > counters.LAST_LABEL:
        raise InvalidRequest(
            f"no body can have label {label}: the highest is {counters.LAST_LABEL}"
        )


# -- mapping ---------------------------------------------------------------------------------


async def get_mapping(request: NodeRequest) -> Any:
    """Answer the body of each supervoxel of a list."""
    svs = np.array(parse_body(request), np.uint64)
    verify = not request.flag("nolookup")
    labels = await request.in_thread(reads_of(request).mapped, svs, verify)
    return raw_json(_array(labels.tolist()))


async def refuse_mapping(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("Batch mapping query must be a GET request")


async def get_mappings(request: NodeRequest) -> Any:
    """Answer all entries of the mapping that say something else than identity."""
    txn, instance_id, view = request.txn, request.instance.id, request.view
    svs, labels = await request.in_thread(mappinglist.all_entries, txn, instance_id, view)
    request.finish()
    other = svs != labels
    pairs = np.stack([svs[other], labels[other]], axis=1).astype("<u8")
    if request.args.get("format") == "binary":
        return octets(pairs.tobytes())

    def lines() -> bytes:
        return "".join(f"{sv} {label}\n" for sv, label in pairs.tolist()).encode()

    if not len(pairs):
        return HTTPResponse(
            b"", 200, content_type=""
        )  # of no type, as DVID's, which has written nothing
    return HTTPResponse(await request.in_thread(lines), 200, content_type=TEXT)


async def post_mappings(request: NodeRequest) -> Any:
    """Set entries of the mapping."""
    svs, labels = await request.in_thread(parse_mappings, request.body)
    if len(svs) < mapruns.MIN_ENTRIES:
        await request.write(PostMappings(svs, labels))
        return empty()
    packs = request.stream.packs

    def store() -> PostMappings:
        refs = []
        for at in range(0, len(svs), mapruns.MAX_ENTRIES):
            part = slice(at, at + mapruns.MAX_ENTRIES)
            refs.append(packs.put(mapruns.build(svs[part], labels[part])))
        return PostMappings(svs[:0], labels[:0], tuple(refs))

    await request.write(await request.in_thread(store))
    return empty()


# -- sizes and lists -------------------------------------------------------------------------


async def get_size(request: NodeRequest) -> Any:
    """Answer the voxels of a body or a supervoxel."""
    size = reads_of(request).size(parse_label(request), request.flag("supervoxels"))
    if not size:
        raise NotFound("")
    return raw_json(f'{{"voxels": {size}}}')


async def get_sizes(request: NodeRequest) -> Any:
    """Answer the voxels of many bodies or supervoxels."""
    labels = np.array(parse_body(request), np.uint64)
    sizes = await request.in_thread(reads_of(request).sizes, labels, request.flag("supervoxels"))
    return raw_json(_array(sizes))


async def refuse_sizes(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("Batch sizes query must be a GET request")


async def get_supervoxels(request: NodeRequest) -> Any:
    """Answer the supervoxels of a body."""
    found = await request.in_thread(reads_of(request).chosen, parse_label(request), False)
    if found is None:
        raise NotFound("")
    return raw_json(_array(found[2].tolist()))


async def get_supervoxel_sizes(request: NodeRequest) -> Any:
    """Answer the supervoxels of a body and their voxels."""
    found = await request.in_thread(reads_of(request).supervoxel_sizes, parse_label(request))
    if found is None:
        raise NotFound("")
    svs, sizes = (_array(column.tolist()) for column in found)
    return raw_json(f'{{\n  "supervoxels": {svs},\n  "sizes": {sizes}\n}}')


async def get_lastmod(request: NodeRequest) -> Any:
    """Answer the last mutation of a body."""
    body = reads_of(request).body(parse_label(request))
    if body is None or not body.members:
        raise NotFound("")
    last = body.last
    user, app, time = (gojson.string(text) for text in (last.user, last.app, last.time))
    return raw_json(
        f'{{"mutation id": {last.mutation_id}, "last mod user": {user},'
        f' "last mod app": {app}, "last mod time": {time} }}'
    )


async def get_existing_labels(request: NodeRequest) -> Any:
    """Answer the labels of all bodies."""
    labels = await request.in_thread(reads_of(request).labels, 0, 1 << 62)
    return raw_json(_array(labels.tolist()))


async def get_listlabels(request: NodeRequest) -> Any:
    """Answer labels, and sizes if asked for, as little-endian words."""
    start = parse_unsigned(request.args.get("start") or "0", "start")
    number = parse_unsigned(request.args.get("number") or str(LIST_MAX), "number")
    sizes = request.flag("sizes")
    limit = min(number, LIST_MAX)
    return octets(await request.in_thread(reads_of(request).label_list, start, limit, sizes))


ENDPOINTS = {
    "POST merge": post_merge,
    "POST cleave": post_cleave,
    "POST renumber": post_renumber,
    "GET mapping": get_mapping,
    "* mapping": refuse_mapping,
    "GET mappings": get_mappings,
    "POST mappings": post_mappings,
    "GET size": get_size,
    "GET sizes": get_sizes,
    "* sizes": refuse_sizes,
    "GET supervoxels": get_supervoxels,
    "GET supervoxel-sizes": get_supervoxel_sizes,
    "GET lastmod": get_lastmod,
    "GET existing-labels": get_existing_labels,
    "GET listlabels": get_listlabels,
    **endpoints_labels.ENDPOINTS,
    **endpoints_indices.ENDPOINTS,
    **endpoints_sparse.ENDPOINTS,
    **endpoints_history.ENDPOINTS,
    **endpoints_lineage.ENDPOINTS,
    **endpoints_undo.ENDPOINTS,
}

FOLDS = {**folds.FOLDS, **endpoints_undo.FOLDS}

PROJECTIONS = {
    bodysets.BODIES: "bodies",
    bodysets.BASES: "body set bases",
    mapping.ENTRIES: "mapping entries",
    overlay.JOURNAL: "mapping journal",
    mapruns.RUNS: "mapping runs",
    surfaces.MOVES: "body moves",
    counters.COUNTERS: "label counters",
    mutationlog.MUTATIONS: "mutation records",
    overrides.OVERRIDES: "posted counts",
    posted_counts.POSTED: "posted indices",
    indexcache.LAST_CHANGE: "last change of the supervoxel index",
    **endpoints_lineage.PROJECTIONS,
    **endpoints_undo.PROJECTIONS,
}
"""Kinds of rows of this half, and their names."""
