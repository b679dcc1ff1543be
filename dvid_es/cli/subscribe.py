"""`subscribe`: the events of a repository as a running server sends them."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import click

from dvid_es.cli.client import Client, quoted
from dvid_es.cli.exits import Unreachable
from dvid_es.cli.names import server_options
from dvid_es.cli.output import as_json
from dvid_es.errors import InvalidRequest

_SILENCE_SECONDS = 60.0
"""The server gives a sign of life every 15 seconds."""

_WAITS_SECONDS = (0.2, 1.0, 5.0)


@click.command()
@click.argument("uuid")
@click.option("--from", "start", default="", metavar="N|now", help="First sequence. Default: 0.")
@click.option("--follow", is_flag=True, help="Go on with what happens; come back after an outage.")
@click.option("--cursor", default="", metavar="NAME", help="Begin behind it, and move it on.")
@click.option("--instance", default="", metavar="NAMES", help="Only of these, with commas.")
@click.option("--type", "types", default="", metavar="NAMES", help="Only these, as labelmap.merge.")
@click.option("--user", default="", metavar="NAMES", help="Only by these.")
@click.option("--body", default="", metavar="LABELS", help="Only what touches one of these.")
@click.option("--box", default="", metavar="X0,Y0,Z0,X1,Y1,Z1", help="Only voxels written there.")
@server_options
@as_json
def subscribe(
    uuid: str, start: str, follow: bool, cursor: str, server: str, admintoken: str, as_json: bool,
    types: str, **filters: str,
) -> None:  # fmt: skip
    """Print the events of the repository of UUID, in their order: one line each, or JSON with --json."""
    client = Client(server, admintoken)
    query = {"from": start, "cursor": cursor, "type": types, **filters}
    query = {name: value for name, value in query.items() if value}
    path = f"/api/repo/{quoted(uuid)}"
    for message in _events(f"{client.url}{path}/events", query, follow):
        click.echo(json.dumps(message) if as_json else _line(message))
        if cursor:
            acknowledged = {"sequence": message["sequence"]}
            client.json("POST", f"{path}/cursors/{quoted(cursor)}", acknowledged)


def _events(url: str, query: dict[str, str], follow: bool) -> Iterator[dict[str, Any]]:
    """Iterate over messages; when following, go on behind the last one after an outage."""
    failures = 0
    while True:
        try:
            for message in _connection(url, query | ({"follow": "true"} if follow else {})):
                failures = 0
                yield message
                query["from"] = str(message["sequence"] + 1)
            if not follow:
                return
        except urllib.error.HTTPError as problem:
            text = problem.read().decode("utf-8", "replace").strip()
            raise InvalidRequest(f"{problem.code}: {text}") from problem
        except OSError as problem:
            if not follow:
                reason = getattr(problem, "reason", problem)
                raise Unreachable(f"no server answers at {url}: {reason}") from problem
        time.sleep(_WAITS_SECONDS[min(failures, len(_WAITS_SECONDS) - 1)])
        failures += 1


def _connection(url: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    request = urllib.request.Request(f"{url}?{urllib.parse.urlencode(query)}")
    with urllib.request.urlopen(request, timeout=_SILENCE_SECONDS) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def _line(message: dict[str, Any]) -> str:
    where = f"{message.get('version', '')[:8]} {message.get('instance', '')}".strip()
    labels = " ".join(
        f"{role}={','.join(map(str, found[:8]))}{',...' if len(found) > 8 else ''}"
        for role, found in message.get("labels", {}).items()
    )
    parts = (message["sequence"], message["time"], message["type"], where, message["user"], labels)
    return "  ".join(str(part) for part in parts if part != "")
