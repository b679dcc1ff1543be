"""Completion of commands and options in shells."""

import click
from click.shell_completion import get_completion_class

_PLACES = {
    "bash": 'eval "$(dvid-es completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(dvid-es completion zsh)"   in ~/.zshrc',
    "fish": "dvid-es completion fish > ~/.config/fish/completions/dvid-es.fish",
}


@click.command(epilog="  \n".join(f"{shell}: {place}" for shell, place in _PLACES.items()))
@click.argument("shell", type=click.Choice(sorted(_PLACES)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands and options."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "dvid-es", "_DVID_ES_COMPLETE").source())
