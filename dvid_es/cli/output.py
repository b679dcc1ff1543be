"""What commands have in common: options, tables, JSON, progress bars."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from dvid_es.settings import Settings, load

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A TOML file: DVID's, with a section [dvid_es].",
)
data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The data folder. Default: dvid-data, or what the configuration says.",
)


def data_options(command: F) -> F:
    """Add --data and --config to a command."""
    return data_option(config_option(command))


def settings_of(data: Path | None, config: Path | None) -> Settings:
    """Return the settings for a command that works on a data folder.

    Raises:
        SettingsError: a setting is wrong.
    """
    return load(config, data=data)


def show_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, indent=1))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    for row in (list(headings), *texts):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far a replay is, on standard error if that is a terminal.

    Yields:
        A function of a repository's root UUID, the events done, and all of them.
    """
    bar: Any = None
    current = ""

    def report(root: str, done: int, length: int) -> None:
        nonlocal bar, current
        if root != current:
            if bar is not None:
                bar.__exit__(None, None, None)
            bar = click.progressbar(
                length=length,
                label=f"{label} {root[:8]}",
                file=sys.stderr,
                show_pos=True,
            )
            bar.__enter__()
            current = root
        bar.update(done - bar.pos)

    if not sys.stderr.isatty():
        yield lambda root, done, length: None
        return
    try:
        yield report
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
