"""`holdfast replay`: does the code still do what the log says?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command

if TYPE_CHECKING:
    from holdfast.fleet.replaying import Verdict
    from holdfast.records.executions import Execution
    from holdfast.store.store import Store


@click.command("replay", cls=Command)
@click.argument("id_", metavar="ID")
@click.pass_obj
def command(invocation: Invocation, id_: str) -> int:
    """Run the code of an execution against its recorded results, and report where it differs.

    No step runs and nothing is written: recorded results are given back, and a call that has none is where an
    unfinished execution goes on. A Python workflow is loaded from where it was; give up after --timeout
    (default 1m).

    Exit codes: 0 the code follows the log, 4 it does not.
    """
    from datetime import timedelta

    from holdfast.cli.output import counted
    from holdfast.cli.reading import with_store
    from holdfast.fleet.replaying import diverged, replay
    from holdfast.programs import load_program

    limit = invocation.timeout or timedelta(minutes=1)

    async def run(store: Store) -> tuple[Execution, Verdict]:
        execution = await store.get_execution(id_)
        return execution, await replay(store, execution, load_program, timeout=limit)

    execution, verdict = with_store(invocation, run)
    if verdict.difference is not None:
        raise diverged(verdict, execution)
    if not invocation.output.is_table:
        held_at = list(verdict.held_at)
        row = {"id": execution.id, "same": True, "replayed": verdict.replayed, "held_at": held_at}
        invocation.output.record(row)
        return 0
    ahead = f"; it goes on at {', '.join(verdict.held_at[:3])}" if verdict.held_at else ""
    results = counted(verdict.replayed, "result", "results")
    invocation.say(f"✔ {execution.id}: the code follows the log ({results}){ahead}")
    return 0
