"""One request to a data instance, a version, a repository or the server, resolved."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sanic import Request
from sanic.response import HTTPResponse

from dvid_es.commands import Command, Write, Written
from dvid_es.engine import Engine
from dvid_es.errors import AdminRequired, InvalidRequest
from dvid_es.http.budget import Share
from dvid_es.http.errors import DryRun
from dvid_es.http.wire import parse_unsigned
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.projections.catalog import Instance, Repo, checkpoint, sequence_of_mutation
from dvid_es.projections.store import LmdbTxn
from dvid_es.streams import Stream
from dvid_es.versions import Version, View

if TYPE_CHECKING:
    from dvid_es.http.app import Server

T = TypeVar("T")
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
OCTETS = "application/octet-stream"
TAR = "application/tar"
PIECE_BYTES = 256 * 1024
"""Streamed answers go out in pieces of about this size: small ones cost six times as much."""


class NodeRequest:
    """A request whose names are resolved; what a handler works with."""

    __slots__ = (
        "_txn",
        "_view",
        "args",
        "body",
        "engine",
        "instance",
        "method",
        "outcome",
        "path",
        "raw",
        "repo",
        "sequence",
        "server",
        "stream",
        "version",
        "words",
    )

    def __init__(self, server: "Server", raw: Any, method: str, path: str) -> None:
        """Start with the bare request; the dispatcher fills in the rest."""
        self.server = server
        self.engine: Engine = server.engine
        self.raw: Request = raw
        """What came; where the handler is `quick`, only a `quick.Head`."""
        self.method = method
        self.path = path
        """Decoded path."""
        self.words: list[str] = []
        """Path parts after the keyword."""
        self.args: dict[str, str] = {}
        """Query options, the first of each name."""
        self.body: Any = b""
        self.stream: Stream = None  # type: ignore[assignment]
        self.repo: Repo = None  # type: ignore[assignment]
        self.version: Version = None  # type: ignore[assignment]
        self.instance: Instance = None  # type: ignore[assignment]
        self.sequence: int | None = None
        """Sequence shown in X-DVID-ES-Seq: of the write, or of the state that was read."""
        self.outcome: Callable[[Write], Awaitable[Written]] = server.deliveries.written
        """Submits a write and waits for what becomes of it."""
        self._txn: LmdbTxn | None = None
        self._view: View | None = None

    # -- reading ------------------------------------------------------------------------------

    @property
    def txn(self) -> LmdbTxn:
        """The one read transaction of this request, opened at first use, ended with the answer."""
        if self._txn is None:
            at = self.args.get("at")
            bound = None if at is None else parse_unsigned(at, "at")
            self._txn = self.engine.store.begin_read(self.repo, self.stream.packs, bound)
            if bound is not None and bound >= FIRST_MUTATION_ID:
                self._txn.limit(sequence_of_mutation(self._txn, bound))
            self.sequence = checkpoint(self._txn) - 1
        return self._txn

    @property
    def view(self) -> View:
        """What the addressed version sees: the root's for an unversioned instance; `?at=` applies."""
        if self._view is None:
            self._view = self.txn.view(self.version_id)
        return self._view

    @property
    def version_id(self) -> int:
        """Ordinal that data of this request belongs to."""
        if self.instance is not None and not self.instance.versioned:
            return 1
        return self.version.id

    def finish(self) -> None:
        """End the read transaction."""
        if self._txn is not None:
            self.engine.store.finish_read(self._txn)
            self._txn = None

    async def in_thread(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """Run heavy work in the pool of kernel threads.

        When the client hangs up, this ends no sooner than the work: that may be using the
        transaction of the request, which is ended next.
        """
        running = self.engine.pool.submit(partial(work, *args, **named))
        try:
            return await asyncio.shield(asyncio.wrap_future(running))
        except asyncio.CancelledError:
            if not running.cancel():
                await _ended(running)
            raise

    def begin(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Give heavy work to the kernel threads now, not when the event loop comes to it.

        It does not use the transaction. Cancelling takes it back unless it has begun.
        """
        return asyncio.wrap_future(self.engine.pool.submit(work))

    def memory(self, size: int) -> Share:
        """Return a share of the memory for large answers: make and send one in `async with`.

        The transaction must have ended: this may wait until other answers are through.
        """
        return self.server.budget.share(size, self.raw)

    # -- writing ------------------------------------------------------------------------------

    async def write(
        self, command: Command, *, root: str = "", creates: bool = False, keyed: bool = True
    ) -> bytes:
        """Have a command decided; return the body of its answer once it is durable and visible.

        Args:
            command: to decide.
            root: of another repository than that of the request.
            creates: whether it makes that repository.
            keyed: whether an Idempotency-Key is meant for this command; not if it is one of many.

        Raises:
            DvidError: it was refused, and nothing has changed.
        """
        data = self.instance is not None
        write = Write(
            root=root or self.stream.root,
            command=command,
            version=self.version.id if self.version is not None else 0,
            instance=self.instance.id if data else 0,
            user=self.args.get("u", ""),
            app=self.args.get("app", ""),
            unlocked=self.is_admin or self.server.settings.mode == "fullwrite",
            dry_run=self.args.get("dryrun") == "true",
            idempotency_key=self._idempotency_key() if keyed else "",
            creates=creates,
        )
        self.finish()  # a reader kept open while waiting would hold back the pages of the store
        written = await self.outcome(write)
        if write.dry_run:
            raise DryRun(written)
        self.sequence = written.sequence
        return written.answer

    def _idempotency_key(self) -> str:
        key: str = self.raw.headers.get("idempotency-key", "")
        if len(key.encode("utf-8", "replace")) > 255 or not key.isascii():
            raise InvalidRequest("an Idempotency-Key has at most 255 characters, all of them ASCII")
        return key

    # -- rights -------------------------------------------------------------------------------

    @property
    def is_admin(self) -> bool:
        """Whether the request shows the admin token, as `admintoken=` or in X-DVID-Admin-Token."""
        token = self.server.settings.admin_token
        if not token:
            return False
        shown = self.args.get("admintoken") or self.raw.headers.get("x-dvid-admin-token") or ""
        return hmac.compare_digest(shown.encode(), token.encode())

    def need_admin(self, what: str) -> None:
        """Refuse the request without the admin token.

        Raises:
            AdminRequired: it does not show the token.
        """
        if not self.is_admin:
            raise AdminRequired(f"{what} requires admin privileges (admintoken)")

    # -- answering ----------------------------------------------------------------------------

    def flag(self, name: str) -> bool:
        """Whether an option is the literal `true`, the only yes that DVID knows."""
        return self.args.get(name) == "true"

    async def send(
        self,
        pieces: Iterable[bytes],
        content_type: str = OCTETS,
        headers: dict[str, str] | None = None,
    ) -> HTTPResponse | None:
        """Stream an answer, joined to pieces of 256 KiB; the state was read before the first one."""
        response = await self.raw.respond(
            status=200,
            headers={**self.common_headers(), **(headers or {})},
            content_type=content_type,
        )
        waiting: list[bytes] = []
        size = 0
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                await response.send(b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            await response.send(b"".join(waiting))
        await response.eof()
        return None

    def common_headers(self) -> dict[str, str]:
        """Headers of every answer."""
        headers = dict(self.server.cors_headers(self.raw))
        if self.sequence is not None:
            headers["X-DVID-ES-Seq"] = str(self.sequence)
        if self.instance is not None and self.server.settings.allow_timing:
            headers["Timing-Allow-Origin"] = "*"
        return headers


async def _ended(running: "Future[Any]") -> None:
    """Wait for work that nobody wants any more."""
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([asyncio.wrap_future(running)])


def json_response(value: Any, status: int = 200) -> HTTPResponse:
    """Return compact JSON, as Go's encoder spaces it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return HTTPResponse(text, status, content_type=JSON)


def raw_json(text: bytes | str) -> HTTPResponse:
    """Return text that is JSON already."""
    return HTTPResponse(text, 200, content_type=JSON)


def octets(body: bytes | memoryview, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Return bytes."""
    return HTTPResponse(body, 200, headers, OCTETS)


def empty() -> HTTPResponse:
    """Return 200 without a body, DVID's answer to most writes, and so without a content type."""
    return HTTPResponse(b"", 200)
