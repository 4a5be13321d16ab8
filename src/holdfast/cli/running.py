"""What `run` and `resume` share once it is known what to run: the session, the ending, the exit code."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from holdfast.cli.endings import Ending, tell
from holdfast.cli.sessions import Session, Stopped, Tally, orchestrator_for, resume_command, until_stopped
from holdfast.cli.views.lines import View, view_for
from holdfast.fleet.launcher import Origin, Running
from holdfast.records.executions import Execution

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.cli.targets import Target
    from holdfast.config.schema import Config

PARTLY = 10
INTERRUPTED = "interrupted"


def run_target(
    invocation: Invocation,
    target: Target,
    config: Config,
    *,
    id: str | None,
    new: bool,
    steal: bool,
    wait: timedelta,
) -> int:
    """Run one program to its end; the exit code."""
    view, tally = view_for(invocation), Tally()
    orchestrator = orchestrator_for(config, view=view, wait=wait, tally=tally)
    session = Session(orchestrator, view)
    origin = Origin(id=id, trigger="cli", started_by=user())

    async def claim() -> Running | Execution:
        return await orchestrator.continue_or_start(
            target.program, target.input, origin, new=new, steal=steal
        )

    async def work() -> Ending:
        async with orchestrator:
            view.begin()
            name = target.program.definition.name
            return await session.follow(claim, steal=steal, workflow=name, tally=tally)

    try:
        ending = until_stopped(work)
    except Stopped as stopped:
        view.end()
        return _stopped(invocation, session, stopped, config)
    finally:
        view.end()
    show(invocation, ending)
    return ending.exit_code


def show(invocation: Invocation, ending: Ending) -> None:
    """Print how one execution ended: prose on stderr and the result on stdout, or one record."""
    output = invocation.output
    if not output.is_table:
        output.record(ending.record())
        return
    tell(ending, invocation, resume=resume_command(ending.id, invocation))
    if ending.status == "completed" and not (ending.output is None and invocation.stdout.isatty()):
        indent = 2 if invocation.stdout.isatty() else None
        output.text(json.dumps(ending.output, ensure_ascii=False, indent=indent))


def _stopped(invocation: Invocation, session: Session, stopped: Stopped, config: Config) -> int:
    if config.storage.type == "memory":
        invocation.say("stopped; a store in memory keeps nothing")
        return 128 + stopped.number
    for id, workflow in session.started.items():
        ending = Ending(id=id, workflow=workflow, status=INTERRUPTED)
        if invocation.output.is_table:
            tell(ending, invocation, resume=resume_command(id, invocation))
        else:
            invocation.output.record(ending.record())
    return 128 + stopped.number


def user() -> str | None:
    """Who runs this process, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
