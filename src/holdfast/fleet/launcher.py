"""Starts executions in this process and goes on with those that others left behind.

The launcher is where ownership, stored definitions and the engine meet. It knows which executions run in this
process, so asking for one twice gives the same run; it starts children for the engine, by an id that follows
from the parent, so that a parent that comes back finds its children again.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from holdfast.errors import (
    DefinitionChanged,
    ExecutionNotFound,
    IdTaken,
    TooManyRecoveries,
    WorkflowNotFound,
)
from holdfast.fleet.ownership import Claim, Registration, claim
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus, key_text
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, NewExecution, Transition
from holdfast.store.journal import Entry, Holding
from holdfast.store.rows import moment
from holdfast.store.store import Store
from holdfast.workflows.driving import Drive, Outcome, Parent
from holdfast.workflows.engine import ChildEnd, Engine, ExecutionRuntime
from holdfast.workflows.failures import describe
from holdfast.workflows.program import Program
from holdfast.workflows.progress import Observer
from holdfast.workflows.replay import History

MAX_RECOVERIES = 10
LOCAL_QUEUE = "local"
"""The queue of executions that a person runs here: no worker elsewhere claims them."""
_ID_BYTES_MAX = 255
_POLL_S = 1.0

FindProgram = Callable[[str, str | None, StoredDefinition | None], Awaitable[Program]]
"""Name, version, and the definition that asks: the program to run as its child."""


def new_key() -> ExecutionKey:
    """A UUIDv7: 48 bits of milliseconds, then chance."""
    head = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    tail = bytearray(secrets.token_bytes(10))
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    return ExecutionKey(head + bytes(tail))


def fingerprint(workflow: str, input: bytes) -> bytes:
    """What a bare second `run` looks for: the same workflow name and input."""
    return codec.digest(workflow.encode() + b"\0" + input)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a start came from and how it is to be filed."""

    id: str | None = None
    queue: str = LOCAL_QUEUE
    tags: tuple[str, ...] = ()
    trigger: str = "api"
    started_by: str | None = None
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """An execution that runs in this process. `task` gives its outcome; cancelling it hands it back."""

    id: str
    key: ExecutionKey
    task: asyncio.Task[Outcome]
    resumed: bool


class Launcher:
    """Runs executions in this process. `open` registers it as an owner; `close` hands everything back."""

    def __init__(
        self,
        store: Store,
        *,
        load: Callable[[StoredDefinition], Program],
        find: FindProgram,
        lease: timedelta = timedelta(seconds=30),
        observer: Observer | None = None,
        sleep_max_s: float | None = None,
    ) -> None:
        self.store = store
        self.registration = Registration(store, lease=lease)
        self._load = load
        self._find = find
        self.engine = Engine(
            store.journal, store.driver, children=self, observer=observer, sleep_max_s=sleep_max_s
        )
        self._running: dict[ExecutionKey, Running] = {}
        self._stored: set[bytes] = set()
        self._clock_offset = timedelta(0)

    async def open(self) -> None:
        """Register, and learn the database's clock."""
        rows = await self.store.driver.fetch("store.now")
        self._clock_offset = moment(rows[0][0]) - datetime.now(UTC)
        await self.registration.start()

    async def close(self) -> None:
        """Stop what runs, hand it back, and leave. Safe twice."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.engine.close()
        await self.registration.stop()

    # Starting and going on.

    async def start(self, program: Program, input: bytes, origin: Origin) -> Running | Execution:
        """Start an execution; with an id that exists already, the execution that has it.

        The start is durable when this returns. Raises `IdTaken` when the id stands for another workflow or
        input, `DefinitionChanged` when it stands for another definition of the same.
        """
        await self._store_definition(program.definition)
        key = new_key()
        id_ = origin.id or key_text(key)
        definition = program.definition
        mark = fingerprint(definition.name, input)
        holding = Holding(key, id_, self.store.tenant, epoch=1)
        parent = origin.parent
        new = NewExecution(
            key, holding.tenant, id_, definition.name, definition.version, definition.hash, mark,
            ExecutionStatus.RUNNING, origin.queue, 0, self.registration.boot, 1,
            parent.key if parent else None, parent.path if parent else None,
            origin.tags, origin.trigger, origin.started_by,
        )  # fmt: skip
        journal = self.store.journal
        placed = await journal.place(holding, input)
        answer = await journal.append(
            Entry(holding, EventType.EXECUTION_STARTED, payload=placed, create=new)
        )
        if answer is Answer.RECORDED:
            return await self._existing(id_, program, mark)
        return self._launch(program, holding, History(), input, parent, resumed=False)

    async def _existing(self, id: str, program: Program, mark: bytes) -> Running | Execution:
        execution = await self.store.find_execution(id)
        if execution is None:
            raise ExecutionNotFound(f"execution {id!r} vanished while it was started", id=id)
        if execution.workflow != program.definition.name or execution.fingerprint != mark:
            raise IdTaken(
                f"execution {id!r} exists with another {_other(execution, program)}",
                id=id,
                workflow=execution.workflow,
            )
        if execution.definition != program.definition.hash:
            raise await self.definition_changed(execution, program)
        return self._running.get(execution.key) or execution

    async def definition_changed(self, execution: Execution, program: Program) -> DefinitionChanged:
        """The error for an execution whose definition is not the offered one; shows the difference."""
        recorded = await self.store.get_definition(execution.definition)
        shown = program.difference(recorded) if recorded else ""
        return DefinitionChanged(
            f"{execution.workflow} has changed since execution {execution.id} started: it runs definition "
            f"{execution.definition.hex()[:12]} ({execution.version}), the offered one is "
            f"{program.definition.hash.hex()[:12]} ({program.definition.version})\n{shown}".rstrip(),
            where=execution.id,
            fix=f"go on with the stored one: holdfast resume {execution.id}        or start anew: --new",
            recorded=execution.definition.hex(),
            offered=program.definition.hash.hex(),
        )

    async def resume(self, execution: Execution, *, steal: bool = False) -> Running:
        """Go on with an unfinished execution by its stored definition.

        Raises `OwnedElsewhere`, `NotResumable`, and what loading its code raises.
        """
        known = self._running.get(execution.key)
        if known is not None:
            return known
        definition = await self.store.get_definition(execution.definition)
        if definition is None:
            raise WorkflowNotFound(
                f"the definition {execution.definition.hex()[:12]} of execution {execution.id} is not stored"
            )
        program = self._load(definition)
        taken = await claim(self.store, self.registration, execution, steal=steal)
        parent = None
        if execution.parent is not None:
            parent = Parent(execution.parent, await self._parent_path(execution))
        return await self._go_on(program, taken, parent)

    async def _parent_path(self, execution: Execution) -> str:
        rows = await self.store.driver.fetch("executions.parent_path", execution.key)
        return str(rows[0][0])

    async def _go_on(self, program: Program, taken: Claim, parent: Parent | None) -> Running:
        holding = taken.holding
        # A new statement after the commit of the takeover: it sees all that the old owner wrote.
        history = History.read(await self.store.driver.fetch("events.history", holding.key))
        holding.next_seq = history.last_seq + 1
        kind = EventType.LEASE_TAKEN if taken.taken_from else EventType.EXECUTION_RESUMED
        why = {"from": taken.taken_from.hex(), "recoveries": taken.recoveries} if taken.taken_from else {}
        placed = await self.store.journal.place(holding, codec.encode(why))
        self.store.journal.append_soon(Entry(holding, kind, payload=placed))
        if taken.recoveries > MAX_RECOVERIES:
            await self._dead_letter(holding, taken.recoveries)
        return self._launch(program, holding, history, history.input or b"", parent, resumed=True)

    async def _dead_letter(self, holding: Holding, recoveries: int) -> None:
        error = TooManyRecoveries(
            f"execution {holding.id} was taken over {recoveries} times without a new result", id=holding.id
        )
        placed = await self.store.journal.place(holding, codec.encode(describe(error)))
        await self.store.journal.append(
            Entry(
                holding,
                EventType.EXECUTION_FAILED,
                payload=placed,
                transition=Transition(ExecutionStatus.FAILED, final=True),
            )
        )
        raise error

    def _launch(
        self,
        program: Program,
        holding: Holding,
        history: History,
        input: bytes,
        parent: Parent | None,
        *,
        resumed: bool,
    ) -> Running:
        runtime = ExecutionRuntime(self.engine, holding, history, clock_offset=self._clock_offset)
        drive = Drive(
            runtime, lambda r: program.execute(r, input), annotation=program.annotation, parent=parent
        )
        task = asyncio.get_running_loop().create_task(drive.run())
        running = Running(holding.id, holding.key, task, resumed)
        self._running[holding.key] = running
        task.add_done_callback(lambda _: self._running.pop(holding.key, None))
        return running

    async def _store_definition(self, definition: StoredDefinition) -> None:
        if definition.hash not in self._stored:
            await self.store.put_definition(definition)
            self._stored.add(definition.hash)

    # Children.

    async def run(
        self, parent: ExecutionRuntime, path: str, workflow: str, version: str | None, input: bytes
    ) -> ChildEnd:
        """See `Children.run`."""
        asking = await self._definition_of(parent)
        program = await self._find(workflow, version, asking)
        end = Parent(parent.holding.key, path, parent)
        origin = Origin(id=child_id(parent.execution_id, path), trigger="parent", parent=end)
        child = await self.start(program, input, origin)
        if isinstance(child, Execution):
            if child.status.is_final:
                return await self._read_end(child.key)
            taken = await claim(self.store, self.registration, child)
            child = await self._go_on(program, taken, end)
        try:
            outcome = await child.task
        except asyncio.CancelledError:
            if not child.task.done():
                child.task.cancel()
                await asyncio.wait([child.task])
            raise
        message = bytes(child.key)
        if outcome.status is ExecutionStatus.WAITING:
            return ChildEnd(None, None, message, until=outcome.until)
        return ChildEnd(outcome.output, outcome.error, message)

    async def _definition_of(self, runtime: ExecutionRuntime) -> StoredDefinition | None:
        execution = await self.store.execution_by_key(runtime.holding.key)
        return await self.store.get_definition(execution.definition) if execution else None

    async def _read_end(self, key: ExecutionKey) -> ChildEnd:
        outcome = await read_outcome(self.store, key)
        return ChildEnd(outcome.output, outcome.error, bytes(key))


async def read_outcome(store: Store, key: ExecutionKey) -> Outcome:
    """How a finished execution ended, from its log."""
    rows = await store.driver.fetch("events.end", key)
    kind, payload = rows[0]
    if kind == EventType.EXECUTION_COMPLETED:
        return Outcome(status=ExecutionStatus.COMPLETED, output=payload)
    error = codec.decode(payload, what="error") if payload else {}
    if kind == EventType.EXECUTION_CANCELLED:
        error = {"type": "cancelled", "message": str(error.get("reason", "")) or "it was cancelled"}
        return Outcome(status=ExecutionStatus.CANCELLED, error=error)
    return Outcome(status=ExecutionStatus.FAILED, error=error)


async def wait_for_end(store: Store, id: str, *, timeout_s: float | None = None) -> Execution | None:
    """Poll until the execution has ended; None when `timeout_s` passes first."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = 0.02
    while True:
        execution = await store.get_execution(id)
        if execution.status.is_final:
            return execution
        if deadline is not None and time.monotonic() + pause_s > deadline:
            return None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _POLL_S)


def child_id(parent_id: str, path: str) -> str:
    """The id of the child that belongs to `path`; the same in every run of the parent."""
    plain = f"{parent_id}.{path}"
    if len(plain.encode()) <= _ID_BYTES_MAX:
        return plain
    return hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


def _other(execution: Execution, program: Program) -> str:
    return "input" if execution.workflow == program.definition.name else f"workflow, {execution.workflow}"
