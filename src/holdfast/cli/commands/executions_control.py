"""`holdfast executions cancel`, `pause`, `resume` and `retry`: of some, or of all that fit a filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command

_WHERE = click.option(
    "--where", metavar="QUERY",
    help="all that fit this filter (see `executions list`): shows the count and asks first",
)  # fmt: skip
_NO_WAIT = click.option("--no-wait", is_flag=True, help="ask, and do not wait until it is so")
_REASON = click.option("--reason", default="", metavar="TEXT", help="why; it is kept in the log")


def _named(verb: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        asked = click.argument("ids", nargs=-1, metavar="[ID…]")(_WHERE(function))
        return click.command(verb, cls=Command)(asked)

    return decorate


@_named("cancel")
@_REASON
@click.option(
    "--deadline", metavar="DURATION",
    help="end them after this long, whatever their steps still do  [default: wait for the steps]",
)  # fmt: skip
@_NO_WAIT
@click.pass_obj
def cancel(
    invocation: Invocation,
    ids: tuple[str, ...],
    where: str | None,
    reason: str,
    deadline: str | None,
    no_wait: bool,
) -> int:
    """Stop executions for good, wherever they run.

    A process that runs one is told and stops it; waits for that up to --timeout (default 30s). Children are
    cancelled too, except those that were started detached. What was asked of people and agents is withdrawn.

    Exit codes: 0 cancelled, 9 asked but not ended yet, 4 ended already in another way; 10 when several
    differ.
    """
    from holdfast.cli.controlling import cancelling, control
    from holdfast.durations import parse_duration

    limit = None if deadline is None else parse_duration(deadline)
    return control(invocation, cancelling(reason=reason, deadline=limit, wait=not no_wait), ids, where)


@_named("pause")
@_REASON
@_NO_WAIT
@click.pass_obj
def pause(invocation: Invocation, ids: tuple[str, ...], where: str | None, reason: str, no_wait: bool) -> int:
    """Set executions aside until `executions resume`.

    A process that runs one is told: it finishes the steps that run and starts none; waits for that up to
    --timeout (default 30s). Messages and timers that come meanwhile wait. Children are paused by themselves.

    Exit codes: 0 paused, 9 asked but not paused yet, 4 ended already; 10 when several differ.
    """
    from holdfast.cli.controlling import control, pausing

    return control(invocation, pausing(reason=reason, wait=not no_wait), ids, where)


@_named("resume")
@click.pass_obj
def resume(invocation: Invocation, ids: tuple[str, ...], where: str | None) -> int:
    """Let paused executions go on: back into their queues.

    One that was started by `run` belongs to no worker; `holdfast resume ID` goes on with it here.

    Exit codes: 0 done, 4 when it is not paused; 10 when several differ.
    """
    from holdfast.cli.controlling import control, resuming

    return control(invocation, resuming(), ids, where)


@_named("retry")
@click.option(
    "--from", "from_step", metavar="STEP",
    help="run again from this step on: it and everything that was recorded after it",
)  # fmt: skip
@click.option("--run", "run_here", is_flag=True, help="run them here, as `holdfast resume` does")
@click.pass_obj
def retry(
    invocation: Invocation, ids: tuple[str, ...], where: str | None, from_step: str | None, run_here: bool
) -> int:
    """Run failed or cancelled executions again, under their ids, from the steps that failed.

    What was done stays done: steps that failed run again, with all their attempts, and so does what was
    recorded because of a failure. Children that failed go on with their parents. With --from the children of
    the steps that run again start anew. The executions go back into their queues; one that was started by
    `run` belongs to no worker, and --run or `holdfast resume ID` goes on with it here.

    Exit codes: 0 done, 4 when it has not failed, 3 when there is no such step; 10 when several differ; with
    --run those of `run`.
    """
    from datetime import timedelta

    from holdfast.cli.controlling import control, retrying
    from holdfast.errors import InvalidUsage

    if run_here and where is not None:
        raise InvalidUsage("--run takes ids, not --where", where="executions retry", fix="leave out --run")
    if not run_here or invocation.flags.dry_run:
        return control(invocation, retrying(from_step=from_step), ids, where)
    from holdfast.cli.controlling import retry_quietly
    from holdfast.cli.running import resume as go_on

    retry_quietly(invocation, ids, from_step)
    return go_on(invocation, ids, steal=False, wait=timedelta(minutes=10))
