"""`fathomx completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fathomx_command import COMPLETION, commands

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Prints what makes SHELL (bash, zsh or fish) complete commands and options.

    \b
    bash:  fathomx completion bash >> ~/.bashrc
    zsh:   fathomx completion zsh >> ~/.zshrc
    fish:  fathomx completion fish > ~/.config/fish/completions/fathomx.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(commands, {}, "fathomx", COMPLETION).source())
