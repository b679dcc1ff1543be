"""The Sanic application: one catch-all route, and tables of handlers by method and word.

The same word means different things for different datatypes, so an endpoint is found in the
datatype's own table. Sanic's routing is not used beyond that.
"""

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import Mapping

from sanic import Request, Sanic
from sanic.response import HTTPResponse

from dvid_es.engine import Engine
from dvid_es.errors import DvidError, InvalidRequest, NotFound
from dvid_es.http.datatype import Datatype, Handler
from dvid_es.http.errors import TEXT, error_response
from dvid_es.http.node import DryRun, NodeRequest
from dvid_es.http.wire import decode_path, parse_query, parse_unsigned
from dvid_es.settings import Settings

logger = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
MUTATING = frozenset({"POST", "PUT", "DELETE", "PATCH"})
WAIT_SECONDS = 30.0


class Server:
    """What handlers reach: engine, settings, datatypes and tables."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        datatypes: Mapping[str, Datatype],
        *,
        server_routes: Mapping[str, Handler],
        repo_routes: Mapping[str, Handler],
        node_routes: Mapping[str, Handler],
        common_routes: Mapping[str, Handler],
    ) -> None:
        """Keep the tables: "GET server/info", "GET info" of a repo, "POST commit", "GET tags"."""
        self.engine = engine
        self.settings = settings
        self.datatypes = datatypes
        self.server_routes = server_routes
        self.repo_routes = repo_routes
        self.node_routes = node_routes
        self.common_routes = common_routes

    def cors_headers(self, raw: Request) -> dict[str, str]:
        """Return the CORS headers that the settings grant to this request."""
        del raw
        return {"Access-Control-Allow-Origin": "*"} if "*" in self.settings.cors_domains else {}

    async def handle(self, raw: Request) -> HTTPResponse | None:
        """Answer one request."""
        method = raw.method
        text = raw.raw_url.decode("latin-1")
        path, _, query = text.partition("?")
        request = NodeRequest(self, raw, method, path)
        try:
            request.args = parse_query(query) if query else {}
            request.path = decode_path(path)
            handler = await self._find(request)
            if method not in BODILESS or _announces_body(raw):
                await raw.receive_body()
                request.body = raw.body
            response = handler(request)
            if inspect.isawaitable(response):
                response = await response
        except DryRun as dry:
            response = _dry_run_response(dry)
        except DvidError as problem:
            response = error_response(problem, request.path)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s %s failed", method, path)
            response = HTTPResponse(
                f"Internal error on request {method} {path}; the server's log says more\n",
                500,
                content_type=TEXT,
            )
        finally:
            request.finish()
        if response is not None:
            response.headers.update(request.common_headers())
        return response

    async def _find(self, request: NodeRequest) -> Handler:
        """Resolve the names in the path and return the handler."""
        parts = request.path.split("/")
        if len(parts) > 2 and parts[1] == "api":
            if parts[2] == "node" and len(parts) > 4:
                if len(parts) == 5:
                    return await self._node(request, parts)
                return await self._instance(request, parts)
            if parts[2] == "repo" and len(parts) > 3:
                return await self._repo(request, parts)
        return self._server(request, parts)

    def _server(self, request: NodeRequest, parts: list[str]) -> Handler:
        method = "GET" if request.method == "HEAD" else request.method
        for words in range(len(parts) - 1, 0, -1):
            found = self.server_routes.get(f"{method} {'/'.join(parts[1 : words + 1])}")
            if found is not None:
                rest = parts[words + 1 :]
                if not rest or getattr(found, "takes_words", False):
                    request.words = rest
                    return found
        raise _NoRoute

    async def _resolve(self, request: NodeRequest, spec: str) -> None:
        request.stream, request.repo, request.version = self.engine.resolve(spec)
        minimum = request.args.get("min_seq")
        if minimum is not None:
            sequence = parse_unsigned(minimum, "min_seq")
            await self.engine.wait_for(request.stream, sequence, WAIT_SECONDS)
            request.stream, request.repo, request.version = self.engine.resolve(spec)

    async def _repo(self, request: NodeRequest, parts: list[str]) -> Handler:
        method = "GET" if request.method == "HEAD" and len(parts) > 4 else request.method
        word = parts[4] if len(parts) > 4 else ""
        found = self.repo_routes.get(f"{method} {word}")
        if found is None and word:
            found = self.repo_routes.get(f"{method} *")  # the word is the name of an instance
            parts = [*parts[:4], "*", *parts[4:]]
        if found is None or (len(parts) > 5 and not getattr(found, "takes_words", False)):
            raise _NoRoute
        await self._resolve(request, parts[3])
        self._check_mode(request)
        request.words = parts[5:]
        return found

    async def _node(self, request: NodeRequest, parts: list[str]) -> Handler:
        method = "GET" if request.method == "HEAD" else request.method
        await self._resolve(request, parts[3])
        self._check_mode(request)
        action = parts[4]
        if (
            method in MUTATING
            and request.version.locked
            and action not in ("branch", "newversion", "tag")
            and not self._unlocked(request)
        ):
            raise InvalidRequest(f"Cannot do {method.lower()} on locked node {request.version.uuid}")
        found = self.node_routes.get(f"{method} {action}")
        if found is None:
            raise _NoRoute
        return found

    async def _instance(self, request: NodeRequest, parts: list[str]) -> Handler:
        await self._resolve(request, parts[3])
        instance = request.repo.names.get(parts[4])
        if instance is None:
            raise InvalidRequest(f'invalid data instance name "{parts[4]}"')
        request.instance = instance
        datatype = self.datatypes[instance.typename]
        self._check_mode(request)
        if parts[-1] == "" and len(parts) > 6:
            parts.pop()  # one trailing slash is dropped
        keyword = parts[5]
        request.words = parts[6:]
        method = request.method
        key = f"{method} {keyword}"
        if (
            method in MUTATING
            and instance.versioned
            and request.version.locked
            and keyword != "blobstore"
            and key not in datatype.reads
            and not self._unlocked(request)
        ):
            raise InvalidRequest(
                f'Cannot do {method} on endpoint "{keyword}" of locked node {request.version.uuid}'
            )
        found = (
            datatype.endpoints.get(key)
            or self.common_routes.get(key)
            or (method == "HEAD" and datatype.endpoints.get(f"GET {keyword}"))
            or (method == "HEAD" and self.common_routes.get(f"GET {keyword}"))
            or datatype.endpoints.get(f"* {keyword}")
        )
        if not found:
            raise InvalidRequest(
                f'Bad API call ({request.path}) for data "{instance.name}".'
                f"  See API help at http://{request.raw.host}/api/help/{instance.typename}"
            )
        return found

    def _unlocked(self, request: NodeRequest) -> bool:
        return self.settings.mode == "fullwrite" or request.is_admin

    def _check_mode(self, request: NodeRequest) -> None:
        if (
            self.settings.mode == "readonly"
            and request.method not in ("GET", "HEAD", "OPTIONS")
            and not request.is_admin
        ):
            raise InvalidRequest(
                "Server in read-only mode and will only accept GET and HEAD requests"
            )


def _announces_body(raw: Request) -> bool:
    """Say whether a GET has a body, as several of DVID's have."""
    headers = raw.headers
    return "content-length" in headers or "transfer-encoding" in headers


class _NoRouteError(NotFound):
    """No such route: Go's own text, without the path."""


_NoRoute = _NoRouteError("404 page not found")


def _dry_run_response(dry: DryRun) -> HTTPResponse:
    answer: object = dry.written.answer.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        answer = json.loads(dry.written.answer)
    body = {"dryrun": True, "answer": answer, "events": dry.written.events}
    return HTTPResponse(json.dumps(body), 200, content_type="application/json")


def make_app(server: Server, name: str = "dvid_es") -> Sanic:
    """Return the Sanic application of a server; it does not start or stop the engine."""
    app = Sanic(name, configure_logging=False)
    app.config.REQUEST_BUFFER_SIZE = 1 << 20
    app.config.REQUEST_MAX_SIZE = server.settings.max_body_bytes
    app.config.REQUEST_TIMEOUT = app.config.RESPONSE_TIMEOUT = 600
    app.config.KEEP_ALIVE_TIMEOUT = 120
    app.config.ACCESS_LOG = False
    app.config.FALLBACK_ERROR_FORMAT = "text"

    async def everything(request: Request, path: str = "") -> HTTPResponse | None:
        del path
        return await server.handle(request)

    app.add_route(
        everything, "/<path:path>", METHODS, ignore_body=False, stream=True, unquote=False
    )
    app.add_route(everything, "/", METHODS, ignore_body=False, stream=True, name="root")
    return app
