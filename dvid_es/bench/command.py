"""`dvid-es bench`: times named workloads against one DVID server, or against two in turn."""

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from dvid_es.bench.target import Target

# The exit codes of all commands, see docs/cli.md.
EXIT_DIFFERENT = 1
"""Answers were wrong, the servers' answers differed, or a workload failed."""

EXIT_REFUSED = 4
"""No such file or workload, or the server refused what the bench needs."""

EXIT_UNREACHABLE = 6
"""A server does not answer."""

BUSY_LOAD = 0.5
"""Load average per processor above which a warning is due."""


def _list(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from dvid_es.bench.workloads import WORKLOADS

    for one in WORKLOADS:
        bar = f"  (must {one.bar.must:g}x, goal {one.bar.goal:g}x)" if one.bar else ""
        click.echo(f"{one.name:24} {one.title}, {one.unit}{bar}")
    context.exit()


@click.command()
@click.option("--base", required=True, metavar="URL", help="The server to measure.")
@click.option("--against", metavar="URL", help="A second server, compared with the first.")
@click.option("--admintoken", default="", help="Sent when the repository is made.")
@click.option(
    "--volume",
    default="synthetic",
    show_default=True,
    metavar="FILE|synthetic",
    help="Segmentation: .npy, .npy.gz or .npy.ckl.gz; its labels become bodies.",
)
@click.option("--size", default=512, show_default=True, help="Voxels of each axis, at most.")
@click.option(
    "--workload",
    "chosen",
    multiple=True,
    metavar="NAME",
    help="Only these (repeatable; get-* too).",
)
@click.option("--repeat", default=5, show_default=True, type=click.IntRange(1), help="Repeats.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write JSON to this file."
)
@click.option("--server-pid", type=int, help="Process of --base; found by its port on Linux.")
@click.option("--against-pid", type=int, help="Process of --against.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the workloads and exit.",
)
def bench(
    base: str,
    against: str | None,
    admintoken: str,
    volume: str,
    size: int,
    chosen: tuple[str, ...],
    repeat: int,
    json_file: Path | None,
    server_pid: int | None,
    against_pid: int | None,
) -> None:
    """Time named workloads against a DVID server, or two in turn, and check their answers.

    Both servers get the same requests in plain DVID HTTP, in a repository that this command makes
    and leaves behind. Medians, extremes, CPU time of the servers and ratios go to stdout as a table.

    A ratio above 1 means that --against is better. "must" and "goal" are the ratios that dvid_es is
    held to against the original DVID. The exit code is 1 when an answer was wrong or the servers'
    answers differ.
    """
    # Here, so that other commands start without numpy and its kernels.
    from dvid_es.bench import report, runner
    from dvid_es.bench.selection import select
    from dvid_es.bench.volume import load as load_volume
    from dvid_es.errors import DvidError

    pids = {"base": server_pid, "against": against_pid}
    urls = {"base": base} | ({"against": against} if against else {})
    with ExitStack() as stack:
        try:
            selected = select(chosen)
            targets = [
                stack.enter_context(closing(_prepared(name, url, pids[name], admintoken)))
                for name, url in urls.items()
            ]
            load = _load_average()
            data = load_volume(volume, size)
        except DvidError as error:
            _fail(str(error), EXIT_REFUSED)
        z, y, x = data.shape_zyx
        click.echo(
            f"{data.name}: {x} x {y} x {z} voxels, {len(data.blocks)} blocks of"
            f" {len(data.stream) / len(data.blocks) / 1000:.1f} KB, {len(data.present)}"
            f" supervoxels, {len(data.members)} bodies",
            err=True,
        )
        results = runner.run(
            [one(data) for one in selected],
            targets,
            repeat,
            lambda text: click.echo(text, err=True),
        )
        click.echo(report.as_table(results, [one.name for one in targets]))
        if json_file:
            whole = report.as_json(results, targets, report.about(data), load)
            json_file.write_text(json.dumps(whole, indent=1) + "\n")
    if any(result.problems for result in results):
        raise SystemExit(EXIT_DIFFERENT)


def _prepared(name: str, url: str, pid: int | None, admintoken: str) -> "Target":
    from dvid_es.bench.target import Target, TargetError, TargetUnreachable

    try:
        target = Target(name, url, admintoken, pid)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        target.prepare()
    except TargetError as error:
        target.close()
        code = EXIT_UNREACHABLE if isinstance(error, TargetUnreachable) else EXIT_REFUSED
        _fail(str(error), code)
    if target.pid is None:
        click.echo(f"{name}: process unknown, so no CPU times", err=True)
    return target


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    raise SystemExit(code)


def _load_average() -> float | None:
    from dvid_es.bench.process import load_average, processors

    load = load_average()
    if load is not None and load > BUSY_LOAD * processors():
        click.echo(f"this machine is busy (load {load:.1f}): wall times will be too long", err=True)
    return load
