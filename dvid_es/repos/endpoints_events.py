"""The feed: events of a repository as they happen, and cursors of those who follow. See docs/feed.md."""

import asyncio
import re
from collections.abc import AsyncIterator
from math import inf
from typing import Any

from sanic.response import HTTPResponse

from dvid_es.errors import InvalidRequest, LogUnavailable, NotFound
from dvid_es.feed.filters import Filter, parse_filter
from dvid_es.feed.messages import Message
from dvid_es.feed.schema import asyncapi, event_schemas
from dvid_es.feed.tail import Tail
from dvid_es.http.node import NodeRequest, empty, json_response
from dvid_es.http.wire import parse_json_object, parse_unsigned
from dvid_es.repos.asking import json_answer, takes_words

HEARTBEAT_SECONDS = 15.0
AGAIN_SECONDS = 1.0
"""Followers ask so often while the log cannot be read."""

EVENT_STREAM = "text/event-stream"
LINES = "application/x-ndjson"

_EVENT_ID = re.compile(r"[0-9]{1,19}\Z")


async def get_events(request: NodeRequest) -> HTTPResponse | None:
    """GET events?from=<sequence>&follow=true: the events of the log from a sequence on, as server-sent events.

    As lines of JSON with Accept: application/x-ndjson, or by WebSocket. Filters: instance=, type=, user=,
    body=, box=. cursor=<name> begins behind what was acknowledged there; to=<sequence> is the last one.
    """
    wanted = parse_filter(request.args, request.repo)
    feed = request.server.feed
    tail = feed.join(request.stream)
    try:
        start = _start(request, tail)
        await tail.read(start)  # kept; what cannot be read is an error before an answer begins
        last = parse_unsigned(request.args["to"], "to") if "to" in request.args else None
        found = _messages(tail, start, wanted, request.flag("follow"), last)
        if request.raw.headers.get("upgrade", "").lower() == "websocket":
            await _send_frames(request, found)
        elif LINES in request.raw.headers.get("accept", ""):
            await _send(request, found, LINES)
        else:
            await _send(request, found, EVENT_STREAM)
    finally:
        feed.leave(tail)
    return None


def _start(request: NodeRequest, tail: Tail) -> int:
    """Return the sequence to begin with: the one asked for, or the one behind what was had before."""
    asked = request.args.get("from")
    had: str = request.raw.headers.get("last-event-id", "")
    if _EVENT_ID.match(had):  # a browser that comes back asks with the same URL
        start = int(had) + 1
    elif asked == "now":
        start = tail.end
    elif asked is not None:
        start = parse_unsigned(asked, "from")
    elif "cursor" in request.args:
        start = request.server.cursors.all(tail.stream.root).get(request.args["cursor"], -1) + 1
    else:
        start = 0
    if start > tail.end:
        raise InvalidRequest(
            f"from is {start}: this repository has the sequences 0 to {tail.end - 1}"
        )
    return start


async def _messages(
    tail: Tail, start: int, wanted: Filter, follow: bool, last: int | None
) -> AsyncIterator[list[Message]]:
    """Iterate over what is wanted of each piece of the log; an empty list is a sign of life."""
    now = asyncio.get_running_loop().time
    stop: float = inf if follow else tail.end
    if last is not None:
        stop = min(stop, last + 1)
    said = now()
    while not tail.closing and start < stop:
        try:
            found = await tail.read(start)
        except LogUnavailable:
            if not follow:
                raise
            found = []
            await asyncio.sleep(AGAIN_SECONDS)
        if found:
            start = found[-1].sequence + 1
            chosen = [one for one in found if one.sequence < stop and wanted.wants(one)]
        else:
            await tail.wait(start, HEARTBEAT_SECONDS)
            chosen = []
        if chosen or now() - said >= HEARTBEAT_SECONDS:
            said = now()
            yield chosen


async def _send(
    request: NodeRequest, found: AsyncIterator[list[Message]], content_type: str
) -> None:
    headers = {**request.common_headers(), "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = await request.raw.respond(status=200, headers=headers, content_type=content_type)
    await response.send(b"\n" if content_type == LINES else b":\n\n")  # the head goes out with it
    async for messages in found:
        if content_type == LINES:
            data = b"".join([message.text + b"\n" for message in messages])
        else:
            data = b"".join(map(_server_sent, messages)) or b":\n\n"
        if data:
            await response.send(data)  # waits while the client does not read
    await response.eof()


def _server_sent(message: Message) -> bytes:
    head = f"id: {message.sequence}\nevent: {message.type}\ndata: "
    return head.encode() + message.text + b"\n\n"


async def _send_frames(request: NodeRequest, found: AsyncIterator[list[Message]]) -> None:
    protocol: Any = request.raw.transport.get_protocol()
    socket = await protocol.websocket_handshake(request.raw)
    async for messages in found:
        for message in messages:
            await socket.send(message.text.decode())
    await socket.close()


@takes_words
def get_cursors(request: NodeRequest) -> HTTPResponse:
    """GET cursors[/<name>]: the last sequence acknowledged, of all cursors by name, or of one."""
    found = request.server.cursors.all(request.stream.root)
    if not any(request.words):
        return json_answer(found)
    name = _name(request)
    if name not in found:
        raise NotFound(f'there is no cursor "{name}"')
    return json_response({"sequence": found[name]})


@takes_words
async def post_cursor(request: NodeRequest) -> HTTPResponse:
    """POST cursors/<name> {"sequence": n}: acknowledge all events up to a sequence; -1 for none."""
    name = _name(request)
    value = parse_json_object(request.body, empty=False).get("sequence")
    last = request.repo.sequence
    if type(value) is not int or not -1 <= value <= last:
        raise InvalidRequest(f'"sequence" must be a whole number from -1 to {last}')
    await request.in_thread(request.server.cursors.set, request.stream.root, name, value)
    return json_response({"sequence": value})


@takes_words
async def delete_cursor(request: NodeRequest) -> HTTPResponse:
    """DELETE cursors/<name>: forget a cursor."""
    name = _name(request)
    if not await request.in_thread(request.server.cursors.delete, request.stream.root, name):
        raise NotFound(f'there is no cursor "{name}"')
    return empty()


def _name(request: NodeRequest) -> str:
    words = [word for word in request.words if word]
    if len(words) != 1:
        raise InvalidRequest("name one cursor: cursors/<name>")
    return words[0]


def get_schema(request: NodeRequest) -> HTTPResponse:
    """GET api/events/schema: JSON Schema of all events that the feed sends."""
    del request
    return json_response(event_schemas())


def get_asyncapi(request: NodeRequest) -> HTTPResponse:
    """GET api/events/asyncapi: the feed and its messages, as an AsyncAPI document."""
    del request
    return json_response(asyncapi())


EVENT_ROUTES = {"GET api/events/schema": get_schema, "GET api/events/asyncapi": get_asyncapi}
"""Below the server."""
