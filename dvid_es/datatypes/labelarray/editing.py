"""Edits of labels, prepared side by side in threads and then queued; for labelarray and labelvol."""

import json
from collections.abc import Awaitable, Callable

import numpy as np

from dvid_es.commands import Command
from dvid_es.datatypes.labelarray import edits, requests
from dvid_es.datatypes.labelarray.commands import (
    MergeLabels,
    Rewritten,
    SplitLabel,
    check_label,
)
from dvid_es.datatypes.labelarray.edits import Coords, Cover, Edit, Found, Labels, Outdated, Relabel
from dvid_es.datatypes.labelarray.requests import VOXELS_MAX, Runs
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.commands_labels import ReserveLabels
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import ingest, prepare
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest

TRIES = 16
"""How often an edit is prepared while other writes change what it is made from."""

TASK_BLOCKS = 16
"""Blocks of one task."""

AHEAD_BLOCKS = 4096
"""Edits of more blocks do not keep them in memory to make the lower scales ahead of the event."""

Make = Callable[[int], Awaitable[Command]]
"""Prepares a command; given a label that was reserved for it, or 0."""

Derive = Callable[[NodeRequest, Coords, list[Prepared], list[Bulk]], Awaitable[None]]
"""Makes what follows from edited blocks ahead of their event; its transaction may end."""


async def write_edit(request: NodeRequest, make: Make) -> bytes:
    """Prepare an edit and have it decided; again while other writes come between.

    Where others take new labels all the time, one is reserved, so that a long preparation ends.
    """
    reserved, problem = 0, Outdated()
    for _ in range(TRIES):
        command = await make(reserved)
        try:
            return await request.write(command)
        except Outdated as outdated:
            problem = outdated
        plain = request.args.get("dryrun") != "true" and not request.raw.headers.get(
            "idempotency-key"
        )
        if problem.labels and plain and not reserved:
            answer = await request.write(ReserveLabels(1))
            reserved = json.loads(answer)["start"]
    raise problem


async def derive_scales(
    request: NodeRequest, coords_zyx: Coords, prepared: list[Prepared], stored: list[Bulk]
) -> None:
    """Make the lower scales of a labelarray, for the fold of the event to find them."""
    shape, levels = block_shape(request.instance), request.instance.settings["MaxDownresLevel"]
    await ingest.derive_ahead(request, coords_zyx, prepared, stored, shape, levels)


async def rewrite(
    request: NodeRequest, found: Found, edit: Edit, derive: Derive | None = None
) -> Rewritten:
    """Edit all blocks, and make what follows from them."""
    request.finish()  # a reader kept open meanwhile would hold back the pages of the store
    packs, shape = request.stream.packs, block_shape(request.instance)
    n = len(found.coords_zyx)
    ahead = derive is not None and n <= AHEAD_BLOCKS

    def make(start: int, stop: int) -> list[tuple[Prepared, Bulk]]:
        made = edits.make(packs, found, edit, shape, start, stop)
        kept = ingest.put_stored(packs, made)
        if not ahead:
            made = [one._replace(block=b"", stored=b"") for one in made]
        return list(zip(made, kept, strict=True))

    parts = await in_threads(request, make, spans(n, TASK_BLOCKS))
    pairs = [pair for part in parts for pair in part]
    prepared, stored = [one for one, _ in pairs], [bulk for _, bulk in pairs]

    def keep() -> list[Bulk]:
        coords = found.coords_zyx.astype("<i4").tobytes()
        counts = prepare.counts_bytes(prepare.join_counts(prepared)) if prepared else b""
        return [keep_bulk(request, value) for value in (coords, counts)]

    coords, counts = await request.in_thread(keep)
    if derive is not None and ahead:
        await derive(request, found.coords_zyx, prepared, stored)
    return Rewritten(
        found=found, coords=coords, blocks=tuple(stored), counts=counts, shape_zyx=shape
    )


def keep_bulk(request: NodeRequest, value: bytes) -> Bulk:
    """Return bytes as an event holds them: long ones are put into a pack."""
    return value if len(value) <= INLINE_BYTES_MAX else request.stream.packs.put(value)


async def merge(request: NodeRequest, derive: Derive | None) -> None:
    """Merge the labels of a body `[target, label, label ...]`.

    Raises:
        InvalidRequest: it cannot be; nothing has changed.
    """
    target, labels = requests.parse_merge(request.body)

    async def make(_: int) -> MergeLabels:
        txn, view, instance_id = request.txn, request.view, request.instance.id
        found = await request.in_thread(edits.find_labels, txn, instance_id, view, labels)
        made = await rewrite(request, found, Relabel(labels, target), derive)
        return MergeLabels(target=target, labels=labels, made=made)

    await write_edit(request, make)


async def split(
    request: NodeRequest, label: int, derive: Derive | None, *, coarse: bool, strict: bool
) -> bytes:
    """Split voxels, or all voxels in some blocks, off a label.

    Args:
        request: its body has the runs.
        label: the one that loses them.
        derive: makes what follows from the edited blocks.
        coarse: whether runs are of blocks.
        strict: whether all runs must be of the label; otherwise other voxels stay as they are.

    Returns:
        The answer: JSON with the label that these voxels have now.

    Raises:
        InvalidRequest: it cannot be; nothing has changed.
    """
    chosen = requests.parse_split_label(request, label)
    runs = await request.in_thread(requests.parse_runs, request.body, not strict)
    posted = await request.in_thread(keep_bulk, request, runs.posted)
    old = np.array([label], np.uint64)

    async def make(reserved: int) -> SplitLabel:
        txn, view, instance_id = request.txn, request.view, request.instance.id
        check_label(txn, instance_id, view, label)
        new = chosen or reserved or counters.allocate(txn, instance_id)[0]
        prepare_blocks = _prepare_coarse if coarse else _prepare_fine
        made = await prepare_blocks(request, old, new, runs, strict, derive)
        return SplitLabel(
            label=label,
            new_label=new,
            given=not chosen,
            reserved=bool(reserved),
            runs=posted,
            coarse=coarse,
            made=made,
        )

    return await write_edit(request, make)


async def _prepare_coarse(
    request: NodeRequest,
    old: Labels,
    new: int,
    runs: Runs,
    strict: bool,
    derive: Derive | None,
) -> Rewritten:
    txn, view, instance_id = request.txn, request.view, request.instance.id

    def find() -> Found:
        found = edits.find_labels(txn, instance_id, view, old)
        return requests.blocks_under(runs, found)

    found = await request.in_thread(find)
    n = len(found.coords_zyx)
    if n == 0 or (strict and n < runs.covered):
        raise InvalidRequest(
            f"cannot split label {old[0]}: it is in {n} of the {runs.covered} blocks to be split off"
        )
    return await rewrite(request, found, Relabel(old, new), derive)


async def _prepare_fine(
    request: NodeRequest,
    old: Labels,
    new: int,
    runs: Runs,
    strict: bool,
    derive: Derive | None,
) -> Rewritten:
    txn, view, instance_id = request.txn, request.view, request.instance.id
    shape, label = block_shape(request.instance), int(old[0])

    def find() -> tuple[Found, Cover]:
        found = edits.find_labels(txn, instance_id, view, old)
        enough = max(VOXELS_MAX, edits.voxels_of(txn, instance_id, label, view))
        clipped = requests.near(runs, found.coords_zyx, shape, enough)
        cover = Cover(clipped, shape, label, new)
        return found.only(cover.coords_zyx), cover

    found, cover = await request.in_thread(find)
    made = await rewrite(request, found, cover, derive)
    changed = sum(cover.changed)
    if changed == 0 or (strict and changed < runs.covered):
        raise InvalidRequest(
            f"cannot split label {label}: {changed} of the {runs.covered} voxels to be split off"
            " are its own"
        )
    return made
