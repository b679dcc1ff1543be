"""The two jobs: to check an instance, and to put a part of it right from the log."""

from pathlib import Path
from typing import Any

from dvid_es.datatypes.labelmap.fsck import bodies, voxels
from dvid_es.datatypes.labelmap.fsck.findings import Findings
from dvid_es.datatypes.labelmap.fsck.state import State
from dvid_es.datatypes.labelmap.indices.cache import CACHE
from dvid_es.datatypes.labelmap.mapping.overlay import forget
from dvid_es.engine import Engine
from dvid_es.jobs import Job
from dvid_es.replay.repair import Choose, repair
from dvid_es.streams import Stream


def check(state: State, deep: bool, job: Job) -> dict[str, Any]:
    """Check an instance at a version and return what was found; `deep` reads all voxels too."""
    findings = Findings()
    coords = voxels.block_coords(state)
    lower = voxels.lower_coords(state) if deep else []
    job.total = len(coords) + sum(map(len, lower)) + 1
    job.check()
    voxels.check_blocks(state, coords, findings, deep, job.advance)
    for scale, some in enumerate(lower, 1):
        voxels.check_lower(state, scale, some, findings, job.advance)
    bodies.check_bodies(state, findings, job.advance)
    return {"sequence": state.sequence, **findings.result()}


def put_right(
    engine: Engine, stream: Stream, choose: Choose, data: Path, job: Job
) -> dict[str, Any]:
    """Make chosen rows what the log says, in the running server; return how many were wrong."""

    def progress(_: str, done: int, total: int) -> None:
        job.total = total
        job.advance(done - job.done)

    scratch = data / f"projections.repair-{stream.root}"
    wrong = repair(engine.store, stream, engine.projector, choose, scratch, progress)
    if wrong:
        # What was read from these rows before is remembered in places that follow events only.
        forget(stream.packs)
        CACHE.clear()
    return {"rows": wrong}
