"""`POST sql`: questions to the whole history of a repository. docs/analytics.md describes the views."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from functools import partial
from threading import Thread
from typing import Any

from sanic.response import HTTPResponse

from dvid_es.analytics.pool import Job
from dvid_es.analytics.replies import CONTENT_TYPES
from dvid_es.analytics.service import Query, Result, Subject
from dvid_es.errors import InvalidRequest, Overloaded
from dvid_es.events import Bulk
from dvid_es.http.node import TEXT, NodeRequest
from dvid_es.projections.catalog import Repo
from dvid_es.projections.txn import ReadTxn

RETRY_SECONDS = 2
_ACCEPTED = {kind.split(";")[0]: name for name, kind in CONTENT_TYPES.items()}


async def post_sql(request: NodeRequest) -> HTTPResponse:
    """POST sql[?format=json|csv|arrow|parquet]: one SELECT over the history of a repository.

    The body is the query, or JSON {"sql", "parameters"}.
    """
    return await _answer(request, *_body(request))


async def get_sql(request: NodeRequest) -> HTTPResponse:
    """GET sql?query=SELECT...[&format=json|csv|arrow|parquet]: the same, for links."""
    return await _answer(request, request.args.get("query", ""), None)


async def _answer(request: NodeRequest, sql: str, parameters: Any) -> HTTPResponse:
    analytics = request.engine.analytics
    if analytics is None:
        raise InvalidRequest("this server answers no queries")
    if "at" in request.args:
        raise InvalidRequest("?at= is not for queries: write WHERE seq <= N")
    if not sql.strip():
        raise InvalidRequest('there is no query: send one as the body, or as JSON {"sql": "..."}')
    query = Query(sql, parameters, _format(request))
    subject = _subject(request)
    try:
        with analytics.slot() as job:
            result = await _in_own_thread(partial(analytics.answer, query, subject, job), job)
    except Overloaded as problem:
        headers = {"Retry-After": str(RETRY_SECONDS), "X-Content-Type-Options": "nosniff"}
        return HTTPResponse(f"{problem}\n", 503, headers, TEXT)
    request.sequence = result.seq
    return HTTPResponse(result.body, 200, content_type=CONTENT_TYPES[query.format])


def _body(request: NodeRequest) -> tuple[str, Any]:
    try:
        text = bytes(request.body).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the query is not UTF-8") from None
    if not text.lstrip().startswith("{"):
        return text, None
    try:
        value = json.loads(text)
    except ValueError as problem:
        raise InvalidRequest(f"the body is not JSON: {problem}") from None
    if not isinstance(value.get("sql"), str) or not value.keys() <= {"sql", "parameters"}:
        raise InvalidRequest(
            'JSON has the text "sql" and perhaps "parameters", a list or an object'
        )
    parameters = value.get("parameters")
    if parameters is not None and not isinstance(parameters, list | dict):
        raise InvalidRequest('"parameters" are a list for ? or $1, or an object for $name')
    return value["sql"], parameters


def _format(request: NodeRequest) -> str:
    asked: str | None = request.args.get("format")
    if asked is not None:
        if asked not in CONTENT_TYPES:
            raise InvalidRequest(f'format "{asked}" is not one of {", ".join(CONTENT_TYPES)}')
        return asked
    for part in request.raw.headers.get("accept", "").split(","):
        name = _ACCEPTED.get(part.split(";")[0].strip().lower())
        if name is not None:
            return name
    return "json"


def _subject(request: NodeRequest) -> Subject:
    stream, store, engine = request.stream, request.engine.store, request.engine

    def now() -> Repo:
        assert stream.repo is not None
        return stream.repo

    def fetch(bulk: Bulk) -> bytes:
        return bulk if isinstance(bulk, bytes) else stream.packs.get(bulk)

    @contextlib.contextmanager
    def begin(repo: Repo) -> Iterator[ReadTxn]:
        txn = store.begin_read(repo, stream.packs, repo.sequence)
        try:
            yield txn
        finally:
            store.finish_read(txn)

    def resolve(repo: Repo, spec: str) -> int:
        name = f"{repo.root}{spec}" if spec.startswith(":") else spec
        found, _, version = engine.resolve(name)
        if found.root != repo.root:
            raise InvalidRequest(f'version "{spec}" is not of this repository')
        return version.id

    return Subject(stream.root, now, stream.log, fetch, begin, resolve)


async def _in_own_thread(work: partial[Result], job: Job) -> Result:
    """Run a query in a thread that it may block; when the client hangs up, the query ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, problem: BaseException | None) -> None:
        if done.done():
            return
        if problem is not None:
            done.set_exception(problem)
        elif result is not None:
            done.set_result(result)

    def run() -> None:
        try:
            result = work()
        except BaseException as problem:  # it belongs to whoever waits
            loop.call_soon_threadsafe(settle, None, problem)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    thread = Thread(target=run, name="query", daemon=True)
    thread.start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        job.cancel()
        with contextlib.suppress(Exception):
            await done  # the slot is free when the query has ended, not before
        raise
