"""`/api/node/<uuid>/<action>` and the making of versions, also of several parents."""

from sanic.response import HTTPResponse

from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, empty, raw_json
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.projections.catalog import checkpoint, sequence_of_mutation
from dvid_es.projections.txn import ReadTxn
from dvid_es.repos.asking import hooks, json_answer, may_change_locked, write_to_repo
from dvid_es.repos.bodies import Body, string_map, texts_map
from dvid_es.repos.merging import (
    Found,
    MergeVersions,
    ResolveVersions,
    Settled,
    conflicts_at,
    conflicts_json,
    find_conflicts,
    settle,
)
from dvid_es.repos.moments import parse_time, sequence_at_time
from dvid_es.repos.versioning import AppendLog, Commit, NewVersion, SetNote, Tag


def get_note(request: NodeRequest) -> HTTPResponse:
    """GET note: the note of a version."""
    request.sequence = request.repo.sequence
    return json_answer({"note": request.version.note})


async def post_note(request: NodeRequest) -> HTTPResponse:
    """POST note {"note"}: replace the note of a version."""
    note = string_map(request.body).get("note")
    if note is None:
        raise InvalidRequest("Could not find 'note' value in POSTed JSON.")
    await request.write(SetNote(note=note, unlocked=may_change_locked(request)))
    return empty()


def get_log(request: NodeRequest) -> HTTPResponse:
    """GET log: the lines of a version's log."""
    request.sequence = request.repo.sequence
    return json_answer({"log": request.version.log})


async def post_log(request: NodeRequest) -> HTTPResponse:
    """POST log {"log"}: append lines to the log of a version."""
    lines = texts_map(request.body).get("log")
    if lines is None:
        raise InvalidRequest("Could not find 'log' value in POSTed JSON.")
    await request.write(AppendLog(lines=lines, unlocked=may_change_locked(request)))
    return empty()


def get_status(request: NodeRequest) -> HTTPResponse:
    """Whether a version is committed."""
    request.sequence = request.repo.sequence
    return json_answer({"Locked": request.version.locked})


async def post_commit(request: NodeRequest) -> HTTPResponse:
    """POST commit {"note", "log"}: lock a version for good. DVID wants a body, if only {}."""
    body = Body(request.body)
    command = Commit(note=body.text("note") or "", lines=body.texts("log") or ())
    return raw_json(await request.write(command))


async def post_newversion(request: NodeRequest) -> HTTPResponse:
    """POST newversion {"note", "uuid"}: make a child on the branch of its parent."""
    return await _new_version(request, Body(request.body), None)


async def post_branch(request: NodeRequest) -> HTTPResponse:
    """POST branch {"branch", "note", "uuid", "at"}: make a child on a branch of its own.

    With "at", a sequence, a mutation id or a time such as "2026-05-01T12:00:00Z", the child sees all data
    as they were then, and its parent may be open. Without a name it is a new version, as clients older
    than DVID's check expect.
    """
    body = Body(request.body)
    branch = body.text("branch")
    if branch in ("", "master"):
        raise InvalidRequest("Cannot create a master branch")
    return await _new_version(request, body, branch)


async def _new_version(request: NodeRequest, body: Body, branch: str | None) -> HTTPResponse:
    command = NewVersion(
        uuid=body.text("uuid") or request.engine.clock.new_uuid(),
        branch=branch,
        note=body.text("note") or "",
        at=await _moment(request, body),
    )
    return raw_json(await request.write(command))


async def _moment(request: NodeRequest, body: Body) -> int | None:
    """Return the sequence that "at" names by number, mutation id or time; None if it is not there."""
    wanted = body.number_or_text("at")
    if wanted is None:
        return None
    if isinstance(wanted, str) and not (wanted.isascii() and wanted.isdigit()):
        time_ns = parse_time(wanted)
        if time_ns is None:
            raise InvalidRequest(
                f'"at" is "{wanted}": it must be a sequence, a mutation id, or a time such as'
                " 2026-05-01T12:00:00Z"
            )
        end = request.repo.sequence + 1
        return await request.in_thread(sequence_at_time, request.stream.log, end, time_ns)
    number = int(wanted)
    return sequence_of_mutation(request.txn, number) if number >= FIRST_MUTATION_ID else number


async def post_tag(request: NodeRequest) -> HTTPResponse:
    """POST tag {"tag", "note"}: make a committed child whose UUID is the tag."""
    body = Body(request.body)
    command = Tag(tag=body.text("tag") or "", note=body.text("note") or "")
    return raw_json(await request.write(command))


async def post_merge(request: NodeRequest) -> HTTPResponse:
    """POST merge {"mergeType", "parents", "note", "branch", "uuid"}: make a version of several.

    The answer tells of what they disagree about, unless `?conflicts=false` saves looking for it.
    """
    body = Body(request.body, empty=False)
    parents = _parents(request, body)
    if body.text("mergetype") != "conflict-free":
        raise InvalidRequest("'mergeType' must be 'conflict-free' at this time")
    uuid, note, branch = _child(request, body)
    found = await _found(request, parents, frozenset())
    command = MergeVersions(uuid=uuid, parents=parents, note=note, branch=branch, found=found)
    return raw_json(await write_to_repo(request, command))


async def post_resolve(request: NodeRequest) -> HTTPResponse:
    """POST resolve {"data", "parents", "note", "branch", "uuid"}: merge; the first parent wins.

    Where parents disagree about a value of these instances, the merged version gets that of the first
    parent that has one of them.
    """
    body = Body(request.body, empty=False)
    names = body.texts("data") or ()
    if not names:
        raise InvalidRequest("Must specify at least one data instance using 'data' field")
    parents = _parents(request, body)
    resolvers = hooks(request, "resolve")
    instances = []
    for name in dict.fromkeys(names):
        instance = request.repo.names.get(name)
        if instance is None:
            raise InvalidRequest(f'invalid data instance name "{name}"')
        if instance.versioned and instance.typename not in resolvers:
            raise InvalidRequest(
                f'conflicts of data "{name}" of type {instance.typename} cannot be resolved:'
                " merge, and write what they shall be"
            )
        instances.append(instance.id)
    uuid, note, branch = _child(request, body)
    numbers = tuple(instances)
    settled = None
    if _mergeable(request, parents):
        settled = await request.in_thread(_settle, request.txn, parents, numbers, resolvers)
    command = ResolveVersions(
        uuid=uuid,
        parents=parents,
        instances=numbers,
        hooks=resolvers,
        note=note,
        branch=branch,
        settled=settled,
        found=await _found(request, parents, frozenset(numbers)),
    )
    return raw_json(await write_to_repo(request, command))


def _settle(txn: ReadTxn, parents, numbers, resolvers) -> Settled:  # type: ignore[no-untyped-def]
    return settle(txn, checkpoint(txn), parents, numbers, resolvers)


async def get_conflicts(request: NodeRequest) -> HTTPResponse:
    """GET conflicts: what parents disagree about and this version cannot read, by instance."""
    found = await request.in_thread(
        conflicts_at,
        request.txn,
        request.repo.graph,
        request.version.id,
        list(request.repo.names.values()),
        hooks(request, "conflicts"),
    )
    return raw_json(conflicts_json(found))


def _parents(request: NodeRequest, body: Body) -> tuple[int, ...]:
    specs = body.texts("parents") or ()
    if len(specs) < 2:
        raise InvalidRequest("Must specify at least two parent UUIDs using 'parents' field")
    found = []
    for spec in specs:
        try:
            stream, _, version = request.engine.resolve(spec)
        except InvalidRequest as problem:
            raise InvalidRequest(f'can\'t match parent "{spec}": {problem}') from None
        if stream.root != request.stream.root:
            raise InvalidRequest(f'can\'t merge parent "{spec}": it is of another repository')
        found.append(version.id)
    return tuple(found)


def _child(request: NodeRequest, body: Body) -> tuple[str, str, str]:
    uuid = body.text("uuid") or request.engine.clock.new_uuid()
    return uuid, body.text("note") or "", body.text("branch") or ""


def _mergeable(request: NodeRequest, parents: tuple[int, ...]) -> bool:
    """Return whether it is worth looking at data: the decision refuses other merges."""
    versions = [request.repo.graph.by_id.get(ordinal) for ordinal in parents]
    return len(set(parents)) == len(parents) and all(v is not None and v.locked for v in versions)


async def _found(
    request: NodeRequest, parents: tuple[int, ...], settled: frozenset[int]
) -> tuple[Found, ...]:
    if not _mergeable(request, parents) or request.args.get("conflicts") == "false":
        return ()
    asked = [item for item in request.repo.names.values() if item.id not in settled]
    finders = hooks(request, "conflicts")
    return tuple(await request.in_thread(find_conflicts, request.txn, parents, asked, finders))
