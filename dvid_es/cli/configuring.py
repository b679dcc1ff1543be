"""`config` and `warmup`."""

from pathlib import Path
from typing import Any

import click
import msgspec

from dvid_es.cli.output import as_json, show_json
from dvid_es.settings import Settings, load


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@as_json
def check(file: Path, as_json: bool) -> None:
    """Check FILE: exit code 3 if it is wrong. Keys of DVID without effect here are listed."""
    settings = load(file)
    if as_json:
        show_json({"file": str(file), "notices": list(settings.notices)})
        return
    for notice in settings.notices:
        click.echo(f"note: {notice}")
    click.echo(f"{file} is right")


@config.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@as_json
def show(file: Path | None, as_json: bool) -> None:
    """Show all settings as FILE and the environment make them; no secret is shown."""
    settings = _shown(load(file))
    if as_json:
        show_json(settings)
        return
    for name, value in settings.items():
        click.echo(f"{name} = {value!r}")


def _shown(settings: Settings) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    del shown["config_text"]
    for secret in ("admin_token", "kafka_sasl_password"):
        shown[secret] = "(set)" if shown[secret] else ""
    return shown


@click.command()
def warmup() -> None:
    """Compile all numeric kernels into their cache: once, for images and before a benchmark."""
    click.echo("compiling; this may take a minute", err=True)
    # The datatypes' own kernels are compiled when they are imported.
    import dvid_es.bootstrap  # noqa: F401
    from dvid_es import codecs

    codecs.warmup()
    click.echo("all kernels are compiled")
