"""`export`: data and history as files that other programs read.

Copies of data are written by a running server to its own disk.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dvid_es.cli.client import Client, quoted
from dvid_es.cli.history import parquet
from dvid_es.cli.jobs import follow
from dvid_es.cli.names import server_options
from dvid_es.cli.output import as_json, show_json

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def export() -> None:
    """Write data and history to files that other programs read.

    Data are written by a running server, as a long job, to its own disk below the folder of its setting
    exportRoot. Such an export, when it was interrupted, goes on when the same is asked for again.
    """


export.add_command(parquet)


def _options(command: F) -> F:
    """Add what all exports of a labelmap have."""
    folder = click.option(
        "--folder", help="Name of the folder. Default: after instance, version and kind."
    )
    at = click.option(
        "--at",
        type=click.IntRange(0),
        metavar="SEQUENCE",
        help="As of this event. Default: the last.",
    )
    detach = click.option(
        "--detach", is_flag=True, help="Print the id of the job and do not wait for it."
    )
    uuid, instance = click.argument("uuid"), click.argument("instance")
    return uuid(instance(folder(at(detach(server_options(as_json(command)))))))


supervoxels_option = click.option(
    "--supervoxels", is_flag=True, help="Supervoxels instead of bodies."
)
scales_option = click.option(
    "--scales", type=click.IntRange(1, 256), help="Only so many, the finest first. Default: all."
)


def _run(kind: str, given: dict[str, Any], body: dict[str, Any]) -> None:
    """Begin an export, and follow it unless it is detached."""
    client = Client(given["server"], given["admintoken"])
    path = f"/api/node/{quoted(given['uuid'])}/{quoted(given['instance'])}/export/{kind}"
    if given["at"] is not None:
        path += f"?at={given['at']}"
    if given["folder"]:
        body["folder"] = given["folder"]
    job = client.json("POST", path, body)
    if given["detach"]:
        show_json(job) if given["as_json"] else click.echo(job["id"])
        return
    result = follow(client, job, f"exporting {given['instance']}")
    if given["as_json"]:
        show_json(result)
    else:
        click.echo(", ".join(f"{name} {value}" for name, value in result.items()))


@export.command("precomputed")
@_options
@scales_option
@supervoxels_option
def export_precomputed(scales: int | None, supervoxels: bool, **given: Any) -> None:
    """Write a labelmap as a sharded neuroglancer precomputed volume.

    neuroglancer, CloudVolume and TensorStore open the folder, or a copy of it in a bucket.
    """
    body: dict[str, Any] = {"supervoxels": supervoxels}
    if scales is not None:
        body["scales"] = scales
    _run("precomputed", given, body)


@export.command("shards")
@_options
@scales_option
@click.option(
    "--spec",
    type=click.File("rb"),
    help="The info of a sharded precomputed volume, as JSON. Default: that of export precomputed.",
)
@click.option(
    "--batch-size", type=click.IntRange(1, 4096), default=1, show_default=True,
    help="Blocks in one record batch.",
)  # fmt: skip
def export_shards(scales: int | None, spec: Any, batch_size: int, **given: Any) -> None:
    """Write the blocks of a labelmap as Arrow streams, one file for each shard."""
    body: dict[str, Any] = {"batch_size": batch_size}
    if spec is not None:
        try:
            body["spec"] = json.load(spec)
        except ValueError as problem:
            raise click.UsageError(f"--spec is no JSON: {problem}") from problem
    if scales is not None:
        body["scales"] = scales
    _run("shards", given, body)


@export.command("nanovdb")
@_options
@click.option("--label", type=click.IntRange(1), required=True, help="The body.")
@click.option(
    "--scale", type=click.IntRange(0, 255), default=0, show_default=True, help="Of voxels."
)
@click.option("--name", help="Of the grid and of its file. Default: label_ and the label.")
@supervoxels_option
def export_nanovdb(
    label: int, scale: int, name: str | None, supervoxels: bool, **given: Any
) -> None:
    """Write the voxels of one body as a NanoVDB index grid."""
    body: dict[str, Any] = {"label": label, "scale": scale, "supervoxels": supervoxels}
    if name:
        body["name"] = name
    _run("nanovdb", given, body)
