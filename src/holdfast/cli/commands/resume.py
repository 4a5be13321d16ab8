"""`holdfast resume`: go on with executions that were interrupted or wait."""

from __future__ import annotations

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command


@click.command("resume", cls=Command)
@click.argument("ids", nargs=-1, metavar="ID…")
@click.option(
    "--all-interrupted", is_flag=True,
    help="all that could go on now: stopped, left by a dead owner, or waiting for a timer that is due",
)  # fmt: skip
@click.option("--steal", is_flag=True, help="take executions over, even from a live owner")
@click.option(
    "--wait", metavar="DURATION", default="10m", show_default=True,
    help="stay for timers up to this long; longer ones end the command with exit code 9",
)  # fmt: skip
@click.pass_obj
def command(
    invocation: Invocation, ids: tuple[str, ...], all_interrupted: bool, steal: bool, wait: str
) -> int:
    """Go on with executions from what is stored of them.

    ID may be a unique beginning of an id, or @last. Several go on side by side. The definition that is stored
    with an execution is the one that runs, whatever its file says now. With --timeout they are handed back
    after that long.

    Exit codes are those of `run`; 10 when several ended differently.
    """
    from holdfast.cli.running import resume
    from holdfast.durations import parse_duration
    from holdfast.errors import InvalidUsage

    if bool(ids) == all_interrupted:
        raise InvalidUsage(
            "name executions, or give --all-interrupted", where="resume", fix="holdfast executions list"
        )
    return resume(invocation, ids, steal=steal, wait=parse_duration(wait))
