"""What requests about bodies say in their paths, options and bodies, checked."""

import hashlib
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from dvid_es.datatypes.labelmap.bodies.reads import BodyReads
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest
from dvid_es.http.wire import parse_labels, parse_unsigned


def parse_label(request: NodeRequest, place: int = 0) -> int:
    """Return the label in a path.

    Raises:
        InvalidRequest: there is none, it is no number, or 0.
    """
    if len(request.words) <= place or not request.words[place]:
        raise InvalidRequest(f"the path {request.path} is too short: it needs a label")
    label = parse_unsigned(request.words[place], "label")
    if label == 0:
        raise InvalidRequest("Label 0 is protected background value and cannot be used here")
    return label


def parse_number(request: NodeRequest, what: str) -> int:
    """Return the unsigned number in a path, which may be 0.

    Raises:
        InvalidRequest: there is none.
    """
    if not request.words or not request.words[0]:
        raise InvalidRequest(f"the path {request.path} is too short: it needs a {what}")
    return parse_unsigned(request.words[0], what)


def parse_body(request: NodeRequest) -> list[int]:
    """Return the labels of a JSON body, after checking the MD5 of `hash=`.

    Raises:
        InvalidRequest: not an array of labels, or another MD5.
    """
    wanted = request.args.get("hash")
    if wanted and hashlib.md5(request.body, usedforsecurity=False).hexdigest() != wanted:
        raise InvalidRequest("the MD5 hash of the body is not the one given")
    return parse_labels(request.body)


READS: dict[str, type[BodyReads]] = {}
"""How types are read whose labels are bodies themselves, by the names of the types."""


def reads_of(request: NodeRequest) -> BodyReads:
    """Return the reads of a request."""
    kind = READS.get(request.instance.typename, BodyReads)
    return kind(request.txn, request.instance.id, request.view)


Handler = Callable[[NodeRequest], Awaitable[Any]]


def indexed(handler: Handler) -> Handler:
    """Refuse a handler to instances that keep no indices."""

    @wraps(handler)
    async def checked(request: NodeRequest) -> Any:
        if not request.instance.settings.get("IndexedLabels", True):
            raise InvalidRequest(
                f'data "{request.instance.name}" is not label indexed (IndexedLabels=false)'
            )
        return await handler(request)

    return checked
