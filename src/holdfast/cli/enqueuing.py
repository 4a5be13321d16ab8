"""Leaving an execution to the workers of a queue, and following it from its log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from holdfast.cli.endings import INTERRUPTED, Ending, ending_of
from holdfast.cli.failures import Stopped
from holdfast.cli.loop import until_stopped
from holdfast.cli.running import show, user
from holdfast.cli.targets import stored_input
from holdfast.cli.views.choice import view_for
from holdfast.cli.views.recorded import progress_of
from holdfast.errors import InvalidUsage, WorkflowNotFound
from holdfast.events.log import EventLog
from holdfast.fleet.ends import read_outcome
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.queues import Queues
from holdfast.fleet.roster import somebody_serves
from holdfast.fleet.versions import resolve
from holdfast.programs import find_program, load_program
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.store import codec
from holdfast.stores import open_store
from holdfast.workflows.program import Program

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.cli.filing import Filing
    from holdfast.cli.views.lines import View
    from holdfast.config.schema import Config
    from holdfast.fleet.starts import Origin
    from holdfast.records.workflows import StoredDefinition
    from holdfast.store.store import Store
    from holdfast.workflows.engine import ExecutionRuntime


class Enqueued:
    """One execution that is left to workers, on a store that is open."""

    def __init__(self, store: Store, invocation: Invocation, origin: Origin) -> None:
        self._store = store
        self._invocation = invocation
        self._origin = origin
        self._since_ms = time.time_ns() // 1_000_000
        self.execution: Execution | None = None

    async def start(self, program: Program, input: bytes) -> Execution:
        """Write it; or find the one that has the id or the dedupe key already."""
        launcher = Launcher(self._store, load=load_program, find=self._find)
        self.execution = await launcher.enqueue(program, input, self._origin)
        return self.execution

    async def _find(self, name: str, version: str | None, asking: Any) -> Program:
        return await find_program(self._store, name, version, asking)

    async def record(self) -> dict[str, Any]:
        """What is printed of it."""
        execution = self.execution
        assert execution is not None
        waits = execution.status in (ExecutionStatus.READY, ExecutionStatus.WAITING)
        return {
            "id": execution.id,
            "workflow": execution.workflow,
            "version": execution.version,
            "status": str(execution.status),
            "queue": execution.queue,
            "class": self._origin.class_,
            "priority": execution.priority,
            "existed": self._existed(execution),
            "paused": (await Queues(self._store).settings(execution.queue)).paused,
            "served": not waits or await somebody_serves(self._store, execution.queue, self._origin.class_),
        }

    def _existed(self, execution: Execution) -> bool:
        """Whether it is older than this command: its key begins with the milliseconds of its creation."""
        return int.from_bytes(execution.key[:6]) < self._since_ms

    def tell(self, row: dict[str, Any]) -> None:
        """Say that it is queued, or why nothing will happen."""
        if row["existed"]:
            self._invocation.say(f"{row['id']} is there already and is {row['status']}; nothing was queued")
        elif row["served"]:
            later = f", to start in {self._origin.delay}" if self._origin.delay else ""
            self._invocation.say(f"queued on `{row['queue']}`{later}")
        if row["paused"]:
            self._invocation.say(
                f"warning: the queue `{row['queue']}` is paused; let it go on: "
                f"holdfast queues resume {row['queue']}"
            )
        if not row["served"]:
            how = "" if row["class"] == "io" else f" with class {row['class']}"
            queued = "" if row["existed"] else "queued, but "
            self._invocation.say(
                f"warning: {queued}no worker listens on `{row['queue']}`{how}; "
                f"start one: holdfast worker --queues {row['queue']}"
            )


def enqueue(invocation: Invocation, config: Config, program: Program, input: bytes, origin: Origin) -> int:
    """Leave an execution to workers and print its id; the exit code."""

    async def run() -> dict[str, Any]:
        async with open_store(config, migrate=_migrates(config)) as store:
            queued = Enqueued(store, invocation, origin)
            await queued.start(program, input)
            row = await queued.record()
            queued.tell(row)
            return row

    row = until_stopped(run)
    if invocation.output.is_table:
        invocation.output.text(row["id"])
    else:
        invocation.output.record(row)
    return 0


def start_registered(
    invocation: Invocation,
    config: Config,
    wanted: tuple[str, str | None],
    given: tuple[Mapping[str, Any], Sequence[str]],
    origin: Origin,
) -> int:
    """Leave an execution of a stored workflow, by name and version, to workers; the exit code."""

    async def run() -> dict[str, Any]:
        async with open_store(config) as store:
            stored = await resolve(store, *wanted)
            input = stored_input(stored, f"executions start {stored.name}", given[1], given[0])
            if invocation.flags.dry_run:
                return {
                    "workflow": stored.name,
                    "version": stored.version,
                    "input": codec.decode(input),
                    "queue": origin.queue,
                    "dry_run": True,
                }
            queued = Enqueued(store, invocation, origin)
            await queued.start(_without_code(stored), input)
            row = await queued.record()
            queued.tell(row)
            return row

    row = until_stopped(run)
    if invocation.output.is_table and "id" in row:
        invocation.output.text(row["id"])
    else:
        invocation.output.record(row, key="id" if "id" in row else "workflow")
    return 0


def _without_code(stored: StoredDefinition) -> Program:
    """A program that is only named: its code is with the workers."""

    async def execute(runtime: ExecutionRuntime, input: bytes) -> object:
        raise WorkflowNotFound(f"the code of {stored.name} is with the workers", where=stored.name)

    return Program(
        definition=stored,
        execute=execute,
        annotation=None,
        difference=lambda recorded: f"version {recorded.version} became {stored.version}",
    )


def enqueue_and_follow(
    invocation: Invocation,
    config: Config,
    program: Program,
    input: bytes,
    origin: Origin,
    *,
    wait: timedelta,
) -> int:
    """Leave an execution to workers and stay with it to its end, for --timeout at most; the exit code."""
    view = view_for(invocation)
    queued: list[Enqueued] = []

    async def run() -> Ending:
        async with open_store(config, migrate=_migrates(config)) as store:
            queued.append(Enqueued(store, invocation, origin))
            execution = await queued[0].start(program, input)
            queued[0].tell(await queued[0].record())
            view.begin()
            return await _follow(store, execution, view, wait, invocation.timeout)

    code = 0
    try:
        ending = until_stopped(run)
        code = ending.exit_code
    except Stopped as stopped:
        execution = queued[0].execution if queued else None
        if execution is None:
            raise
        ending = Ending(id=execution.id, workflow=execution.workflow, status=INTERRUPTED)
        code = 128 + stopped.number
    finally:
        view.end()
    if invocation.output.is_table and code not in (0, 7, 8):
        state = "waits" if ending.status == ExecutionStatus.WAITING else "is left to the workers"
        invocation.say(f"⏸ {ending.id} {state}; see its end: holdfast executions wait {ending.id}")
    else:
        show(invocation, ending)
    return code


async def _follow(
    store: Store, execution: Execution, view: View, wait: timedelta, limit: timedelta | None
) -> Ending:
    began = time.monotonic()
    try:
        async with asyncio.timeout(None if limit is None else limit.total_seconds()):
            async for event in EventLog(store).follow(execution):
                progress = progress_of(event)
                if progress is not None:
                    view.note(progress)
                if event.type is EventType.EXECUTION_SUSPENDED:
                    current = await store.get_execution(execution.id)
                    if _waits_long(current, wait):
                        return Ending(
                            id=current.id, workflow=current.workflow, status="waiting", until=current.due_at
                        )
    except TimeoutError:
        return Ending(id=execution.id, workflow=execution.workflow, status=INTERRUPTED)
    outcome = await read_outcome(store, execution.key)
    seconds = time.monotonic() - began
    return replace(ending_of(execution.id, execution.workflow, outcome, seconds=seconds), counted=False)


def _waits_long(execution: Execution, wait: timedelta) -> bool:
    """Whether nothing will happen before more time than a person wants to stay has passed."""
    if execution.status is not ExecutionStatus.WAITING:
        return execution.status is ExecutionStatus.PAUSED
    return execution.due_at is None or execution.due_at - datetime.now(UTC) > wait


def origin_of(config: Config, filing: Filing, id: str | None) -> Origin:
    """How the execution is filed; `InvalidUsage` where no worker would find it."""
    if config.storage.type == "memory":
        raise InvalidUsage(
            "a store in memory is seen by its own process alone: no worker would find the execution",
            where="--detach, --queue",
            fix="use a SQLite file or a database server",
        )
    return filing.origin(id=id, started_by=user())


def _migrates(config: Config) -> bool:
    return config.storage.migrations.enabled and config.storage.migrations.auto_run
