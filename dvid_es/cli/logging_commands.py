"""`log stat|tail|verify|repair`: looking at the logs, also of a running server; mending them."""

import json
from pathlib import Path

import click

from dvid_es.cli.exits import FOUND
from dvid_es.cli.output import (
    as_json,
    data_options,
    progress_bar,
    settings_of,
    show_json,
    show_table,
)
from dvid_es.errors import InvalidRequest
from dvid_es.logs.base import Finding
from dvid_es.logs.reader import LogReader
from dvid_es.replay.places import Places


@click.group()
def log() -> None:
    """Look at the event logs, check them, mend them."""


repo_option = click.option("--repo", metavar="UUID", help="Only this repository, by its root UUID.")


def _folders(data: Path | None, config: Path | None, repo: str | None) -> list[Path]:
    """Return the folders of the repositories.

    Raises:
        InvalidRequest: there is none of that name.
    """
    repos = Places(settings_of(data, config).data).repos
    found = sorted(path for path in repos.iterdir() if path.is_dir()) if repos.is_dir() else []
    if repo is not None:
        found = [path for path in found if path.name.startswith(repo)]
        if len(found) != 1:
            raise InvalidRequest(f"{len(found)} repositories in {repos} begin with {repo}")
    return found


@log.command()
@data_options
@repo_option
@as_json
def stat(data: Path | None, config: Path | None, repo: str | None, as_json: bool) -> None:
    """Show how large the logs and packs are."""
    rows = []
    for folder in _folders(data, config, repo):
        events = LogReader(folder / "log").end
        segments, log_bytes = _sizes(folder / "log", ".log")
        packs, pack_bytes = _sizes(folder / "packs", ".pack")
        rows.append(
            {
                "repo": folder.name, "events": events, "segments": segments,
                "log_bytes": log_bytes, "packs": packs, "pack_bytes": pack_bytes,
            }
        )  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        headings = ("repo", "events", "segments", "log_bytes", "packs", "pack_bytes")
        show_table(headings, [[row[name] for name in headings] for row in rows])


def _sizes(folder: Path, suffix: str) -> tuple[int, int]:
    files = list(folder.glob(f"*{suffix}")) if folder.is_dir() else []
    return len(files), sum(path.stat().st_size for path in files)


@log.command()
@data_options
@click.option("--repo", metavar="UUID", required=True, help="The repository, by its root UUID.")
@click.option(
    "-n", "count", type=click.IntRange(1), default=10, help="How many of the last events."
)
@click.option("--from", "start", type=click.IntRange(0), help="Begin at this offset instead.")
@as_json
def tail(
    data: Path | None,
    config: Path | None,
    repo: str,
    count: int,
    start: int | None,
    as_json: bool,
) -> None:
    """Show events, one a line."""
    import dvid_es.bootstrap  # noqa: F401 - it registers all events
    from dvid_es.events import decode, to_builtins

    (folder,) = _folders(data, config, repo)
    opened = LogReader(folder / "log")
    first = max(0, opened.end - count) if start is None else start
    for stored in opened.read(first, first + count):
        shown = to_builtins(decode(*stored))
        if as_json:
            click.echo(json.dumps(shown))
            continue
        header = " ".join(
            f"{key}={value}"
            for key, value in shown.items()
            if key not in ("offset", "event", "facts", "time_ns", "schema")
        )
        facts = json.dumps(shown["facts"])
        click.echo(f"{shown['offset']:>9}  {shown['event']:<28} {header}  {facts}")


@log.command()
@data_options
@repo_option
@as_json
@click.pass_context
def verify(
    context: click.Context,
    data: Path | None,
    config: Path | None,
    repo: str | None,
    as_json: bool,
) -> None:
    """Read every byte of logs and packs; exit code 1 if anything is wrong."""
    from dvid_es.logs.disk import DISK
    from dvid_es.logs.packcheck import verify_pack
    from dvid_es.logs.packfile import list_packs, pack_name
    from dvid_es.logs.repair import verify_log

    findings: list[Finding] = []
    folders = _folders(data, config, repo)
    packs = [
        (folder / "packs", number)
        for folder in folders
        if (folder / "packs").is_dir()
        for number in list_packs(folder / "packs")
    ]
    with progress_bar("checking") as progress:
        for checked, folder in enumerate(folders, 1):
            findings.extend(verify_log(folder / "log"))
            progress("logs", checked, len(folders))
        for done, (folder, number) in enumerate(packs, 1):
            findings.extend(verify_pack(DISK, folder / pack_name(number), number))
            progress("packs", done, len(packs))
    if as_json:
        show_json([found._asdict() for found in findings])
    else:
        for found in findings:
            click.echo(f"{found.path}, byte {found.offset}: {found.problem}")
        click.echo(f"{len(folders)} repositories checked, {len(findings)} findings")
    if findings:
        context.exit(FOUND)


@log.command()
@data_options
@click.option("--repo", metavar="UUID", required=True, help="The repository, by its root UUID.")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Cut the log before the first damaged record; without it nothing is changed.",
)
@as_json
@click.pass_context
def repair(
    context: click.Context,
    data: Path | None,
    config: Path | None,
    repo: str,
    accept_loss: bool,
    as_json: bool,
) -> None:
    """Keep what is valid of a damaged log; what is cut is set aside, never deleted.

    Afterwards run `dvid-es rebuild`: the projections may hold events that are lost.
    """
    from dvid_es.logs.repair import repair as repair_log

    (folder,) = _folders(data, config, repo)
    report = repair_log(folder / "log", accept_loss)
    if as_json:
        show_json({**report._asdict(), "aside": str(report.aside) if report.aside else None})
    elif not report.damage:
        click.echo(f"{report.kept} events, nothing is damaged")
    elif report.aside is None:
        click.echo(f"{report.damage}\n{report.kept} events are valid and would be kept;")
        click.echo("what follows would be set aside: add --accept-loss to do it")
    else:
        click.echo(f"{report.kept} events are kept; the rest lies in {report.aside}")
        click.echo("now run: dvid-es rebuild")
    if report.damage and report.aside is None:
        context.exit(FOUND)
