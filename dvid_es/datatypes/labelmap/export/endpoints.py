"""Requests for exports: POST export begins a job, GET fvdb answers a grid at once.

Source: handleFVDB in datatype/labelmap/fvdb.go, and the commands fvdb and export-shards of
datatype/labelmap/labelmap.go (janelia-flyem/dvid).
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from dvid_es.datatypes.labelmap.bodies.reads import BodyReads
from dvid_es.datatypes.labelmap.bodies.requests import indexed, parse_label
from dvid_es.datatypes.labelmap.export import bodygrid, precomputed, shards
from dvid_es.datatypes.labelmap.export.bodygrid import Wanted
from dvid_es.datatypes.labelmap.export.folders import Destination
from dvid_es.datatypes.labelmap.export.nanovdb import LAYOUTS, NAME_BYTES
from dvid_es.datatypes.labelmap.export.precomputed import Level, levels_of
from dvid_es.datatypes.labelmap.export.source import Source
from dvid_es.datatypes.labelmap.instance_settings import MAX_SCALE
from dvid_es.datatypes.labelmap.voxels.requests import parse_scale
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.answers import send_whole
from dvid_es.http.jobs import accepted
from dvid_es.http.node import NodeRequest
from dvid_es.http.wire import parse_json_object
from dvid_es.jobs import Job

CHUNKS_MAX = 1 << 36
"""Of all grids of an export: beyond it, extents say something else than where voxels are."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}\Z")
_HEADER_TEXT = re.compile(r'[^"\\\x00-\x1f\x7f]{1,255}\Z')


class Plan(NamedTuple):
    """What the body of a request comes to."""

    options: dict[str, Any]
    """Kept in the folder: an export is only taken up again with the same ones."""

    work: Callable[[Job, Source, Destination], Any]
    folder: str
    """Name of the folder unless the request names one."""


async def post_export(request: NodeRequest) -> Any:
    """Begin an export."""
    kind = "/".join(word for word in request.words if word)
    planner = _PLANNERS.get(kind)
    if planner is None:
        raise InvalidRequest(f'there is no export "{kind}": use one of {", ".join(_PLANNERS)}')
    given = parse_json_object(request.body) if request.body.strip() else {}
    source = Source.of(request)
    made = planner(request, source, given)
    plan: Plan = made if isinstance(made, Plan) else await made
    name = _take(
        given, "folder", str, f"{request.instance.name}-{request.version.uuid[:8]}-{plan.folder}"
    )
    if given:
        raise InvalidRequest(f"unknown options of an export: {', '.join(sorted(given))}")
    settings = request.server.settings
    root = settings.export_root or settings.data / "exports"
    destination = Destination.named(root, name, settings.export_keep_free_bytes)
    manifest: dict[str, Any] = {
        "export": kind,
        "repo": request.repo.root,
        "version": request.version.uuid,
        "instance": request.instance.name,
        "data": request.instance.data_uuid,
        "options": plan.options,
    }
    earlier = await request.in_thread(destination.manifest)
    if earlier is not None:
        source = Source.of(request, _taken_up(destination, earlier, manifest, request))
    manifest["sequence"] = source.sequence
    request.finish()

    def work(job: Job) -> dict[str, Any]:
        destination.begin({**manifest, "finished": False})
        result = dict(plan.work(job, source, destination))
        destination.write_json("export.json", {**manifest, "finished": True, "result": result})
        return {**result, "folder": str(destination.folder)}

    about = {**manifest, "folder": str(destination.folder)}
    del about["export"]
    job = request.engine.jobs.submit(f"export {kind}", about, work, str(destination.folder))
    return accepted(job)


def _taken_up(
    destination: Destination,
    earlier: dict[str, Any],
    manifest: dict[str, Any],
    request: NodeRequest,
) -> int:
    """Return the sequence of an export that was interrupted.

    Raises:
        InvalidRequest: it was finished, or is another one.
    """
    if earlier.get("finished"):
        raise InvalidRequest(f"{destination.folder} holds a finished export: name another folder")
    kept = {name: earlier.get(name) for name in manifest}
    sequence = earlier.get("sequence")
    assert request.sequence is not None
    if kept != manifest or type(sequence) is not int or not 0 <= sequence <= request.sequence:
        raise InvalidRequest(
            f"{destination.folder} holds an unfinished export of something else: name another folder,"
            " or ask for the same to have it finished"
        )
    if "at" in request.args and request.view.sequence != sequence:
        raise InvalidRequest(
            f"{destination.folder} holds an unfinished export as of sequence {sequence}"
        )
    return sequence


def _take(given: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """Take an option out of the body of a request."""
    value = given.pop(name, default)
    if type(value) is not kind and value is not default:
        shown = {str: "a text", int: "a whole number", bool: "true or false"}[kind]
        raise InvalidRequest(f"{name} must be {shown}")
    return value


def _take_number(given: dict[str, Any], name: str, default: Any, least: int, most: int) -> Any:
    value = _take(given, name, int, default)
    if value is not default and not least <= value <= most:
        raise InvalidRequest(f"{name} must be {least} to {most}, not {value}")
    return value


def _limit(levels: list[Level]) -> None:
    chunks = sum(level.chunks for level in levels)
    if chunks > CHUNKS_MAX:
        raise InvalidRequest(
            f"the extents come to {chunks} chunks, more than {CHUNKS_MAX}: POST extents that are true"
        )


# -- kinds -----------------------------------------------------------------------------------


def plan_precomputed(request: NodeRequest, source: Source, given: dict[str, Any]) -> Plan:
    """Return what to do for POST export/precomputed."""
    del request
    scales = _take_number(given, "scales", None, 1, MAX_SCALE + 1)
    supervoxels = _take(given, "supervoxels", bool, False)
    _limit(levels_of(source.scales()[:scales]))
    return Plan(
        {"scales": scales, "supervoxels": supervoxels},
        partial(precomputed.export, scales=scales, supervoxels=supervoxels),
        "supervoxels" if supervoxels else "precomputed",
    )


def plan_shards(request: NodeRequest, source: Source, given: dict[str, Any]) -> Plan:
    """Return what to do for POST export/shards."""
    del request
    scales = _take_number(given, "scales", None, 1, MAX_SCALE + 1)
    batch = _take_number(given, "batch_size", 1, 1, shards.BATCH_BLOCKS_MAX)
    spec = given.pop("spec", None)
    _limit(shards.levels_of(source, spec, scales))
    return Plan(
        {"scales": scales, "batch_size": batch, "spec": spec},
        partial(shards.export, spec=spec, scales=scales, batch_blocks=batch),
        "shards",
    )


@indexed
async def _need_index(request: NodeRequest) -> None:
    del request


async def plan_nanovdb(request: NodeRequest, source: Source, given: dict[str, Any]) -> Plan:
    """Return what to do for POST export/nanovdb."""
    await _need_index(request)
    label = _take_number(given, "label", None, 1, 2**64 - 1)
    if label is None:
        raise InvalidRequest('name the body: {"label": <number>}')
    supervoxel = _take(given, "supervoxels", bool, False)
    scale = _take_number(given, "scale", 0, 0, MAX_SCALE)
    name = _take(given, "name", str, f"label_{label}")
    if not _FILE_NAME.match(name) or name.endswith(".new"):
        raise InvalidRequest(
            f'name "{name}" cannot be a file: use letters, digits, ".", "_" and "-"'
        )
    reads = BodyReads(request.txn, request.instance.id, request.view)
    if await request.in_thread(reads.chosen, label, supervoxel) is None:
        raise NotFound(f"there is no {'supervoxel' if supervoxel else 'body'} {label}")
    wanted = Wanted(label, supervoxel, scale, name, "nanovdb")
    options = {"label": label, "supervoxels": supervoxel, "scale": scale, "name": name}
    return Plan(options, partial(bodygrid.export, wanted=wanted), f"{name}-s{scale}")


_PLANNERS: dict[str, Callable[..., Any]] = {
    "precomputed": plan_precomputed,
    "shards": plan_shards,
    "nanovdb": plan_nanovdb,
}


# -- fvdb ------------------------------------------------------------------------------------


@indexed
async def get_fvdb(request: NodeRequest) -> Any:
    """Answer the voxels of a body as a NanoVDB index grid."""
    label = parse_label(request)
    name = request.args.get("name") or f"label_{label}"
    if not _HEADER_TEXT.match(name) or len(name.encode()) > NAME_BYTES:
        raise InvalidRequest(f"name must have 1 to {NAME_BYTES} bytes, no quote and no backslash")
    layout = request.args.get("layout") or "nanovdb"
    if layout not in LAYOUTS:
        raise InvalidRequest(f'unknown layout "{layout}": use one of {", ".join(LAYOUTS)}')
    scale = parse_scale(request)
    wanted = Wanted(label, request.flag("supervoxels"), scale, name, layout)
    source = Source.of(request)
    request.finish()
    parts = await request.in_thread(bodygrid.build, source, wanted)
    headers = {"Content-Disposition": f'attachment; filename="{name}.nvdb"'}
    return await send_whole(request, *parts, headers=headers)


ENDPOINTS = {"POST export": post_export, "GET fvdb": get_fvdb}

READS = frozenset({"POST export"})
"""Exports change no data: committed versions allow them."""
