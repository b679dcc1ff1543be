"""`fsck`: does an instance of a running server agree with itself, and repair of a part from the log."""

import click

from dvid_es.cli.client import Client, quoted
from dvid_es.cli.exits import FOUND
from dvid_es.cli.jobs import follow
from dvid_es.cli.names import server_options
from dvid_es.cli.output import as_json, show_json


@click.command()
@click.argument("uuid")
@click.argument("name")
@click.option("--deep", is_flag=True, help="Read all voxels too, at every scale.")
@click.option(
    "--repair", metavar="body:LABEL|box:X0,Y0,Z0,X1,Y1,Z1",
    help="Make a body, or the blocks of a box (voxels, end excluded), what the log says.",
)  # fmt: skip
@server_options
@as_json
@click.pass_context
def fsck(
    context: click.Context,
    uuid: str,
    name: str,
    deep: bool,
    repair: str | None,
    server: str,
    admintoken: str,
    as_json: bool,
) -> None:
    """Check the labelmap NAME at the version UUID; exit code 1 if something is wrong.

    Voxels, the supervoxel index, bodies, mapping and label counters are compared with each other, while
    the server runs. Errors are what no request may cause; warnings may be meant. `dvid-es verify` compares
    everything with the log.
    """
    client = Client(server, admintoken)
    path = f"/api/node/{quoted(uuid)}/{quoted(name)}/fsck"
    if repair is not None:
        path += f"?repair={quoted(repair)}"
    elif deep:
        path += "?deep=true"
    result = follow(client, client.json("POST", path), "repairing" if repair else "checking")
    if as_json:
        show_json(result)
    elif repair is not None:
        click.echo(f"{result['rows']} rows were wrong and are right now")
    else:
        for found in result["findings"]:
            click.echo(f"{found['severity']}: {found['check']}: {found['text']}")
        if result["more"]:
            click.echo(f"... and {result['more']} more")
        looked = ", ".join(f"{count} {what}" for what, count in result["checked"].items())
        click.echo(f"{result['errors']} errors, {result['warnings']} warnings; looked at {looked}")
    if result.get("errors"):
        context.exit(FOUND)
