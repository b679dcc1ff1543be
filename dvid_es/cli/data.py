"""`rebuild`, `verify`, `snapshot`: work on a data folder."""

from pathlib import Path

import click
import msgspec

from dvid_es.cli.exits import FOUND
from dvid_es.cli.output import (
    as_json,
    data_options,
    progress_bar,
    settings_of,
    show_json,
    show_table,
)


@click.command()
@data_options
@click.option("--repo", metavar="UUID", help="Only this repository, by its root UUID.")
@click.option(
    "--upto", type=click.IntRange(0), metavar="N",
    help="Apply only the first N events of --repo; needs --into.",
)  # fmt: skip
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="Make the store in this new folder and leave the live one as it is.",
)
@as_json
def rebuild(
    data: Path | None,
    config: Path | None,
    repo: str | None,
    upto: int | None,
    into: Path | None,
    as_json: bool,
) -> None:
    """Make all projections anew from the logs, aside, and swap them in when they are whole.

    The server must be stopped. The old projections stay in use until the swap, which a crash cannot
    leave half done. Rebuilding also accepts logs that are shorter than the projections were.
    """
    from dvid_es.bootstrap import OpenedData
    from dvid_es.replay.rebuild import build
    from dvid_es.replay.rebuild import rebuild as rebuild_all

    if upto is not None and (repo is None or into is None):
        raise click.UsageError("--upto needs --repo and --into: a live store has all events")
    if into is not None and into.exists():
        raise click.UsageError(f"{into} exists already: name a new folder")
    opened = OpenedData(settings_of(data, config))
    try:
        streams = opened.streams.all()
        with progress_bar("replaying") as progress:
            if into is None:
                applied = rebuild_all(
                    opened.places, streams, opened.projector, root=repo, progress=progress
                )
            else:
                chosen = streams if repo is None else [opened.streams.get(repo)]
                limits = None if upto is None or repo is None else {repo: upto}
                applied = build(into, chosen, opened.projector, upto=limits, progress=progress)
        if as_json:
            show_json({"events": applied, "repositories": len(streams)})
        else:
            click.echo(f"applied {applied} events of {len(streams)} repositories")
    finally:
        opened.close()


@click.command()
@data_options
@click.option(
    "--scratch",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to rebuild; default: beside the projections. Needs as much space as they.",
)
@as_json
@click.pass_context
def verify(
    context: click.Context,
    data: Path | None,
    config: Path | None,
    scratch: Path | None,
    as_json: bool,
) -> None:
    """Rebuild all projections aside and compare them with the live ones; exit code 1 if they differ.

    The server must be stopped. For each part that differs, the first differing key is shown with
    both values.
    """
    from dvid_es.bootstrap import OpenedData, row_kinds
    from dvid_es.projections.store import Store
    from dvid_es.replay.opening import examine_apart
    from dvid_es.replay.places import remove
    from dvid_es.replay.verify import verify as compare

    opened = OpenedData(settings_of(data, config))
    folder = (scratch or opened.places.data) / "projections.verify"
    try:
        remove(folder)
        live = opened.places.projections
        if not (live / "data.mdb").exists():
            click.echo("there are no projections to verify; a start makes them", err=True)
            context.exit(FOUND)
        examine_apart(live)
        store = Store(live, read_only=True)
        try:
            with progress_bar("replaying") as progress:
                report = compare(
                    store, opened.streams.all(), opened.projector, row_kinds(), folder, progress
                )
        finally:
            store.close()
    finally:
        remove(folder)
        opened.close()
    if as_json:
        show_json(msgspec.to_builtins(report))
    else:
        show_table(
            ("repository", "instance", "kind", "rows", "digest"),
            [(p.root[:8], p.instance, p.name, p.rows, p.digest[:16]) for p in report.parts],
        )
        for found in report.differences:
            click.echo(
                f"DIFFERENT: {found.name} of instance {found.instance} in {found.root}\n"
                f"  first at key {found.key}\n  live     {found.live}\n  rebuilt  {found.rebuilt}"
            )
        if not report.differences:
            click.echo(f"equal, at {sum(report.events.values())} events")
    if report.differences:
        context.exit(FOUND)


@click.command()
@data_options
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="How many stay. Default: 3, or what the configuration says.",
)
@click.option("--list", "list_only", is_flag=True, help="List the snapshots and check them.")
@as_json
@click.pass_context
def snapshot(
    context: click.Context,
    data: Path | None,
    config: Path | None,
    keep: int | None,
    list_only: bool,
    as_json: bool,
) -> None:
    """Copy the projections as they are now; a start without projections goes on from the newest copy.

    The server may be running.
    """
    from dvid_es.bootstrap import row_kinds
    from dvid_es.clock import SystemClock
    from dvid_es.replay import snapshot as snapshots
    from dvid_es.replay.places import Places

    settings = settings_of(data, config)
    places = Places(settings.data)
    if list_only:
        rows = [(found, snapshots.check(found)) for found in snapshots.listing(places)]
        if as_json:
            show_json([_as_builtins(found) | {"problem": problem} for found, problem in rows])
        else:
            show_table(
                ("snapshot", "events", "bytes", "state"),
                [
                    (f.name, sum(f.manifest.offsets.values()), f.manifest.bytes, problem or "good")
                    for f, problem in rows
                ],
            )
        if any(problem for _, problem in rows):
            context.exit(FOUND)
        return
    now_ns = SystemClock().now_ns()
    taken = snapshots.take(places, row_kinds(), now_ns, keep or settings.snapshots_kept)
    if taken is None:
        click.echo("there are no projections to copy", err=True)
        context.exit(FOUND)
    if as_json:
        show_json(_as_builtins(taken))
    else:
        events = sum(taken.manifest.offsets.values())
        click.echo(f"snapshot {taken.name}: {events} events, {taken.manifest.bytes} bytes")


def _as_builtins(found: object) -> dict[str, object]:
    from dvid_es.replay.snapshot import Snapshot

    assert isinstance(found, Snapshot)
    manifest: dict[str, object] = msgspec.to_builtins(found.manifest)
    return {"name": found.name, "folder": str(found.folder), **manifest}
