"""`holdfast completion`: what a shell has to read so that Tab completes commands, flags, ids and names."""

from __future__ import annotations

import click

from holdfast.cli.completion import SHELLS, script
from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    For this shell: eval "$(holdfast completion bash)". To keep it, put that line into ~/.bashrc, or ~/.zshrc
    with zsh; fish reads ~/.config/fish/completions/holdfast.fish, PowerShell what $PROFILE names.

    Ids and names come from the configured store, which is only read.
    """
    context.ensure_object(Invocation).output.text(script(shell, context.find_root().command))
