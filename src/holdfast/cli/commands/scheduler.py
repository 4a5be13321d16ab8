"""`holdfast scheduler`: start what schedules say until told to stop."""

from __future__ import annotations

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command


@click.command("scheduler", cls=Command)
@click.option("--once", is_flag=True, help="start what is due now, and end")
@click.option("--tick", metavar="DURATION", help="how soon changes are acted on  [scheduler.tick: 1s]")
@click.pass_obj
def command(invocation: Invocation, once: bool, tick: str | None) -> int:
    """Start what schedules say, when it is time, until SIGTERM or Ctrl-C.

    Any number of schedulers may run: each time of a schedule is started once. Workers run one each, unless
    scheduler.enabled is false. What is started waits in its queue for a worker. Makes and migrates the store
    like `run`.

    Exit codes: 0 stopped, 4 the store has a newer schema, 5 the store can not be reached at the start.
    """
    from holdfast.cli.scheduling import plan, serve

    settings = {} if tick is None else {"scheduler.tick": tick}
    config = invocation.load_config(settings=settings).config
    if invocation.flags.dry_run:
        return plan(invocation, config)
    return serve(invocation, config, once=once)
