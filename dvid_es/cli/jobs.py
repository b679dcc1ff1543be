"""Long jobs of a running server, followed to their end."""

import sys
from typing import Any

import click

from dvid_es.cli.client import Client
from dvid_es.errors import InvalidRequest

_WAIT_SECONDS = 0.5


def follow(client: Client, job: dict[str, Any], label: str) -> dict[str, Any]:
    """Show how far a job is, on standard error if that is a terminal, and return its result.

    Ctrl-C cancels the job.

    Raises:
        InvalidRequest: it failed or was cancelled.
    """
    path = f"/api/server/jobs/{job['id']}"
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:
        try:
            while job["state"] not in ("done", "failed", "cancelled"):
                job = client.json("GET", f"{path}?wait={_WAIT_SECONDS}")
                if job["total"]:
                    bar.length = job["total"]
                    bar.update(job["done"] - bar.pos)
        except KeyboardInterrupt:
            client.json("DELETE", path)
            raise
    if job["state"] != "done":
        raise InvalidRequest(f"the job {job['state']}: {job['error']}".rstrip(": "))
    result: dict[str, Any] = job["result"]
    return result
