"""`holdfast run`: run a workflow, or go on with the run of it that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command
from holdfast.cli.filing import Filing, filing_options

if TYPE_CHECKING:
    from datetime import timedelta

    from holdfast.cli.targets import Target
    from holdfast.config.schema import Config

STORES = ("in-memory", "memory", "sqlite", "postgres", "postgresql", "mysql", "mariadb")


@click.command("run", cls=Command)
@click.argument("target", metavar="FILE.yaml | FILE.py:WORKFLOW | MODULE:WORKFLOW")
@click.argument("arguments", nargs=-1, metavar="[ARGS…]")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="the input as a JSON object")
@click.option("--id", "id_", metavar="ID", help="the execution with this id: go on with it, or start it")
@click.option("--new", is_flag=True, help="start a new execution, whatever is unfinished")
@click.option("--steal", is_flag=True, help="take the execution over, even from a live owner")
@click.option(
    "--wait", metavar="DURATION", default="10m", show_default=True,
    help="stay for timers up to this long; longer ones end the command with exit code 9",
)  # fmt: skip
@click.option(
    "--state-store-type", type=click.Choice(STORES), metavar="TYPE",
    help="kind of store, instead of the configured one: in-memory, sqlite, postgres or mysql",
)  # fmt: skip
@click.option(
    "--event-log-dir", type=click.Path(file_okay=False), metavar="DIR",
    help="write the event log to files below DIR; with a store in memory they are the record",
)  # fmt: skip
@click.option("--detach", is_flag=True, help="leave it to the workers, and print its id")
@filing_options
@click.pass_obj
def command(  # noqa: PLR0913 - each is one flag
    invocation: Invocation,
    /,
    target: str,
    arguments: tuple[str, ...],
    given: str | None,
    id_: str | None,
    new: bool,
    steal: bool,
    wait: str,
    state_store_type: str | None,
    event_log_dir: str | None,
    detach: bool,
    **filed: Any,
) -> int:
    """Run a workflow to its end.

    The newest unfinished execution of the same workflow and input goes on; otherwise a new one starts.
    ARGS are name=value, or values in order for a Python function. The result is printed as JSON on stdout.
    The counts of the last line leave out the steps of sub-workflows. With --timeout the execution is handed
    back after that long.

    With --detach a new execution is left to the workers of --queue (`default` without it), and its id is
    printed. With --queue alone it is left to them as well, and followed to its end. --class, --priority,
    --delay, --dedupe-key and --limit-key go with either.

    Exit codes: 0 completed, 7 failed, 8 cancelled, 9 waiting or stopped by --timeout, 4 owned by another
    process or changed meanwhile, 130 after Ctrl-C, 143 after SIGTERM; what was done is always saved.
    """
    from holdfast.cli.running import run_target, user
    from holdfast.cli.targets import read_input, read_target
    from holdfast.durations import parse_duration
    from holdfast.errors import InvalidUsage

    if new and id_ is not None:
        raise InvalidUsage("--new and --id exclude each other", where="run", fix="give one of them")
    filing = Filing(**filed)
    _check(filing, detach=detach, steal=steal)
    limit = parse_duration(wait)
    folder = Path.cwd()
    found = read_target(target, arguments, read_input(given, invocation.stdin, folder), folder)
    settings = {} if state_store_type is None else {"storage.type": state_store_type}
    if event_log_dir is not None:
        settings |= {"event_log.type": "filesystem", "event_log.dir": event_log_dir}
    config = invocation.load_config(settings=settings).config
    if detach or filing.queue is not None:
        return _enqueue(invocation, found, config, filing, id=id_, wait=None if detach else limit)
    if invocation.flags.dry_run:
        return _plan(invocation, found, config)
    origin = filing.here(id=id_, started_by=user())
    return run_target(invocation, found, config, origin, new=new, steal=steal, wait=limit)


def _check(filing: Filing, *, detach: bool, steal: bool) -> None:
    """Refuse flags that would have no effect."""
    from holdfast.errors import InvalidUsage

    left_to_workers = detach or filing.queue is not None
    if not left_to_workers and filing.flags:
        raise InvalidUsage(
            f"{filing.flags[0]} is for executions that workers run",
            where="run",
            fix="add --detach or --queue, or leave it out",
        )
    if left_to_workers and steal:
        raise InvalidUsage(
            "--steal takes an execution to this process, --detach and --queue leave it to workers",
            where="run",
            fix="give one of them",
        )


def _enqueue(
    invocation: Invocation,
    found: Target,
    config: Config,
    filing: Filing,
    *,
    id: str | None,
    wait: timedelta | None,
) -> int:
    from holdfast.cli import enqueuing

    origin = enqueuing.origin_of(config, filing, id)
    if invocation.flags.dry_run:
        return _plan(invocation, found, config, queue=origin.queue)
    if wait is None:
        return enqueuing.enqueue(invocation, config, found.program, found.input, origin)
    return enqueuing.enqueue_and_follow(invocation, config, found.program, found.input, origin, wait=wait)


def _plan(invocation: Invocation, found: Target, config: Config, **more: str) -> int:
    from holdfast.store import codec

    definition = found.program.definition
    invocation.output.record(
        {
            "workflow": definition.name,
            "version": definition.version,
            "input": codec.decode(found.input),
            "store": str(config.storage.url),
            **more,
            "dry_run": True,
        },
        key="workflow",
    )
    return 0
