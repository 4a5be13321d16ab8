"""Starts executions in this process and goes on with those that others left behind.

The launcher is where ownership, stored definitions and the engine meet. It knows which executions run in this
process, so asking for one twice gives the same run.

Two things reach it from outside. While it holds executions it asks about once a second whether messages came
for them or somebody took them, for those that write nothing themselves. And when the lease has run out, it
stops all of them, registers anew, and goes on with those that nobody else has taken.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from holdfast.errors import (
    DefinitionChanged,
    ExecutionNotFound,
    HoldfastError,
    IdTaken,
    LeaseLost,
    OwnedElsewhere,
    RetryLater,
    TooManyRecoveries,
    WorkflowNotFound,
)
from holdfast.fleet.cancelling import cancel, cancel_children
from holdfast.fleet.children import ChildRuns, FindProgram
from holdfast.fleet.ownership import Claim, Registration, claim
from holdfast.fleet.starts import Origin, Running, fingerprint, new_key
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus, key_text
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, NewExecution, Post, Transition
from holdfast.store.journal import Entry, Holding
from holdfast.store.rows import moment
from holdfast.store.store import Store
from holdfast.workflows.driving import Drive, Outcome, Parent
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.failures import describe
from holdfast.workflows.program import Program
from holdfast.workflows.progress import Observer
from holdfast.workflows.replay import History

MAX_RECOVERIES = 10
_WATCH_S = (0.7, 1.0)
_COME_BACK_S = (0.1, 5.0)


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
        self.engine = Engine(
            store.journal,
            store.driver,
            children=ChildRuns(self, store, find),
            observer=observer,
            sleep_max_s=sleep_max_s,
        )
        self.registration.on_lapse = self._lapsed
        self._running: dict[ExecutionKey, Running] = {}
        self._held: dict[ExecutionKey, Holding] = {}
        self._turns: WeakValueDictionary[ExecutionKey, asyncio.Lock] = WeakValueDictionary()
        self._stored: set[bytes] = set()
        self._clock_offset = timedelta(0)
        self._watch: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._lapses = 0

    async def open(self) -> None:
        """Register, and learn the database's clock."""
        rows = await self.store.driver.fetch("store.now")
        self._clock_offset = moment(rows[0][0]) - datetime.now(UTC)
        await self.registration.start()

    async def close(self) -> None:
        """Stop what runs, hand it back, and leave. Safe twice."""
        self.registration.on_lapse = None
        if self._watch is not None:
            self._watch.cancel()
        tasks: list[asyncio.Task[Outcome] | asyncio.Task[None]] = [
            running.task for running in self._running.values()
        ]
        tasks.extend(task for task in (self._looking, self._returning) if task is not None)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.engine.close()
        await self.registration.stop()

    def running(self, key: ExecutionKey) -> Running | None:
        """The run of an execution in this process, if it is here."""
        return self._running.get(key)

    async def cancel(self, execution: Execution, *, reason: str = "") -> bool:
        """See `cancelling.cancel`; an execution of this process hears of it at once."""
        done = await cancel(self.store, self.registration, execution, reason=reason)
        await self._look_after(self._held)
        return done

    # Starting and going on.

    async def start(self, program: Program, input: bytes, origin: Origin) -> Running | Execution:
        """Start an execution; with an id that exists already, the execution that has it.

        The start is durable when this returns. Raises `IdTaken` when the id stands for another workflow or
        input, `DefinitionChanged` when it stands for another definition of the same.
        """
        key = new_key()
        id_ = origin.id or key_text(key)
        async with self.turn(key):
            running = await self.begin(program, input, origin, key, id_)
        return running or await self._existing(id_, program, fingerprint(program.definition.name, input))

    async def begin(
        self, program: Program, input: bytes, origin: Origin, key: ExecutionKey, id_: str
    ) -> Running | None:
        """Start an execution; None when its id exists."""
        await self._store_definition(program.definition)
        await self._registered()
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
        entry = Entry(holding, EventType.EXECUTION_STARTED, payload=placed, create=new)
        waiter = journal.append(entry)
        try:
            answer = await asyncio.shield(waiter)
        except asyncio.CancelledError:
            # It starts all the same, and what nobody runs must not stay owned: it runs, and is stopped.
            await asyncio.wait([waiter])
            if waiter.exception() is None and waiter.result() is Answer.WRITTEN:
                running = self._launch(program, holding, History(), input, parent, resumed=False)
                await asyncio.sleep(0)  # a task that never began could not hand back
                running.task.cancel()
                await asyncio.wait([running.task])
            raise
        if answer is Answer.RECORDED:
            return None
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
        async with self.turn(execution.key):
            return self._running.get(execution.key) or await self.take_over(
                execution, steal=steal, above=None
            )

    def turn(self, key: ExecutionKey) -> asyncio.Lock:
        """Held while an execution is taken here, so that two callers do not take it from each other."""
        return self._turns.setdefault(key, asyncio.Lock())

    async def take_over(
        self, execution: Execution, *, steal: bool, above: ExecutionRuntime | None
    ) -> Running:
        """Go on with an execution by its stored definition; `above` is its parent in this process."""
        await self._registered()
        definition = await self.store.get_definition(execution.definition)
        if definition is None:
            raise WorkflowNotFound(
                f"the definition {execution.definition.hex()[:12]} of execution {execution.id} is not stored"
            )
        program = self._load(definition)
        # Ours, but not running here: a run that could not hand it back has left it.
        ours = execution.owner is not None and execution.owner == self.registration.boot
        taken = await claim(self.store, self.registration, execution, steal=steal or ours)
        parent = None
        if execution.parent is not None:
            parent = Parent(execution.parent, await self._parent_path(execution), above)
        history = await self._take_up(taken, parent)
        return self._launch(program, taken.holding, history, history.input or b"", parent, resumed=True)

    async def _parent_path(self, execution: Execution) -> str:
        rows = await self.store.driver.fetch("executions.parent_path", execution.key)
        return str(rows[0][0])

    async def _take_up(self, taken: Claim, parent: Parent | None) -> History:
        """Read what an earlier owner wrote, and note that the execution has changed hands."""
        holding = taken.holding
        # A new statement after the commit of the takeover: it sees all that the old owner wrote.
        history = History.read(await self.store.driver.fetch("events.history", holding.key))
        holding.next_seq = history.last_seq + 1
        kind = EventType.LEASE_TAKEN if taken.taken_from else EventType.EXECUTION_RESUMED
        why = {"from": taken.taken_from.hex(), "recoveries": taken.recoveries} if taken.taken_from else {}
        placed = await self.store.journal.place(holding, codec.encode(why))
        self.store.journal.append_soon(Entry(holding, kind, payload=placed))
        if taken.recoveries > MAX_RECOVERIES:
            await self._dead_letter(holding, taken.recoveries, parent)
        return history

    async def _dead_letter(self, holding: Holding, recoveries: int, parent: Parent | None) -> None:
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
                post=Post(parent.key, bytes(holding.key), "child", parent.path, None) if parent else None,
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
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._drive(program, holding, history, input, parent))
        running = Running(holding.id, holding.key, task, resumed)
        self._running[holding.key] = running
        self._held[holding.key] = holding
        if self._watch is None:
            self._watch = loop.call_later(random.uniform(*_WATCH_S), self._look_soon)

        def ended(task: asyncio.Task[Outcome]) -> None:
            self._running.pop(holding.key, None)
            self._held.pop(holding.key, None)
            if not task.cancelled():
                task.exception()  # whoever awaits the run gets it; a run nobody awaits is told by its log

        task.add_done_callback(ended)
        return running

    async def _drive(
        self, program: Program, holding: Holding, history: History, input: bytes, parent: Parent | None
    ) -> Outcome:
        """Run an execution here, also across a lapse of the lease."""
        while True:
            lapses = self._lapses
            runtime = ExecutionRuntime(self.engine, holding, history, clock_offset=self._clock_offset)
            drive = Drive(
                runtime, lambda r: program.execute(r, input), annotation=program.annotation, parent=parent
            )
            self._held[holding.key] = holding
            try:
                outcome = await drive.run()
            except LeaseLost:
                if lapses == self._lapses:
                    raise
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError from None  # it came with the lapse; only one was heard
                await self._registered()
                taken = await self._claim_again(holding)
                history = await self._take_up(taken, parent)
                holding = taken.holding
            else:
                if outcome.status is ExecutionStatus.CANCELLED:
                    reason = str((outcome.error or {}).get("message", ""))
                    await cancel_children(self.store, self.registration, holding.key, reason=reason)
                return outcome
            finally:
                self._held.pop(runtime.holding.key, None)

    async def _claim_again(self, lost: Holding) -> Claim:
        """After a lapse: take an execution back; `LeaseLost` when somebody else has it or it has ended."""
        execution = await self.store.execution_by_key(lost.key)
        if execution is None or execution.epoch != lost.epoch or execution.status.is_final:
            raise LeaseLost(f"execution {lost.id} was taken over while this process had no lease", id=lost.id)
        try:
            return await claim(self.store, self.registration, execution)
        except OwnedElsewhere as error:
            raise LeaseLost(f"execution {lost.id} was taken over by another owner", id=lost.id) from error

    # What comes from outside.

    def _look_soon(self) -> None:
        self._watch = None
        if self._held:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        with suppress(
            RetryLater
        ):  # the next look may find the store again; nothing can be written until then
            await self._look_after(self._held)
        if self._held and self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(random.uniform(*_WATCH_S), self._look_soon)

    async def _look_after(self, held: dict[ExecutionKey, Holding]) -> None:
        """Ask once for all whether messages came, or somebody else has taken over."""
        asked = dict(held)
        if not asked:
            return
        driver = self.store.driver
        keys = list(asked) if driver.dialect == "postgresql" else json.dumps([key.hex() for key in asked])
        for key, epoch, wakes in await driver.fetch("executions.wakes", keys):
            holding = asked[ExecutionKey(key)]
            if epoch != holding.epoch:
                holding.lose(LeaseLost(f"execution {holding.id} was taken over by another owner"))
            else:
                holding.saw_wakes(wakes)

    def _lapsed(self) -> None:
        """The lease ran out: stop everything, and come back as somebody else."""
        self._lapses += 1
        if self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(self._come_back())
        for holding in list(self._held.values()):
            holding.lose(LeaseLost(f"the lease of this process ran out while it ran execution {holding.id}"))

    async def _registered(self) -> None:
        """Wait until this process may take executions: at once, except after a lapse."""
        if self._returning is not None:
            await asyncio.shield(self._returning)

    async def _come_back(self) -> None:
        pause_s = _COME_BACK_S[0]
        while True:
            try:
                await self.registration.start_over()
            except HoldfastError:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _COME_BACK_S[1])
            else:
                self._returning = None
                return

    async def _store_definition(self, definition: StoredDefinition) -> None:
        if definition.hash not in self._stored:
            await self.store.put_definition(definition)
            self._stored.add(definition.hash)


def _other(execution: Execution, program: Program) -> str:
    return "input" if execution.workflow == program.definition.name else f"workflow, {execution.workflow}"
