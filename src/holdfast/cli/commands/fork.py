"""`holdfast fork`: a new execution that begins where another one was."""

from __future__ import annotations

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command


@click.command("fork", cls=Command)
@click.argument("source", metavar="ID")
@click.option("--at", metavar="STEP", help="the step to begin with  [default: the first]")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="another input, as a JSON object")
@click.option("--id", "id_", metavar="NEW", help="the id of the new execution")
@click.option("--run", "run_here", is_flag=True, help="run it here, as `holdfast resume` does")
@click.pass_obj
def command(
    invocation: Invocation, source: str, at: str | None, given: str | None, id_: str | None, run_here: bool
) -> int:
    """Make a new execution from another one, in whatever state that is.

    It has the results that ID recorded before STEP, runs STEP and what follows, and belongs to the same
    queue. ID itself stays as it is. With another input the steps in front of STEP have to be called with the
    same arguments as they were: one that is not stops the run with HF4005. STEP may be a path, or the name
    that several begin with.

    Prints the new id. Exit codes: 0 made, 3 no such execution or step, 4 the id is taken; with --run those
    of `run`.
    """
    from holdfast.cli.forking import fork_execution

    return fork_execution(invocation, source, at=at, given=given, id=id_, run=run_here)
