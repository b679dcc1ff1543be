"""`repo` and `instance`: over HTTP, on a running server."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dvid_es.cli.client import Client, quoted
from dvid_es.cli.output import as_json, show_json, show_table

F = TypeVar("F", bound=Callable[..., Any])


def server_options(command: F) -> F:
    """Add --server and --admintoken to a command."""
    server = click.option(
        "--server", default="http://127.0.0.1:8000", show_default=True, metavar="URL"
    )
    token = click.option(
        "--admintoken", default="", envvar="DVID_ADMIN_TOKEN", help="For what only admins may do."
    )
    return server(token(command))


sure_option = click.option(
    "--yes", is_flag=True, help="Do not ask. Deleting can be undone until it is purged."
)


@click.group()
def repo() -> None:
    """List, make and name repositories of a running server."""


@repo.command("list")
@server_options
@as_json
def repo_list(server: str, admintoken: str, as_json: bool) -> None:
    """List the repositories."""
    found = Client(server, admintoken).json("GET", "/api/repos/info")
    rows = [
        {
            "root": root,
            "alias": info["Alias"],
            "versions": len(info["DAG"]["Nodes"]),
            "instances": len(info["DataInstances"]),
        }
        for root, info in sorted(found.items())
    ]
    if as_json:
        show_json(rows)
    else:
        headings = ("root", "alias", "versions", "instances")
        show_table(headings, [[row[name] for name in headings] for row in rows])


@repo.command("new")
@click.argument("alias")
@click.option("--description", default="")
@click.option("--root", default="", metavar="UUID", help="32 hexadecimal digits; default: random.")
@server_options
@as_json
def repo_new(
    alias: str, description: str, root: str, server: str, admintoken: str, as_json: bool
) -> None:
    """Make a repository named ALIAS and print its root UUID."""
    body = {"alias": alias, "description": description}
    if root:
        body["root"] = root
    made = Client(server, admintoken).json("POST", "/api/repos", body)
    if as_json:
        show_json(made)
    else:
        click.echo(made["root"])


@repo.command("info")
@click.argument("uuid")
@server_options
@as_json
def repo_info(uuid: str, server: str, admintoken: str, as_json: bool) -> None:
    """Show versions and instances of the repository that UUID belongs to."""
    info = Client(server, admintoken).json("GET", f"/api/repo/{quoted(uuid)}/info")
    if as_json:
        show_json(info)
        return
    click.echo(f"{info['Root']}  {info['Alias']}  {info['Description']}".rstrip())
    nodes = sorted(info["DAG"]["Nodes"].values(), key=lambda node: int(node["VersionID"]))
    uuids = {node["VersionID"]: node["UUID"] for node in nodes}
    show_table(
        ("version", "branch", "state", "parents", "note"),
        [
            (
                node["UUID"],
                node["Branch"] or "master",
                "committed" if node["Locked"] else "open",
                " ".join(uuids[parent][:8] for parent in node["Parents"] or ()),
                node["Note"],
            )
            for node in nodes
        ],
    )
    click.echo()
    show_table(
        ("instance", "type"),
        [(name, data["Base"]["TypeName"]) for name, data in sorted(info["DataInstances"].items())],
    )


@repo.command("rename")
@click.argument("uuid")
@click.argument("alias")
@click.option("--description", help="Change the description too.")
@server_options
def repo_rename(
    uuid: str, alias: str, description: str | None, server: str, admintoken: str
) -> None:
    """Give the repository of UUID another ALIAS."""
    body = {"alias": alias}
    if description is not None:
        body["description"] = description
    Client(server, admintoken).json("POST", f"/api/repo/{quoted(uuid)}/info", body)


@repo.command("delete")
@click.argument("uuid")
@sure_option
@server_options
def repo_delete(uuid: str, yes: bool, server: str, admintoken: str) -> None:
    """Delete the repository of UUID. An event: it can be undone until it is purged."""
    if not yes:
        click.confirm(f"Delete the whole repository of {uuid}?", abort=True, err=True)
    Client(server, admintoken).call("DELETE", f"/api/repo/{quoted(uuid)}?imsure=true")


@repo.command("undelete")
@click.argument("root")
@server_options
def repo_undelete(root: str, server: str, admintoken: str) -> None:
    """Bring a deleted repository back, by its whole ROOT UUID."""
    Client(server, admintoken).json("POST", "/api/repos/undelete", {"root": root})


@click.group()
def instance() -> None:
    """List, make, rename and delete data instances of a running server."""


@instance.command("list")
@click.argument("uuid")
@server_options
@as_json
def instance_list(uuid: str, server: str, admintoken: str, as_json: bool) -> None:
    """List the data instances of the repository of UUID."""
    info = Client(server, admintoken).json("GET", f"/api/repo/{quoted(uuid)}/info")
    rows = [
        {
            "name": name,
            "type": data["Base"]["TypeName"],
            "versioned": data["Base"]["Versioned"],
            "data_uuid": data["Base"]["DataUUID"],
        }
        for name, data in sorted(info["DataInstances"].items())
    ]
    if as_json:
        show_json(rows)
    else:
        headings = ("name", "type", "versioned", "data_uuid")
        show_table(headings, [[row[key] for key in headings] for row in rows])


@instance.command("new")
@click.argument("uuid")
@click.argument("typename")
@click.argument("dataname")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@server_options
@as_json
def instance_new(
    uuid: str,
    typename: str,
    dataname: str,
    settings: tuple[str, ...],
    server: str,
    admintoken: str,
    as_json: bool,
) -> None:
    """Make an instance DATANAME of TYPENAME at the version UUID, with settings such as versioned=false."""
    body = {"typename": typename, "dataname": dataname}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"{setting}: settings look like KEY=VALUE")
        body[key] = value
    made = Client(server, admintoken).json("POST", f"/api/repo/{quoted(uuid)}/instance", body)
    if as_json:
        show_json(made)
    else:
        click.echo(made["result"])


@instance.command("info")
@click.argument("uuid")
@click.argument("dataname")
@server_options
def instance_info(uuid: str, dataname: str, server: str, admintoken: str) -> None:
    """Show what an instance is, as JSON."""
    path = f"/api/node/{quoted(uuid)}/{quoted(dataname)}/info"
    click.echo(json.dumps(Client(server, admintoken).json("GET", path), indent=1))


@instance.command("delete")
@click.argument("uuid")
@click.argument("dataname")
@sure_option
@server_options
def instance_delete(uuid: str, dataname: str, yes: bool, server: str, admintoken: str) -> None:
    """Delete an instance in all versions. An event: it can be undone until it is purged."""
    if not yes:
        click.confirm(f"Delete {dataname} in all versions?", abort=True, err=True)
    path = f"/api/repo/{quoted(uuid)}/{quoted(dataname)}?imsure=true"
    Client(server, admintoken).call("DELETE", path)


@instance.command("undelete")
@click.argument("uuid")
@click.argument("dataname")
@server_options
def instance_undelete(uuid: str, dataname: str, server: str, admintoken: str) -> None:
    """Bring a deleted instance back, by its old name or its data UUID."""
    body = {"data": dataname}
    Client(server, admintoken).json("POST", f"/api/repo/{quoted(uuid)}/undelete", body)


@instance.command("rename")
@click.argument("uuid")
@click.argument("old")
@click.argument("new")
@server_options
def instance_rename(uuid: str, old: str, new: str, server: str, admintoken: str) -> None:
    """Give the instance OLD the name NEW, in all versions."""
    body = {"old": old, "new": new}
    Client(server, admintoken).json("POST", f"/api/repo/{quoted(uuid)}/rename", body)
