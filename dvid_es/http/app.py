"""The Sanic application: one catch-all route, and tables of handlers by method and word.

The same word means different things for different datatypes, so an endpoint is found in the
datatype's own table. Sanic's routing is not used beyond that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any

from sanic import Request, Sanic
from sanic.exceptions import SanicException
from sanic.helpers import has_message_body
from sanic.http.http1 import Http
from sanic.response import HTTPResponse

from dvid_es.engine import Engine
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.feed.cursors import Cursors
from dvid_es.feed.messages import Declared
from dvid_es.feed.tail import Feed
from dvid_es.http.blocklist import NOBODY, client_address
from dvid_es.http.blocklist import load as load_block_list
from dvid_es.http.budget import Budget
from dvid_es.http.cors import METHODS as CORS_METHODS
from dvid_es.http.cors import Cors
from dvid_es.http.datatype import Datatype, Handler
from dvid_es.http.delivery import Deliveries
from dvid_es.http.errors import PAGE_NOT_FOUND, TEXT, answer_of
from dvid_es.http.guard import GuardedRequest
from dvid_es.http.headers import install as fast_headers
from dvid_es.http.monitor import Monitor
from dvid_es.http.node import NodeRequest
from dvid_es.http.paths import clean_path, origin_form, redirect
from dvid_es.http.quick import Head, Heads
from dvid_es.http.quickwrite import outcome
from dvid_es.http.receive import LARGE_BYTES, Arriving, announced_bytes
from dvid_es.http.static import StaticFiles
from dvid_es.http.wire import decode_path, parse_query, parse_unsigned
from dvid_es.publishing.activity import Activity, Asked, is_told
from dvid_es.settings import Settings

logger = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
LOCKABLE = frozenset({"POST", "PUT", "DELETE"})
"""What DVID refuses at a committed version. Others reach the endpoint; none of them writes by one."""
MUTATING = LOCKABLE | {"PATCH"}
SILENT = frozenset({"/api/heartbeat", "/api/load", "/api/user-latencies"})
"""Paths that are neither blocked nor counted; with `u=` they are a sign of life of that user."""
WAIT_SECONDS = 30.0
READ_ONLY = "Server in read-only mode and will only accept GET and HEAD requests"


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
        declared: Declared,
    ) -> None:
        """Keep the tables: "GET server/info", "GET info" of a repo, "POST commit", "GET tags"."""
        self.engine = engine
        self.settings = settings
        self.datatypes = datatypes
        self.server_routes = server_routes
        self.repo_routes = repo_routes
        self.node_routes = node_routes
        self.common_routes = common_routes
        self.documents: dict[tuple[Any, ...], str] = {}
        """Answers that were made, by the state that they show; whoever adds one bounds them."""
        self.deliveries = Deliveries(engine.writer)
        self.feed = Feed(declared, engine.pool)
        engine.listeners.append(self.feed.published)
        self.cursors = Cursors(settings.data / "cursors")
        self.monitor = Monitor(engine.clock, settings.max_throttled)
        self.budget = Budget(settings.answer_bytes)
        self.cors = Cors(settings.cors_domains)
        self.static = StaticFiles(settings)
        self.block_list = load_block_list(settings.block_list_file)
        tables = [server_routes, common_routes, *(one.endpoints for one in datatypes.values())]
        handlers = [one for table in tables for one in table.items()]
        self._quick_words = {
            kind: {key.partition(" ")[2] for key, one in handlers if getattr(one, kind, False)}
            for kind in ("quick", "quick_write")
        }

    def cors_headers(self, raw: Request) -> dict[str, str]:
        """Return the CORS headers that the settings grant to this request."""
        return self.cors.headers(raw.headers.get("origin")) if self.cors.active else {}

    async def handle(self, raw: Request) -> HTTPResponse | None:
        """Answer one request."""
        method = raw.method
        path, _, query = origin_form(raw.raw_url.decode("latin-1")).partition("?")
        request = NodeRequest(self, raw, method, path)
        return await self._counted(request, path, self._looked_at(request, path, query))

    async def _looked_at(self, request: NodeRequest, path: str, query: str) -> HTTPResponse | None:
        if query:
            request.args = parse_query(query)
        request.path = decode_path(path)
        return self._at_once(request, path, query) or await self._answer(request)

    async def _counted(
        self, request: NodeRequest, path: str, answer: Awaitable[HTTPResponse | None]
    ) -> HTTPResponse | None:
        """Await an answer, make one of what is raised, end the transaction, and count."""
        method = request.method
        monitor = self.monitor
        monitor.active += 1
        activity = self.engine.activity
        started = monitor.now() if path in SILENT or activity is not None else 0.0
        try:
            response = await answer
        except (asyncio.CancelledError, SanicException):
            raise
        except Exception as problem:
            response = answer_of(problem, method, request.path)
        finally:
            request.finish()
            monitor.active -= 1
        if path in SILENT:
            monitor.ping(request.args.get("u", ""), started)
        elif method in MUTATING:
            monitor.puts += 1
            monitor.bytes_in += len(request.body)
        else:
            monitor.gets += 1
        if response is not None:
            response.headers.update(request.common_headers())
            monitor.bytes_out += len(response.body or b"")
        if activity is not None and is_told(path) and path not in SILENT:
            self._tell(activity, request, response, started)
        return response

    def _tell(
        self,
        activity: Activity,
        request: NodeRequest,
        response: HTTPResponse | None,
        started: float,
    ) -> None:
        """Tell of a request that was answered; what was streamed has no response any more."""
        raw = request.raw
        activity.note(
            Asked(
                time_ns=self.engine.clock.now_ns(),
                duration_s=self.monitor.now() - started,
                status=200 if response is None else response.status,
                user=request.args.get("u", ""),
                client=request.args.get("app", ""),
                method=request.method,
                uri=raw.raw_url.decode("latin-1"),
                bytes_in=-1 if "transfer-encoding" in raw.headers else announced_bytes(raw),
                bytes_out=0 if response is None else len(response.body or b""),
                remote_addr=f"{raw.ip}:{raw.port}",
            )
        )

    def _begin_quickly(
        self, head: Head, kind: str
    ) -> tuple[NodeRequest, HTTPResponse | Handler] | None:
        """Return a request, and its answer or its handler of this kind; None for the long way.

        Whatever is raised is for the long way, too: it comes to it again, and says what it is.
        """
        if self.engine.activity is not None:
            return None  # the long way tells of it
        path, _, query = head.target.partition("?")
        parts = path.split("/", 6)
        if (parts[5] if len(parts) > 5 else path[1:]) not in self._quick_words[kind]:
            return None
        request = NodeRequest(self, head, head.method, path)
        if query:
            request.args = parse_query(query)
            if "min_seq" in request.args or "throttle" in request.args:
                return None
        request.path = decode_path(path)
        response = self._at_once(request, path, query)
        if response is not None:
            return request, response
        handler = self._find(request)
        return (request, handler) if getattr(handler, kind, False) else None

    def answer_quickly(self, head: Head) -> HTTPResponse | None:
        """Answer a small read at once; None if it must go the long way, and nothing has happened."""
        request = None
        try:
            begun = self._begin_quickly(head, "quick")
            if begun is None:
                return None
            request, found = begun
            response = found if isinstance(found, HTTPResponse) else found(request)
            if not isinstance(response, HTTPResponse):
                response.close()  # a coroutine: the long way makes another one
                return None
            if not has_message_body(response.status):
                return None
        except Exception:
            return None
        finally:
            if request is not None:
                request.finish()
        self.monitor.gets += 1
        self.monitor.bytes_out += len(response.body or b"")
        response.headers.update(request.common_headers())
        return response

    def write_quickly(
        self, head: Head
    ) -> tuple[NodeRequest, Coroutine[Any, Any, HTTPResponse | None]] | None:
        """Return a small write and its handler, for a `QuickWrite`; None if it must go the long way."""
        try:
            begun = self._begin_quickly(head, "quick_write")
        except Exception:
            return None
        if begun is None:
            return None
        request, handler = begun
        if isinstance(handler, HTTPResponse):
            return None
        request.body, request.outcome = head.body, outcome
        return request, _called(handler, request)

    def _at_once(self, request: NodeRequest, path: str, query: str) -> HTTPResponse | None:
        """Answer what needs no handler: paths to clean, blocked clients, OPTIONS."""
        if ("//" in path or "/." in path) and (cleaned := clean_path(path)) != path:
            return redirect(request.method, f"{cleaned}?{query}" if query else cleaned)
        if request.method == "OPTIONS":
            return self._options(request)
        if self.block_list is not NOBODY and path not in SILENT:
            headers, raw = request.raw.headers, request.raw
            address = client_address(
                headers.get("forwarded", ""), headers.get("x-forwarded-for", ""), raw.ip
            )
            reason = self.block_list.reason(request.args.get("u", ""), address)
            if reason is not None:
                return HTTPResponse(f"{reason}\n", 429, content_type=TEXT)
        return None

    def _options(self, request: NodeRequest) -> HTTPResponse:
        parts = request.path.split("/")
        allowed = CORS_METHODS
        if request.path != "*" and not (len(parts) > 3 and parts[2] in ("node", "repo")):
            known = [
                method
                for method in METHODS
                if self._server_route(
                    method, parts, NodeRequest(self, request.raw, method, request.path)
                )
            ]
            if not known:
                raise _NoRoute
            allowed = ", ".join([*known, "OPTIONS"])
        headers = {"Allow": allowed, **self.cors.preflight(request.raw.headers.get("origin"))}
        return HTTPResponse(b"", 200, headers, TEXT)

    async def _answer(self, request: NodeRequest) -> HTTPResponse | None:
        """Find the handler, receive the body, and let the handler answer."""
        if "min_seq" in request.args:
            await self._wait(request)
        handler = self._find(request)
        if getattr(handler, "throttled", False) and request.args.get("throttle") in ("on", "true"):
            with self.monitor.throttle():  # from the head of the request on, as in DVID
                return await self._receive_and_answer(request, handler)
        return await self._receive_and_answer(request, handler)

    async def _receive_and_answer(
        self, request: NodeRequest, handler: Handler
    ) -> HTTPResponse | None:
        raw = request.raw
        if raw.stream is not None and (request.method in MUTATING or _announces_body(raw)):
            raw.stream.request_max_size = self.settings.max_body_bytes  # Sanic lifts it for streams
            length = announced_bytes(raw)
            takes_buffer = getattr(handler, "takes_buffer", False)
            if takes_buffer and LARGE_BYTES <= length <= self.settings.max_body_bytes:
                request.body = Arriving(raw, length)
                if not getattr(handler, "takes_arriving", False):
                    request.body = await request.body.receive()
            else:
                await raw.receive_body()
                request.body = raw.body
        return await _called(handler, request)

    async def _wait(self, request: NodeRequest) -> None:
        """Wait for the sequence that `min_seq` asks for, in the repository of the path."""
        sequence = parse_unsigned(request.args["min_seq"], "min_seq")
        parts = request.path.split("/")
        if len(parts) > 3 and parts[2] in ("node", "repo"):
            stream, _, _ = self.engine.resolve(parts[3])
            await self.engine.wait_for(stream, sequence, WAIT_SECONDS)

    def _find(self, request: NodeRequest) -> Handler:
        """Resolve the names in the path and return the handler."""
        parts = request.path.split("/")
        if len(parts) > 2 and parts[1] == "api":
            if parts[2] == "node" and len(parts) > 4:
                if len(parts) == 5:
                    return self._node(request, parts)
                if len(parts) == 6 and not parts[5]:
                    raise _NoRoute
                return self._instance(request, parts)
            if parts[2] == "repo" and len(parts) > 3:
                return self._repo(request, parts)
        return self._server(request, parts)

    def _server(self, request: NodeRequest, parts: list[str]) -> Handler:
        if request.path == "/" and self.static.has_index() and request.method in ("GET", "HEAD"):
            return self.static
        found = self._server_route(request.method, parts, request)
        if found is None:
            if self.static.serves and request.method in ("GET", "HEAD"):
                return self.static
            raise _NoRoute
        read_only = self.settings.mode == "readonly" and parts[2:3] != ["server"]
        if read_only and request.method in MUTATING:
            raise InvalidRequest(READ_ONLY)  # nobody makes repositories here, admins neither
        return found

    def _server_route(self, method: str, parts: list[str], request: NodeRequest) -> Handler | None:
        method = "GET" if method == "HEAD" else method
        for words in range(len(parts) - 1, 0, -1):
            found = self.server_routes.get(f"{method} {'/'.join(parts[1 : words + 1])}")
            if found is not None:
                rest = parts[words + 1 :]
                if not rest or getattr(found, "takes_words", False):
                    request.words = rest
                    return found
        return None

    def _resolve(self, request: NodeRequest, spec: str) -> None:
        request.stream, request.repo, request.version = self.engine.resolve(spec)

    def _repo(self, request: NodeRequest, parts: list[str]) -> Handler:
        method = "GET" if request.method == "HEAD" and len(parts) > 4 else request.method
        word = parts[4] if len(parts) > 4 else ""
        found = self.repo_routes.get(f"{method} {word}")
        if found is None and word:
            found = self.repo_routes.get(f"{method} *")  # the word is the name of an instance
            parts = [*parts[:4], "*", *parts[4:]]
        if found is None or (len(parts) > 5 and not getattr(found, "takes_words", False)):
            raise _NoRoute
        self._resolve(request, parts[3])
        self._check_mode(request)
        request.words = parts[5:]
        return found

    def _node(self, request: NodeRequest, parts: list[str]) -> Handler:
        method = "GET" if request.method == "HEAD" else request.method
        self._resolve(request, parts[3])
        self._check_mode(request)
        action = parts[4]
        if (
            method in LOCKABLE
            and request.version.locked
            and action not in ("branch", "newversion", "tag")
            and not self._unlocked(request)
        ):
            raise InvalidRequest(
                f"Cannot do {method.lower()} on locked node {request.version.uuid}"
            )
        found = self.node_routes.get(f"{method} {action}")
        if found is None:
            raise _NoRoute
        return found

    def _instance(self, request: NodeRequest, parts: list[str]) -> Handler:
        self._resolve(request, parts[3])
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
            method in LOCKABLE
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
            or self.common_routes.get(f"* {keyword}")
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
            raise InvalidRequest(READ_ONLY)


_NoRoute = NotFound(PAGE_NOT_FOUND)


async def _called(handler: Handler, request: NodeRequest) -> HTTPResponse | None:
    response = handler(request)
    if response is None or isinstance(response, HTTPResponse):
        return response
    return await response


def _announces_body(raw: Request) -> bool:
    """Say whether a GET comes with a body, as several of DVID's do."""
    headers = raw.headers
    return raw.method != "HEAD" and ("content-length" in headers or "transfer-encoding" in headers)


def make_app(server: Server, name: str = "dvid_es") -> Sanic:
    """Return the Sanic application of a server; it does not start or stop the engine."""
    fast_headers()
    app = Sanic(name, configure_logging=False, request_class=GuardedRequest)
    app.ctx.server = server
    app.ctx.heads = Heads(server.settings.max_head_bytes, server.settings.max_body_bytes)
    Http.HEADER_CEILING = max(Http.HEADER_CEILING, server.settings.max_head_bytes)
    app.config.REQUEST_MAX_HEADER_SIZE = server.settings.max_head_bytes
    app.config.REQUEST_BUFFER_SIZE = 1 << 20
    app.config.REQUEST_MAX_SIZE = server.settings.max_body_bytes
    app.config.REQUEST_TIMEOUT = app.config.RESPONSE_TIMEOUT = 600
    app.config.KEEP_ALIVE_TIMEOUT = 120
    app.config.ACCESS_LOG = False
    app.config.FALLBACK_ERROR_FORMAT = "text"

    async def everything(request: Request, path: str = "") -> HTTPResponse | None:
        del path
        return await server.handle(request)

    everything.is_websocket = True  # type: ignore[attr-defined] # what follows a feed answers nothing
    app.add_route(
        everything, "/<path:path>", METHODS, ignore_body=False, stream=True, unquote=False
    )
    app.add_route(everything, "/", METHODS, ignore_body=False, stream=True, name="root")
    return app
