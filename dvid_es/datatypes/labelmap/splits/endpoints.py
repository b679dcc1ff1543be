"""Requests to split supervoxels and bodies: prepared side by side in threads, then queued.

Source: handleSplitSupervoxel and handleSplit in datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.commands_labels import ReserveLabels
from dvid_es.datatypes.labelmap.bodies.requests import indexed, parse_label
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.splits import splitting
from dvid_es.datatypes.labelmap.splits.commands import (
    Rewritten,
    SplitBody,
    SplitSupervoxel,
    need_allowed,
)
from dvid_es.datatypes.labelmap.splits.splitting import Found, Outdated, Parts, Rewriter, Runs
from dvid_es.datatypes.labelmap.voxels import ingest, prepare
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest, raw_json
from dvid_es.http.wire import parse_unsigned

Labels = NDArray[np.uint64]
Command = SplitSupervoxel | SplitBody

TRIES = 16
"""How often a split is prepared while other writes change what it is made from."""

TASK_BLOCKS = 8
"""Blocks of one task."""

AHEAD_BLOCKS = 4096
"""Splits of more blocks do not keep them in memory to make the lower scales ahead of the event."""


@indexed
async def post_split_supervoxel(request: NodeRequest) -> Any:
    """Make two supervoxels of one."""
    sv = parse_label(request)
    split, remain = (
        parse_unsigned(request.args.get(name) or "0", name) for name in ("split", "remain")
    )
    downres = request.args.get("downres") != "false"
    runs = await request.in_thread(splitting.read_runs, request.body)

    async def prepared(reserved: int) -> SplitSupervoxel:
        return await _prepare_supervoxel(request, sv, (split, remain), runs, downres, reserved)

    return raw_json(await _write(request, prepared, lambda _: 2))


async def post_split(request: NodeRequest) -> Any:
    """Make a new body of voxels of another one."""
    need_allowed(request.server.settings.allow_split)
    label = parse_label(request)
    runs = await request.in_thread(splitting.read_runs, request.body)

    async def prepared(reserved: int) -> SplitBody:
        return await _prepare_body(request, label, runs, reserved)

    def count(command: Any) -> int:
        return 1 + 2 * len(command.supervoxels)

    return raw_json(await _write(request, prepared, count))


async def refuse(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("splits can only be POSTed")


async def _write(
    request: NodeRequest,
    prepared: Callable[[int], Awaitable[Command]],
    count: Callable[[Any], int],
) -> bytes:
    """Prepare and have it decided; again while other writes come between.

    Where others take new labels all the time, some are reserved, so that a long preparation ends.
    """
    reserved, problem = 0, Outdated()
    for _ in range(TRIES):
        command = await prepared(reserved)
        try:
            return await request.write(command)
        except Outdated as outdated:
            problem = outdated
        plain = request.args.get("dryrun") != "true" and not request.raw.headers.get(
            "idempotency-key"
        )
        if problem.labels and plain:
            answer = await request.write(ReserveLabels(count(command)))
            reserved = json.loads(answer)["start"]
    raise problem


async def _prepare_supervoxel(
    request: NodeRequest,
    sv: int,
    chosen: tuple[int, int],
    runs: Runs,
    downres: bool,
    reserved: int,
) -> SplitSupervoxel:
    """Return the command, its blocks rewritten and kept."""
    txn, view, instance_id = request.txn, request.view, request.instance.id
    found = await request.in_thread(splitting.find_supervoxel, txn, instance_id, view, sv)
    splitting.check_size(runs, found.voxels, f"supervoxel {sv}")
    split, remain = chosen
    if reserved:
        parts = Parts(split or reserved, remain or reserved + 1, reserved + 1, max(chosen))
    else:
        parts = splitting.label_parts(txn, instance_id, view, split, remain)
    whole = await request.in_thread(splitting.cut, runs, block_shape(request.instance))
    outside = splitting.places_in(whole.coords_zyx, found.coords_zyx) < 0
    if outside.any():
        z, y, x = whole.coords_zyx[outside][0].tolist()
        raise InvalidRequest(
            f"cannot split supervoxel {sv}: it has no voxels in block ({x}, {y}, {z}), where some"
            " are to be split off"
        )
    svs, splits, remains = (
        np.array([label], np.uint64) for label in (sv, parts.split, parts.remain)
    )
    rewriter = Rewriter(request.stream.packs, found, whole, svs, splits, remains, exact=True)
    return SplitSupervoxel(
        supervoxel=sv,
        split=split,
        remain=remain,
        voxels=runs.voxels,
        found=found,
        parts=parts,
        reserved=bool(reserved),
        made=await _rewrite(request, rewriter, found, runs, downres),
    )


async def _prepare_body(request: NodeRequest, label: int, runs: Runs, reserved: int) -> SplitBody:
    """Return the command, its blocks rewritten and kept."""
    txn, view, instance_id = request.txn, request.view, request.instance.id
    body = splitting.find_body(txn, instance_id, view, label)
    splitting.check_size(runs, body.voxels, f"body {label}")
    whole = await request.in_thread(splitting.cut, runs, block_shape(request.instance))
    surveyed = await request.in_thread(splitting.find_blocks, txn, instance_id, view, whole)
    posted = await request.in_thread(splitting.cut_as_posted, runs, block_shape(request.instance))
    packs = request.stream.packs
    tasks = [(packs, surveyed, posted, *span) for span in spans(len(whole.coords_zyx), TASK_BLOCKS)]
    lists = await in_threads(request, splitting.survey, tasks)
    met = list(dict.fromkeys(sv for svs in lists for sv in svs))
    if not met:
        raise InvalidRequest(
            f"cannot split body {label}: all voxels to be split off are background"
        )
    svs = np.array(met, np.uint64)
    found = await request.in_thread(splitting.find_members, txn, instance_id, view, label, svs)
    first = reserved or counters.allocate(txn, instance_id, 1 + 2 * len(svs))[0]
    splits, remains = splitting.numbered(first, len(svs))
    order = np.argsort(svs)
    rewriter = Rewriter(packs, found, whole, svs[order], splits[order], remains[order], exact=False)
    return SplitBody(
        body=label,
        supervoxels=svs,
        surveyed=tuple(surveyed),
        cut=whole,
        found=found,
        first=first,
        reserved=bool(reserved),
        made=await _rewrite(request, rewriter, found, runs, True),
    )


async def _rewrite(
    request: NodeRequest, rewriter: Rewriter, found: Found, runs: Runs, downres: bool
) -> Rewritten:
    """Rewrite all blocks, and make the lower scales for the fold to find them."""
    packs, shape = request.stream.packs, block_shape(request.instance)
    levels = request.instance.settings["MaxDownresLevel"] if downres else 0
    n = len(found.coords_zyx)
    ahead = levels and n <= AHEAD_BLOCKS

    def make(start: int, stop: int) -> list[tuple[Prepared, Bulk]]:
        made = rewriter.make(start, stop)
        kept = ingest.put_stored(packs, made)
        if not ahead:
            made = [one._replace(block=b"", stored=b"") for one in made]
        return list(zip(made, kept, strict=True))

    pairs = [
        pair for part in await in_threads(request, make, spans(n, TASK_BLOCKS)) for pair in part
    ]
    prepared, stored = [one for one, _ in pairs], [bulk for _, bulk in pairs]

    def keep() -> list[Bulk]:
        coords = found.coords_zyx.astype("<i4").tobytes()
        counts = prepare.counts_bytes(prepare.join_counts(prepared))
        values = (runs.posted, coords, counts)
        return [value if len(value) <= INLINE_BYTES_MAX else packs.put(value) for value in values]

    posted, coords, counts = await request.in_thread(keep)
    if ahead:
        await ingest.derive_ahead(request, found.coords_zyx, prepared, stored, shape, levels)
    return Rewritten(
        runs=posted,
        coords=coords,
        blocks=tuple(stored),
        counts=counts,
        shape_zyx=shape,
        downres=downres,
    )


ENDPOINTS = {
    "POST split-supervoxel": post_split_supervoxel,
    "* split-supervoxel": refuse,
    "POST split": post_split,
    "* split": refuse,
}
