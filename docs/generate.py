#!/usr/bin/env python3
"""Write docs/events.md, docs/settings.md and docs/cli.md from the code; `--check` only compares.

Run it (`make docs`) after adding an event, a setting or a command: tests/test_docs.py compares too.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import dvid_es.bootstrap  # noqa: F401 - it registers all events
from dvid_es.cli import main
from dvid_es.cli.main import EPILOG
from dvid_es.events import BY_NUMBER, Event, Header
from dvid_es.settings import Settings
from dvid_es.settings_toml import KEYS, NAMED, Ignored

FOLDER = Path(__file__).parent
_MADE = "<!-- made by docs/generate.py: edit the code, then run `make docs` -->"


def field_texts(kind: type) -> Iterator[tuple[str, str, str, str]]:
    """Return name, type, default and text of the fields that a class declares, from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    for place, node in enumerate(body):
        if not isinstance(node, ast.AnnAssign):
            continue
        following = body[place + 1] if place + 1 < len(body) else None
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split())
        default = "" if node.value is None else ast.unparse(node.value)
        yield ast.unparse(node.target), ast.unparse(node.annotation), default, text


def events() -> str:
    """Return the page of all events."""
    intro = (
        "What the log of a repository holds. Names and numbers are for ever; a field may be added at the"
        " end with a default, anything else is a new schema with an upcaster. `Bulk` is bytes, inline or"
        " in a pack; numbers in bulk are little-endian."
    )
    lines = ["# Events", "", _MADE, "", intro, "", "Every event also has a header:", ""]
    lines += [f"- `{name}`: {text}" for name, _, _, text in field_texts(Header)]
    for number, known in sorted(BY_NUMBER.items()):
        if not known.kind.__module__.startswith("dvid_es."):
            continue  # of a test
        doc = (inspect.getdoc(known.kind) or "").split("\n\n")
        lines += ["", f"## {known.name}", "", f"Number {number}, schema {known.schema}. {doc[0]}"]
        lines += ["", *(" ".join(part.split()) for part in doc[1:])] if len(doc) > 1 else []
        bases = [base for base in reversed(known.kind.__mro__) if issubclass(base, Event)]
        fields = [field for base in bases[1:] for field in field_texts(base)]
        if fields:
            lines.append("")
        for name, kind, default, text in fields:
            value = f" = {default}" if default else ""
            lines.append(f"- `{name}: {kind}{value}`{': ' + text if text else ''}")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Return the page of all settings."""
    intro = (
        "`dvid-es serve --config FILE` reads DVID's TOML and the sections `[dvid_es]` and `[limits]`."
        " Options of the command line count more than the file. Keys match in any case. An unknown key"
        " is an error that names the nearest known one; `dvid-es config check FILE` says what a file"
        " comes to. The admin token is read from the environment, `DVID_ADMIN_TOKEN`."
    )
    lines = ["# Settings", "", _MADE, "", intro, "", "## What they come to", ""]
    for name, kind, default, text in field_texts(Settings):
        value = f" = {default}" if default else ""
        lines.append(f"- `{name}: {kind}{value}`{': ' + text if text else ''}")
    lines += ["", "## Keys of the file", ""]
    for section, keys in KEYS.items():
        lines += [f"### [{section}]", ""]
        for key, meaning in keys.items():
            reason = (
                f": accepted without effect, {meaning[0]}" if isinstance(meaning, Ignored) else ""
            )
            lines.append(f"- `{key}`{reason}")
        lines.append("")
    for section, named in NAMED.items():
        keys_text = ", ".join(f"`{key}`" for key in named)
        lines += [f"### [{section}.NAME]", "", f"- {keys_text}", ""]
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all commands."""
    lines = ["# The command line", "", _MADE, "", " ".join(EPILOG.split()), ""]
    for path, command in _walk(main, "dvid-es"):
        with click.Context(command, info_name=path) as context:
            lines += [f"## {path}", "", "```", *_help(command, context), "```", ""]
    return "\n".join(lines)


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from _walk(inner, f"{path} {name}")


def _help(command: click.Command, context: click.Context) -> list[str]:
    context.terminal_width = context.max_content_width = 92
    return [line.rstrip() for line in command.get_help(context).splitlines()]


PAGES = {"events.md": events, "settings.md": settings, "cli.md": commands}


def run(arguments: list[str]) -> int:
    """Write the pages, or say which are out of date."""
    stale: list[Any] = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
    print("out of date:" if "--check" in arguments else "written:", *stale or ["nothing"])
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
