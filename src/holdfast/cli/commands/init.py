"""`holdfast init`: the files of a new project."""

from __future__ import annotations

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command

_DONE = {"create": "created", "append": "changed", "keep": "kept"}
_PLANNED = {"create": "would create", "append": "would change", "keep": "would keep"}


@click.command("init", cls=Command)
@click.option("--example", is_flag=True, help="write hello.yaml and hello.py too")
@click.pass_obj
def command(invocation: Invocation, example: bool) -> None:
    """Make the configuration file and the store of a project in this folder.

    Writes holdfast.yaml, .env.example and the lines of .gitignore that are missing. What exists is kept
    as it is; running it again does no harm.
    """
    from holdfast.cli import project

    # A configuration that is wrong already is reported before anything is written beside it.
    invocation.load_config(inspect=True)
    steps = project.plan(invocation.cwd, example=example)
    if not invocation.flags.dry_run:
        project.carry_out(steps, invocation.cwd)
    words = _PLANNED if invocation.flags.dry_run else _DONE
    if not invocation.output.is_table:
        rows = [{"file": step.file, "action": words[step.action]} for step in steps]
        invocation.output.records(rows, ["file", "action"], key="file", dry_run=invocation.flags.dry_run)
        return
    for action, word in words.items():
        if files := [step.file for step in steps if step.action == action]:
            invocation.output.text(f"{word} {', '.join(files)}")
