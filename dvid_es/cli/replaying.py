"""`replay`: a repository as it was at a moment, in a data folder of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvid_es.cli.output import as_json, data_options, progress_bar, settings_of, show_json
from dvid_es.errors import InvalidRequest
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.settings import Settings

if TYPE_CHECKING:
    from dvid_es.logs.base import Log
    from dvid_es.replay.catchup import Progress


@click.command()
@data_options
@click.option("--repo", required=True, metavar="UUID", help="The repository, by its root UUID.")
@click.option(
    "--upto", default="", metavar="MOMENT",
    help="The last event: a sequence, a mutation id, or a time as 2026-05-01T12:00:00Z. Default: all.",
)  # fmt: skip
@click.option("--into", required=True, type=click.Path(path_type=Path), help="The new data folder.")
@as_json
def replay(
    data: Path | None, config: Path | None, repo: str, upto: str, into: Path, as_json: bool
) -> None:
    """Copy a repository up to a moment into a new data folder, and apply its events there.

    The log may lie in files or on Kafka; the copy is in files. The server must be stopped. The source
    is only read. To look at a moment of a running server, `branch` with "at" or `?at=` is instant.
    """
    settings = settings_of(data, config)
    with progress_bar("replaying") as progress:
        events = replay_into(settings, repo, upto, into, progress)
    if as_json:
        show_json({"events": events, "data": str(into)})
    else:
        click.echo(f"{events} events; look at them: dvid-es serve --data {into} --port 8001")


def replay_into(
    settings: Settings, root: str, upto: str, into: Path, progress: "Progress | None" = None
) -> int:
    """Make a data folder that holds one repository as it was at a moment; return its events.

    Args:
        settings: of the data folder that is copied from; no server may have it.
        root: UUID of the repository.
        upto: the last event: a sequence, a mutation id or a time; "" for the last one there is.
        into: the new folder, with the log in files whatever backend the source has.
        progress: hears of what is copied and applied.

    Raises:
        InvalidRequest: there is no such repository or moment, or `into` is there.
        SettingsError: another process has the data folder.
        CorruptLog: the log is damaged.
        StorageFull: no space; what is in `into` is no data folder yet.
    """
    from dvid_es.bootstrap import OpenedData, file_log
    from dvid_es.logs.disk import DISK
    from dvid_es.logs.packs import FilePacks
    from dvid_es.replay.copying import copy_events, copy_packs
    from dvid_es.replay.places import Places, mark_clean, remove, write_layout
    from dvid_es.replay.rebuild import build
    from dvid_es.streams import Stream

    if into.exists():
        raise InvalidRequest(f"{into} exists already: name a new folder")
    opened = OpenedData(settings)
    try:
        source = opened.streams.get(root)
        stop = _events_upto(source.log, upto)
        unfinished = into.with_name(into.name + ".unfinished")
        remove(unfinished)
        folder = Places(unfinished).repos / root
        folder.mkdir(mode=0o700, parents=True)
        copy_packs(Places(settings.data).repos / root / "packs", folder / "packs")
        target = Stream(root, file_log(folder / "log", root), FilePacks(folder / "packs"))
        try:
            copy_events(source.log, target.log, stop, progress)
            places = Places(unfinished)
            write_layout(places.projections)
            build(places.projections, [target], opened.projector, progress=progress)
            mark_clean(places)
        finally:
            target.log.close()
            target.packs.close()
        unfinished.rename(into)
        DISK.sync_folder(into.parent)
        return stop
    finally:
        opened.close()


def _events_upto(log: "Log", upto: str) -> int:
    from dvid_es.replay.copying import stop_of_mutation
    from dvid_es.repos.moments import parse_time, sequence_at_time

    if not upto:
        return log.end
    if not (upto.isascii() and upto.isdigit()):
        time_ns = parse_time(upto)
        if time_ns is None:
            raise InvalidRequest(f'"{upto}" is no sequence, no mutation id, and no time')
        return sequence_at_time(log, log.end, time_ns) + 1
    if int(upto) >= FIRST_MUTATION_ID:
        return stop_of_mutation(log, int(upto))
    if int(upto) >= log.end:
        raise InvalidRequest(f"{upto} is behind the last event, {log.end - 1}")
    return int(upto) + 1
