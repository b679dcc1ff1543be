"""The group of all commands. Each imports what it needs when it runs, so that `--help` is quick."""

import logging
import sys
from typing import Any

import click

from dvid_es import __version__
from dvid_es.cli import (
    completion,
    configuring,
    data,
    export,
    fsck,
    history,
    job,
    logging_commands,
    names,
    replaying,
    serving,
    subscribe,
)
from dvid_es.cli.exits import code_of
from dvid_es.errors import DvidError

EPILOG = """Exit codes: 0 done; 1 a check found something wrong; 2 wrong usage; 3 wrong setting, or
address or data folder in use; 4 refused, nothing has changed; 5 stored bytes are damaged; 6 the
server, or a broker of the log, does not answer; 7 the disk is full."""


class Commands(click.Group):
    """Turns our errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except DvidError as problem:
            click.echo(f"Error: {problem}", err=True)
            ctx.exit(code_of(problem))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which somebody new needs them."""
        del ctx
        return [*self.commands, "bench"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; the bench is imported only when it is asked for."""
        if cmd_name == "bench":
            from dvid_es.bench.command import bench

            return bench
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dvid-es")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is being done.")
def main(verbose: bool) -> None:
    """DVID on an event log: a versioned data service for connectomics."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


for command in (
    serving.serve,
    names.repo,
    names.instance,
    data.verify,
    data.rebuild,
    data.snapshot,
    replaying.replay,
    fsck.fsck,
    logging_commands.log,
    export.export,
    job.job,
    history.sql,
    subscribe.subscribe,
    configuring.config,
    configuring.warmup,
    completion.completion,
):
    main.add_command(command)
