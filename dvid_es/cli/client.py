"""Plain HTTP requests to a server, for the commands that work on a running one."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from dvid_es.cli.exits import Unreachable
from dvid_es.errors import InvalidRequest

TIMEOUT_SECONDS = 600.0


class Client:
    """One server."""

    def __init__(self, url: str, admin_token: str = "") -> None:
        """Talk to the server at `url`, such as http://localhost:8000."""
        self.url = url.rstrip("/")
        self._token = admin_token

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the body of an answer.

        Args:
            method: of HTTP.
            path: from /api on, quoted.
            body: of the request.

        Raises:
            InvalidRequest: the server refused; with its own text.
            Unreachable: no server answers.
        """
        request = urllib.request.Request(self.url + path, body, method=method)
        if self._token:
            request.add_header("X-DVID-Admin-Token", self._token)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as problem:
            text = problem.read().decode("utf-8", "replace").strip()
            raise InvalidRequest(f"{problem.code}: {text}") from problem
        except OSError as problem:
            reason = getattr(problem, "reason", problem)
            raise Unreachable(f"no server answers at {self.url}: {reason}") from problem

    def json(self, method: str, path: str, value: Any = None) -> Any:
        """Send a value as JSON, if there is one, and return the JSON answered."""
        body = None if value is None else json.dumps(value).encode()
        answer = self.call(method, path, body)
        return json.loads(answer) if answer.strip() else None


def quoted(text: str) -> str:
    """Return a text as one part of a path."""
    return urllib.parse.quote(text, safe="")
