"""What `run` and `resume` share once it is known what to run: the session, the ending, the exit code."""

from __future__ import annotations

import asyncio
import functools
import getpass
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from holdfast.cli.endings import INTERRUPTED, Ending, tell
from holdfast.cli.failures import Stopped, report
from holdfast.cli.loop import until_stopped
from holdfast.cli.sessions import Session, Tally, orchestrator_for, resume_command
from holdfast.cli.views.choice import view_for
from holdfast.fleet.ownership import Life, look_at
from holdfast.fleet.starts import Origin, Running
from holdfast.records.executions import Execution
from holdfast.stores import ends_with_its_process

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.cli.targets import Target
    from holdfast.config.schema import Config
    from holdfast.orchestrator import Orchestrator

PARTLY = 10
KEPT_NOTHING = "stopped; a store in memory keeps nothing"


def run_target(
    invocation: Invocation,
    target: Target,
    config: Config,
    origin: Origin,
    *,
    new: bool,
    steal: bool,
    wait: timedelta,
) -> int:
    """Run one program to its end, for --timeout at most; the exit code."""
    view, tally = view_for(invocation), Tally()
    orchestrator = orchestrator_for(config, view=view, wait=wait, tally=tally)
    session = Session(orchestrator, view, invocation.timeout)

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
    if ending.status == INTERRUPTED and ends_with_its_process(config):
        invocation.say(KEPT_NOTHING)
    else:
        show(invocation, ending, resume=_way_back(ending.id, invocation, config))
    return ending.exit_code


def _way_back(id: str, invocation: Invocation, config: Config) -> str:
    """The command that goes on. A store in memory is often named by flags that only `run` has."""
    return "the same command" if config.storage.type == "memory" else resume_command(id, invocation)


def show(invocation: Invocation, ending: Ending, *, resume: str | None = None) -> None:
    """Print how one execution ended: prose on stderr and the result on stdout, or one record."""
    output = invocation.output
    if not output.is_table:
        output.record(ending.record())
        return
    tell(ending, invocation, resume=resume or resume_command(ending.id, invocation))
    if ending.status == "completed" and not (ending.output is None and invocation.stdout.isatty()):
        indent = 2 if invocation.stdout.isatty() else None
        output.text(json.dumps(ending.output, ensure_ascii=False, indent=indent))


def _stopped(invocation: Invocation, session: Session, stopped: Stopped, config: Config) -> int:
    if ends_with_its_process(config):
        invocation.say(KEPT_NOTHING)
        return 128 + stopped.number
    for id, workflow in session.started.items():
        ending = Ending(id=id, workflow=workflow, status=INTERRUPTED)
        if invocation.output.is_table:
            tell(ending, invocation, resume=_way_back(id, invocation, config))
        else:
            invocation.output.record(ending.record())
    return 128 + stopped.number


def user() -> str | None:
    """Who runs this process, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def resume(invocation: Invocation, ids: Sequence[str], *, steal: bool, wait: timedelta) -> int:
    """Go on with the executions `ids`, or with all interrupted ones when there are none; the exit code."""
    config = invocation.load_config().config
    view, tally = view_for(invocation, several=len(ids) != 1), Tally()
    # Like every command but `run` and `init`, this one does not migrate.
    orchestrator = orchestrator_for(config, view=view, wait=wait, tally=tally, migrate=False)
    session = Session(orchestrator, view, invocation.timeout)

    async def work() -> list[Ending | BaseException]:
        async with orchestrator:
            chosen = await _chosen(orchestrator, ids)
            if invocation.flags.dry_run:
                return [
                    Ending(id=each.id, workflow=each.workflow, status=str(each.status)) for each in chosen
                ]
            view.begin()
            following = (
                session.follow(
                    functools.partial(orchestrator.resume, each.id, steal=steal),
                    steal=steal,
                    workflow=each.workflow,
                    tally=tally,
                )
                for each in chosen
            )
            return await asyncio.gather(*following, return_exceptions=len(chosen) > 1)

    try:
        endings = until_stopped(work)
    except Stopped as stopped:
        view.end()
        return _stopped(invocation, session, stopped, config)
    finally:
        view.end()
    if invocation.flags.dry_run:
        rows = [{"id": each.id, "workflow": each.workflow, "status": each.status} for each in _ended(endings)]
        invocation.output.records(rows, ["id", "workflow", "status"], dry_run=True)
        return 0
    return _show_all(invocation, endings, named=len(ids) == 1)


async def _chosen(orchestrator: Orchestrator, ids: Sequence[str]) -> list[Execution]:
    store = orchestrator.store
    if ids:
        found = [await store.get_execution(id) for id in ids]
        return list({each.key: each for each in found}.values())
    folder = orchestrator.launcher.registration.folder
    interrupted = await store.interrupted()
    # Those of live processes on this host are not interrupted; of others the takeover itself finds out.
    return [
        each for each in interrupted if each.owner is None or look_at(folder, each.owner) is not Life.ALIVE
    ]


def _ended(endings: Sequence[Ending | BaseException]) -> list[Ending]:
    return [each for each in endings if isinstance(each, Ending)]


def _show_all(invocation: Invocation, endings: Sequence[Ending | BaseException], *, named: bool) -> int:
    """`named`: one was asked for. JSON is an object only then, so that its shape does not depend on luck."""
    if len(endings) == 1 and isinstance(only := endings[0], Ending) and (named or invocation.output.is_table):
        show(invocation, only)
        return only.exit_code
    codes = []
    for each in endings:
        if isinstance(each, Ending):
            codes.append(each.exit_code)
            if invocation.output.is_table:
                tell(each, invocation, resume=resume_command(each.id, invocation))
        else:
            codes.append(report(each, invocation))
    if not invocation.output.is_table:
        invocation.output.records([each.record() for each in _ended(endings)], ["id", "workflow", "status"])
    elif not endings:
        invocation.say("nothing is interrupted")
    return common_code(codes)


def common_code(codes: Sequence[int]) -> int:
    """The exit code of several: 0 when all is well, theirs when they agree, else 10."""
    if not codes:
        return 0
    return codes[0] if len(set(codes)) == 1 else PARTLY
