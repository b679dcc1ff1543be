"""`log stat|tail|verify|repair|move`: looking at logs, also of a running server; mending, moving them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
from dvid_es.logs.kafka_places import read_marker
from dvid_es.logs.reader import LogReader
from dvid_es.replay.places import Places
from dvid_es.settings import Settings

if TYPE_CHECKING:
    from dvid_es.logs.kafka_client import Cluster
    from dvid_es.logs.kafka_read import KafkaReader


@click.group()
def log() -> None:
    """Look at the event logs, check them, mend them, move them."""


repo_option = click.option("--repo", metavar="UUID", help="Only this repository, by its root UUID.")


@contextmanager
def _brokers(settings: Settings) -> Iterator[Callable[[], "Cluster"]]:
    """Give the brokers to whoever asks; nobody is asked if no log is on Kafka."""
    from dvid_es.bootstrap import StreamOpener

    opener = StreamOpener(settings)
    try:
        yield opener.cluster
    finally:
        opener.close()


def _open(folder: Path, cluster: "Callable[[], Cluster]") -> "LogReader | KafkaReader":
    """Return a reader of the log of a repository, wherever its events are."""
    if read_marker(folder / "log") is None:
        return LogReader(folder / "log")
    from dvid_es.logs.kafka_read import KafkaReader

    return KafkaReader(folder / "log", cluster())


def _folders(settings: Settings, repo: str | None) -> list[Path]:
    """Return the folders of the repositories.

    Raises:
        InvalidRequest: there is none of that name.
    """
    repos = Places(settings.data).repos
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
    settings = settings_of(data, config)
    with _brokers(settings) as cluster:
        for folder in _folders(settings, repo):
            events = _open(folder, cluster).end
            segments, log_bytes = _sizes(folder / "log", ".log")
            packs, pack_bytes = _sizes(folder / "packs", ".pack")
            marker = read_marker(folder / "log")
            rows.append(
                {
                    "repo": folder.name, "events": events, "segments": segments,
                    "log_bytes": log_bytes, "packs": packs, "pack_bytes": pack_bytes,
                    "topic": marker.topic if marker else "",
                }
            )  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        headings = ("repo", "events", "segments", "log_bytes", "packs", "pack_bytes", "topic")
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

    settings = settings_of(data, config)
    (folder,) = _folders(settings, repo)
    with _brokers(settings) as cluster:
        opened = _open(folder, cluster)
        first = max(0, opened.end - count) if start is None else start
        found = list(opened.read(first, first + count))
    for stored in found:
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
    settings = settings_of(data, config)
    folders = _folders(settings, repo)
    packs = [
        (folder / "packs", number)
        for folder in folders
        if (folder / "packs").is_dir()
        for number in list_packs(folder / "packs")
    ]
    with _brokers(settings) as cluster, progress_bar("checking") as progress:
        for checked, folder in enumerate(folders, 1):
            if read_marker(folder / "log") is None:
                findings.extend(verify_log(folder / "log"))
            else:
                from dvid_es.logs.kafka_read import verify_topic

                findings.extend(verify_topic(folder / "log", cluster()))
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

    (folder,) = _folders(settings_of(data, config), repo)
    if marker := read_marker(folder / "log"):
        raise InvalidRequest(f"the log of {folder.name} is the topic {marker.topic}: mend that")
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


@log.command()
@data_options
@click.argument("repo", metavar="UUID")
@click.option(
    "--to", "target", type=click.Choice(["kafka", "filelog"]), required=True,
    help="Where the events shall be.",
)  # fmt: skip
@as_json
def move(data: Path | None, config: Path | None, repo: str, target: str, as_json: bool) -> None:
    """Carry the events of a repository from the filelog to Kafka, or back.

    The server must be stopped. The copy is read again and compared before it takes the log's place; the
    old log is kept, a crash leaves one of the two. Packs stay where they are.
    """
    from dvid_es.bootstrap import move_log

    settings = settings_of(data, config)
    (folder,) = _folders(settings, repo)
    with progress_bar("moving") as progress:
        moved = move_log(settings, folder, target, progress)
    if as_json:
        show_json({**moved._asdict(), "kept": str(moved.kept)})
    else:
        click.echo(f"{moved.events} events are on {target} now, digest {moved.digest[:16]}")
        click.echo(f"the old log is kept: {moved.kept}")
