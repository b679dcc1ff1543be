"""`export parquet` and `sql`: the history of repositories as files and as answers."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvid_es.cli.client import Client, quoted
from dvid_es.cli.names import server_options
from dvid_es.cli.output import (
    as_json,
    config_option,
    data_options,
    progress_bar,
    settings_of,
    show_json,
    show_table,
)
from dvid_es.errors import CorruptStore, InvalidRequest
from dvid_es.settings import Settings

if TYPE_CHECKING:
    from dvid_es.analytics.export import Source


@click.command()
@data_options
@click.option("--repo", metavar="UUID", help="Only this repository, by its root UUID.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the export. Default: analytics in the data folder, where queries look.",
)
@click.option(
    "--table", "tables", nargs=3, multiple=True, metavar="TABLE INSTANCE VERSION",
    help="Also what an instance holds at a version: bodies, mapping, keyvalues, spans or blobs. Repeatable.",
)  # fmt: skip
@as_json
def parquet(
    data: Path | None,
    config: Path | None,
    repo: str | None,
    into: Path | None,
    tables: tuple[tuple[str, str, str], ...],
    as_json: bool,
) -> None:
    """Bring an export of all events to Parquet up to date; the server may be running.

    What was exported before is not written again. A crash leaves the export as it was, or further.
    """
    from dvid_es.analytics.export import Wanted
    from dvid_es.analytics.export import export as export_all
    from dvid_es.analytics.offline import find_version
    from dvid_es.bootstrap import described
    from dvid_es.replay.places import Places

    settings = settings_of(data, config)
    places, rows = Places(settings.data), []
    with progress_bar("exporting") as progress:
        for root in _roots(places.repos, repo):
            with _source(settings, root) as source:
                manifest = export_all(
                    source,
                    (into or places.analytics) / root,
                    described(),
                    wanted=[
                        Wanted(table, instance, find_version(source.repo, version))
                        for table, instance, version in tables
                    ],
                    progress=progress,
                )
            rows.append(
                {
                    "repo": root,
                    "events": manifest.upto,
                    "parts": len(manifest.parts),
                    "bytes": sum(part.bytes for part in manifest.parts),
                    "tables": len(manifest.states),
                }
            )
    if as_json:
        show_json(rows)
    else:
        headings = ("repo", "events", "parts", "bytes", "tables")
        show_table(headings, [[row[name] for name in headings] for row in rows])


def _roots(repos: Path, repo: str | None) -> list[str]:
    found = sorted(path.name for path in repos.iterdir() if path.is_dir()) if repos.is_dir() else []
    if repo is not None:
        found = [name for name in found if name.startswith(repo)]
        if len(found) != 1:
            raise InvalidRequest(f"{len(found)} repositories in {repos} begin with {repo}")
    return found


@contextmanager
def _source(settings: Settings, root: str) -> "Iterator[Source]":
    """Open one repository of a data folder."""
    from dvid_es.analytics.offline import opened
    from dvid_es.bootstrap import open_reader
    from dvid_es.projections.store import Store
    from dvid_es.replay.places import LAYOUT, Places, layout_of

    places = Places(settings.data)
    if layout_of(places.projections) != LAYOUT:
        raise CorruptStore(
            "there are no projections of this layout, which say what is durable: start the server"
        )
    store = Store(places.projections, read_only=True)
    try:
        with (
            open_reader(settings, places.repos / root / "log") as log,
            opened(store, root, log, places.repos / root / "packs") as found,
        ):
            yield found
    finally:
        store.close()


@click.command()
@click.argument("query")
@click.option("--repo", metavar="UUID", help="The repository; needed if there are several.")
@server_options
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Ask this data folder instead of a server.",
)
@config_option
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv", "arrow", "parquet"]),
    default="table", show_default=True, help="Of the answer.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file for the answer."
)
def sql(
    query: str,
    repo: str | None,
    server: str,
    admintoken: str,
    data: Path | None,
    config: Path | None,
    form: str,
    output: Path | None,
) -> None:
    """Answer a SELECT over the whole history of a repository; - reads it from standard input.

    docs/analytics.md describes the views: mutations, labels, lineage, users_daily, versions and others.
    """
    if query == "-":
        query = sys.stdin.read()
    wanted = "json" if form == "table" else form
    if data is not None or config is not None:
        body = _ask_folder(settings_of(data, config), repo, query, wanted)
    else:
        client = Client(server, admintoken)
        root = repo or _only(list(client.json("GET", "/api/repos/info")))
        path = f"/api/repo/{quoted(root)}/sql?format={wanted}"
        body = client.call("POST", path, query.encode())
    if output is not None:
        output.write_bytes(body)
    elif form == "table":
        _show(body)
    else:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()


def _ask_folder(settings: Settings, repo: str | None, query: str, form: str) -> bytes:
    from dvid_es.analytics.offline import subject_of
    from dvid_es.analytics.service import Query
    from dvid_es.bootstrap import make_analytics
    from dvid_es.replay.places import Places

    roots = _roots(Places(settings.data).repos, repo)
    with (
        tempfile.TemporaryDirectory(prefix="dvid-es-") as scratch,
        _source(settings, _only(roots)) as source,
    ):
        analytics = make_analytics(settings, Path(scratch) / "sql")
        try:
            with analytics.slot() as job:
                return analytics.answer(Query(query, None, form), subject_of(source), job).body
        finally:
            analytics.close()


def _only(roots: list[str]) -> str:
    if len(roots) != 1:
        raise InvalidRequest(f"there are {len(roots)} repositories: name one with --repo")
    return roots[0]


def _show(body: bytes) -> None:
    import msgspec

    answer: dict[str, Any] = msgspec.json.decode(body)
    rows = [["" if cell is None else cell for cell in row] for row in answer["rows"]]
    show_table(answer["columns"], rows)
