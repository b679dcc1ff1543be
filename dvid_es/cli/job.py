"""`job`: the long jobs of a running server."""

from typing import Any

import click

from dvid_es.cli.client import Client, quoted
from dvid_es.cli.jobs import follow
from dvid_es.cli.names import server_options
from dvid_es.cli.output import as_json, show_json, show_table


@click.group()
def job() -> None:
    """List, follow and cancel the long jobs of a running server; a restart forgets them."""


@job.command("list")
@server_options
@as_json
def job_list(server: str, admintoken: str, as_json: bool) -> None:
    """List the jobs since the start of the server, the oldest first."""
    found = Client(server, admintoken).json("GET", "/api/server/jobs")
    if as_json:
        show_json(found)
        return
    headings = ("id", "kind", "state", "done", "total", "created", "error")
    show_table(headings, [[one[name] for name in headings] for one in found])


@job.command("follow")
@click.argument("id")
@server_options
@as_json
def job_follow(id: str, server: str, admintoken: str, as_json: bool) -> None:
    """Show how far the job ID is until it is over; Ctrl-C cancels it."""
    client = Client(server, admintoken)
    found = client.json("GET", f"/api/server/jobs/{quoted(id)}")
    result: dict[str, Any] = follow(client, found, found["kind"])
    if as_json:
        show_json(result)
    else:
        click.echo(", ".join(f"{name} {value}" for name, value in result.items()) or "done")


@job.command("cancel")
@click.argument("id")
@server_options
@as_json
def job_cancel(id: str, server: str, admintoken: str, as_json: bool) -> None:
    """Cancel the job ID; one that is over stays as it is."""
    found = Client(server, admintoken).json("DELETE", f"/api/server/jobs/{quoted(id)}")
    if as_json:
        show_json(found)
    else:
        click.echo(found["state"])
