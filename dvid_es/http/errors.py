"""Our errors as DVID's answers: nearly always 400 and `message (path).` and a line end.

Source: BadRequest in server/web.go (janelia-flyem/dvid).
"""

import contextlib
import json
import logging

from sanic.response import HTTPResponse

from dvid_es.commands import Written
from dvid_es.errors import (
    DependentMutations,
    DvidError,
    InvalidRequest,
    LogUnavailable,
    NotFound,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageFull,
    WritesHalted,
)

logger = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
PAGE_NOT_FOUND = "404 page not found"
"""Go's text about a path that no endpoint has; nothing is added to it."""

RETRY_SECONDS = 2
"""What a client is told to wait when the log cannot be reached."""

_NOSNIFF = {"X-Content-Type-Options": "nosniff"}


class DryRun(Exception):
    """Ends the handler of a dry run; carries what would have been written."""

    def __init__(self, written: Written) -> None:
        """Keep the decision."""
        super().__init__()
        self.written = written


def answer_of(problem: Exception, method: str, path: str) -> HTTPResponse:
    """Return the answer to a request that raised something; what nobody expected is logged."""
    if isinstance(problem, DryRun):
        return _dry_run_response(problem)
    if isinstance(problem, DvidError):
        return error_response(problem, path)
    logger.error("%s %s failed", method, path, exc_info=problem)
    return HTTPResponse(
        f"Internal error on request {method} {path}; the server's log says more\n",
        500,
        content_type=TEXT,
    )


def _dry_run_response(dry: DryRun) -> HTTPResponse:
    answer: object = dry.written.answer.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        answer = json.loads(dry.written.answer)
    body = {"dryrun": True, "answer": answer, "events": dry.written.events}
    return HTTPResponse(json.dumps(body), 200, content_type="application/json")


def error_response(problem: DvidError, path: str) -> HTTPResponse:
    """Return the answer that a DVID client expects for an error on `path`."""
    match problem:
        case NotFound():
            message = str(problem)
            if not message:
                return HTTPResponse(b"", 404, content_type="")
            if message == PAGE_NOT_FOUND:
                return _text(404, f"{message}\n")
            return _text(404, f"{message} ({path}).\n")
        case RangeNotSatisfiable():
            headers = {"Content-Range": f"bytes */{problem.length}", **_NOSNIFF}
            return HTTPResponse(f"{problem}\n", 416, headers, TEXT)
        case PreconditionFailed():
            return _text(412, f"{problem} ({path}).\n")
        case DependentMutations():
            found = {"error": f"{problem} ({path}).", "dependents": problem.dependents}
            return HTTPResponse(json.dumps(found), 409, _NOSNIFF, "application/json")
        case InvalidRequest():
            return _text(400, f"{problem} ({path}).\n")
        case Overloaded():
            return _text(503, f"{problem}\n")
        case LogUnavailable():
            headers = {"Retry-After": str(RETRY_SECONDS), **_NOSNIFF}
            return HTTPResponse(f"{problem} ({path}).\n", 503, headers, TEXT)
        case StorageFull():
            return _text(507, f"{problem} ({path}).\n")
        case WritesHalted():
            return _text(500, f"Writing has stopped: {problem} ({path}).\n")
    return _text(500, f"{problem} ({path}).\n")


def _text(status: int, text: str) -> HTTPResponse:
    return HTTPResponse(text.encode("utf-8", "replace"), status, _NOSNIFF, TEXT)
