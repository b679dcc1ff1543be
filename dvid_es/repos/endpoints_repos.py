"""`/api/repos` and `/api/repo/<uuid>`: making, describing, deleting repositories and instances."""

import hashlib
from typing import Any

from sanic.response import HTTPResponse

from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.configuration import Configuration, parse_tags, parse_versioned
from dvid_es.http.node import NodeRequest, empty, raw_json
from dvid_es.http.wire import parse_json_object
from dvid_es.repos.asking import (
    check_admin_if_any,
    check_deletion,
    json_answer,
    may_change_locked,
    passcode_digest,
    stores,
    takes_words,
    write_to_repo,
)
from dvid_es.repos.bodies import Body, texts_map
from dvid_es.repos.commands import (
    AppendRepoLog,
    CreateRepo,
    DeleteRepo,
    DescribeRepo,
    PurgeRepo,
    RestoreRepo,
    check_uuid,
)
from dvid_es.repos.documents import repo_document
from dvid_es.repos.instances import (
    CreateInstance,
    DeleteInstance,
    PurgeInstance,
    RenameInstance,
    RestoreInstance,
    deleted_instance,
)
from dvid_es.streams import Stream


async def post_repos(request: NodeRequest) -> HTTPResponse:
    """POST /api/repos {"alias", "description", "root", "passcode"}: make a repository."""
    settings = request.server.settings
    if not settings.open_repo_creation:
        request.need_admin("Creating a repo")
    body = Body(request.body, first=True)
    alias, description = body.text("alias") or "", body.text("description") or ""
    passcode, key = body.text("passcode"), request.raw.headers.get("idempotency-key", "")
    root = body.text("root")
    if not root and key:
        # A repeated request must come to the same repository, where the first answer is kept.
        root = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).hexdigest()
    root = root or request.engine.clock.new_uuid()
    check_uuid(root)
    command = CreateRepo(
        root=root,
        alias=alias,
        description=description,
        passcode=await passcode_digest(request, root, passcode),
    )
    there = any(stream.root == root and stream.repo for stream in request.engine.streams.all())
    return raw_json(await request.write(command, root=root, creates=not there))


async def get_repos_info(request: NodeRequest) -> HTTPResponse:
    """GET /api/repos/info: all repositories, by root UUID."""

    def build() -> dict[str, Any]:
        found = {}
        for stream, repo in request.engine.repos():
            txn = request.engine.store.begin_read(repo, stream.packs)
            try:
                found[repo.root] = repo_document(
                    txn, repo, request.server.datatypes, stores(request)
                )
            finally:
                request.engine.store.finish_read(txn)
        return found

    return json_answer(await request.in_thread(build))


def get_repos_deleted(request: NodeRequest) -> HTTPResponse:
    """GET /api/repos/deleted: root UUID, alias and state of the deleted repositories."""
    documents = (stream.repo.document for stream in request.engine.streams.all() if stream.repo)
    deleted = [
        {"Root": item.root, "Alias": item.alias, "Purged": item.purged}
        for item in documents
        if item.deleted
    ]
    return json_answer(sorted(deleted, key=lambda item: str(item["Root"])))


async def post_repos_undelete(request: NodeRequest) -> HTTPResponse:
    """POST /api/repos/undelete {"root"}: bring a deleted repository back."""
    check_admin_if_any(request, "POST undelete")
    body = Body(request.body)
    stream = _stream_of(request, body)
    passcode = await passcode_digest(request, stream.root, _passcode(request, body))
    await request.write(RestoreRepo(passcode=passcode), root=stream.root)
    return empty()


async def post_repos_purge(request: NodeRequest) -> HTTPResponse:
    """POST /api/repos/purge {"root"}: drop all data of a deleted repository for good."""
    request.need_admin("POST purge")
    _check_no_key(request)
    body = Body(request.body)
    stream = _stream_of(request, body)
    passcode = await passcode_digest(request, stream.root, _passcode(request, body))
    await request.write(PurgeRepo(passcode=passcode), root=stream.root)
    assert stream.repo is not None
    for number in stream.repo.instances:
        await _purge(request, stream, number, passcode)
    return empty()


def _stream_of(request: NodeRequest, body: Body) -> Stream:
    root = body.text("root")
    for stream in request.engine.streams.all():
        if stream.root == root and stream.repo is not None:
            return stream
    raise InvalidRequest(f'could not find repository "{root or ""}": its whole root UUID is needed')


def _passcode(request: NodeRequest, body: Body | None = None) -> str | None:
    given = body.text("passcode") if body is not None else None
    return given or request.args.get("passcode")


def _check_no_key(request: NodeRequest) -> None:
    if request.raw.headers.get("idempotency-key"):
        raise InvalidRequest("purge may be repeated as it is: send no Idempotency-Key")


async def _purge(request: NodeRequest, stream: Stream, number: int, passcode: str) -> None:
    more = b"more"
    while more:
        command = PurgeInstance(instance=number, passcode=passcode)
        more = await request.write(command, root=stream.root)


def head_repo(request: NodeRequest) -> HTTPResponse:
    """Whether the repository is there."""
    root = request.repo.root
    text = f"Repo available with root UUID {root}\n"
    return HTTPResponse(text, 200, content_type="text/plain")


async def get_info(request: NodeRequest) -> HTTPResponse:
    """GET info: the whole description of a repository."""
    txn, repo = request.txn, request.repo
    datatypes, described = request.server.datatypes, stores(request)
    return json_answer(await request.in_thread(repo_document, txn, repo, datatypes, described))


async def post_info(request: NodeRequest) -> HTTPResponse:
    """POST info {"alias", "description"}: change what is given."""
    body = Body(request.body, first=True)
    command = DescribeRepo(alias=body.text("alias"), description=body.text("description"))
    await write_to_repo(request, command)
    return empty()


def get_log(request: NodeRequest) -> HTTPResponse:
    """GET log: the lines of the repository's log."""
    request.sequence = request.repo.sequence
    return json_answer({"log": request.repo.document.log})


async def post_log(request: NodeRequest) -> HTTPResponse:
    """POST log {"log"}: append lines to the log of the repository."""
    lines = texts_map(request.body).get("log")
    if lines is None:
        raise InvalidRequest("Could not find 'log' value in POSTed JSON.")
    await write_to_repo(request, AppendRepoLog(lines=lines))
    return empty()


@takes_words
def get_branch_versions(request: NodeRequest) -> HTTPResponse:
    """GET branch-versions/<branch>: its UUIDs, from the leaf down to the root."""
    if len(request.words) != 1 or not request.words[0]:
        raise NotFound("404 page not found")
    request.sequence = request.repo.sequence
    branch = "" if request.words[0] == "master" else request.words[0]
    return json_answer([version.uuid for version in request.repo.graph.branch_line(branch)])


async def post_instance(request: NodeRequest) -> HTTPResponse:
    """POST instance {"typename", "dataname", ...}: make a data instance at this version."""
    config = Configuration(parse_json_object(request.body, empty=True, first=True))
    for needed in ("typename", "dataname"):
        if not isinstance(config.raw(needed), str):
            raise InvalidRequest(
                f"POST on repo endpoint requires specification of valid '{needed}'"
            )
    datatype = request.server.datatypes.get(config["typename"])
    if datatype is None:
        raise InvalidRequest(
            f'Data type "{config["typename"]}" is not supported by current DVID server'
        )
    created = datatype.create(config)
    command = CreateInstance(
        name=config["dataname"],
        typename=datatype.name,
        data_uuid=request.engine.clock.new_uuid(),
        compression=created.compression,
        checksum=created.checksum,
        versioned=parse_versioned(config),
        tags=parse_tags(config),
        settings=created.settings,
        shown=config.shown(),
        unlocked=may_change_locked(request),
    )
    return raw_json(await request.write(command))


async def delete_repo(request: NodeRequest) -> HTTPResponse:
    """DELETE ?imsure=true: hide the repository of this root; nothing is lost until it is purged."""
    check_deletion(request)
    root = request.repo.root
    if request.version.id != 1:
        raise InvalidRequest(f"a repository is deleted by its root UUID, which is {root}")
    passcode = await passcode_digest(request, root, _passcode(request))
    await write_to_repo(request, DeleteRepo(passcode=passcode))
    return empty()


@takes_words
async def delete_instance(request: NodeRequest) -> HTTPResponse:
    """DELETE <data>?imsure=true: hide an instance; nothing is lost until it is purged."""
    check_deletion(request)
    name, *rest = request.words
    if any(rest):
        raise NotFound("404 page not found")
    passcode = await passcode_digest(request, request.repo.root, _passcode(request))
    await write_to_repo(request, DeleteInstance(name=name, passcode=passcode))
    return empty()


def get_deleted(request: NodeRequest) -> HTTPResponse:
    """GET deleted: the deleted instances of a repository, in order of their creation."""
    request.sequence = request.repo.sequence
    return json_answer(
        [
            {
                "Name": item.name,
                "TypeName": item.typename,
                "DataUUID": item.data_uuid,
                "Purged": item.purged,
            }
            for item in request.repo.instances.values()
            if item.deleted
        ]
    )


async def post_rename(request: NodeRequest) -> HTTPResponse:
    """POST rename {"old", "new"}: give an instance another name."""
    check_admin_if_any(request, "POST rename")
    body = Body(request.body)
    old, new = _needed(body, "old"), _needed(body, "new")
    passcode = await passcode_digest(request, request.repo.root, _passcode(request, body))
    await write_to_repo(request, RenameInstance(old=old, new=new, passcode=passcode))
    return empty()


async def post_undelete(request: NodeRequest) -> HTTPResponse:
    """POST undelete {"data", "new"?}: bring back an instance, by its old name or data UUID."""
    check_admin_if_any(request, "POST undelete")
    body = Body(request.body)
    name, new = _needed(body, "data"), body.text("new") or ""
    passcode = await passcode_digest(request, request.repo.root, _passcode(request, body))
    await write_to_repo(request, RestoreInstance(name=name, new=new, passcode=passcode))
    return empty()


async def post_purge(request: NodeRequest) -> HTTPResponse:
    """POST purge {"data"}: drop all rows of a deleted instance for good."""
    request.need_admin("POST purge")
    _check_no_key(request)
    body = Body(request.body)
    instance = deleted_instance(request.repo, _needed(body, "data"))
    stream = request.stream
    passcode = await passcode_digest(request, stream.root, _passcode(request, body))
    request.version = None  # type: ignore[assignment]
    await _purge(request, stream, instance.id, passcode)
    return empty()


def _needed(body: Body, name: str) -> str:
    value = body.text(name)
    if not value:
        raise InvalidRequest(f"Could not find '{name}' value in POSTed JSON.")
    return value
