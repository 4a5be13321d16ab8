"""Starts executions, here or for workers, and goes on with those that others left behind.

The launcher is where ownership, stored definitions and the engine meet. It knows which executions run in this
process, so asking for one twice gives the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from holdfast.errors import DefinitionChanged, ExecutionNotFound, IdTaken, WorkflowNotFound
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.children import ChildRuns, FindProgram
from holdfast.fleet.claims import Claimed
from holdfast.fleet.outside import OutsideRows
from holdfast.fleet.ownership import Registration, claim
from holdfast.fleet.runs import Runs
from holdfast.fleet.starts import Origin, Running, fingerprint, new_key
from holdfast.fleet.taking import note, take_up
from holdfast.records.events import EventType
from holdfast.records.executions import BootId, Execution, ExecutionKey, ExecutionStatus, key_text
from holdfast.records.workflows import StoredDefinition
from holdfast.store.drivers.base import Answer, NewExecution
from holdfast.store.entries import Entry, Holding
from holdfast.store.rows import execution_of, moment
from holdfast.store.store import Beside, Store
from holdfast.workflows.driving import Outcome, Parent
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.process_pool import ProcessPool
from holdfast.workflows.process_pool import pool as process_pool
from holdfast.workflows.program import Program
from holdfast.workflows.progress import Observer
from holdfast.workflows.replay import History


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
        program: str = "run",
    ) -> None:
        self.store = store
        self.load = load
        self.registration = Registration(store, lease=lease, program=program)
        self.runs = Runs(store, self.registration)
        self._processes: ProcessPool | None = None
        self._beside: list[Beside] = []
        self.engine = Engine(
            store.journal,
            store.driver,
            children=ChildRuns(self, store, find),
            outside=OutsideRows(store),
            observer=observer,
            sleep_max_s=sleep_max_s,
            http=store.options.http,
        )
        self.runs.engine = self.engine
        self._turns: WeakValueDictionary[ExecutionKey, asyncio.Lock] = WeakValueDictionary()
        self._stored: set[bytes] = set()
        self.serves_queues = False

    async def open(self) -> None:
        """Register, and learn the database's clock."""
        rows = await self.store.driver.fetch("store.now")
        self.runs.clock_offset = moment(rows[0][0]) - datetime.now(UTC)
        await self.registration.start()
        self.store.hints.listeners.append(self.runs.hasten)
        self._processes = process_pool()
        self._processes.hold()
        self._beside = list(self.store.beside)
        for each in self._beside:
            await each.start()

    async def close(self) -> None:
        """Stop what runs, hand it back, and leave. Safe twice."""
        if self.runs.hasten in self.store.hints.listeners:
            self.store.hints.listeners.remove(self.runs.hasten)
        await self.runs.close()
        self.engine.close()
        processes, self._processes = self._processes, None
        if processes is not None:
            await processes.release()
        await self.registration.stop()
        while self._beside:
            await self._beside.pop().stop()

    def running(self, key: ExecutionKey) -> Running | None:
        """The run of an execution in this process, if it is here."""
        return self.runs.get(key)

    async def cancel(self, execution: Execution, *, reason: str = "") -> bool:
        """See `cancelling.cancel`; an execution of this process hears of it at once."""
        done = await cancel(self.store, self.registration, execution, reason=reason)
        await self.runs.look_now()
        return done

    # Starting.

    async def start(self, program: Program, input: bytes, origin: Origin) -> Running | Execution:
        """Start an execution here; with an id that exists already, the execution that has it.

        The start is durable when this returns. Raises `IdTaken` when the id stands for another workflow or
        input, `DefinitionChanged` when it stands for another definition of the same.
        """
        key = new_key()
        id_ = origin.id or key_text(key)
        async with self.turn(key):
            running = await self.begin(program, input, origin, key, id_)
        return running or await self._existing(origin, id_, program, input)

    async def enqueue(self, program: Program, input: bytes, origin: Origin) -> Execution:
        """Leave an execution to the workers of its queue; the one that has its id or dedupe key stays.

        The start is durable when this returns. Raises what `start` raises.
        """
        await self._store_definition(program.definition)
        while True:
            key = new_key()
            id_ = origin.id or key_text(key)
            holding, entry = await self._entry(program, input, origin, key, id_, owner=None)
            if await self.store.journal.append(entry) is not Answer.RECORDED:
                break
            try:
                found = await self._existing(origin, id_, program, input)
            except ExecutionNotFound:
                if origin.dedupe_key is None:
                    raise
                continue  # the one that had the key has ended in between
            return found if isinstance(found, Execution) else await self.store.get_execution(found.id)
        return _as_enqueued(entry.create, holding) if entry.create else await self.store.get_execution(id_)

    async def begin(
        self, program: Program, input: bytes, origin: Origin, key: ExecutionKey, id_: str
    ) -> Running | None:
        """Start an execution here; None when its id exists."""
        await self._store_definition(program.definition)
        await self.runs.registered()
        boot = self.registration.boot
        holding, entry = await self._entry(program, input, origin, key, id_, owner=boot)
        parent = origin.parent
        waiter = self.store.journal.append(entry)
        try:
            answer = await asyncio.shield(waiter)
        except asyncio.CancelledError:
            # It starts all the same, and what nobody runs must not stay owned: it runs, and is stopped.
            await asyncio.wait([waiter])
            if waiter.exception() is None and waiter.result() is Answer.WRITTEN and self._is_ours(boot):
                running = self.runs.launch(program, holding, History(), input, parent, resumed=False)
                await asyncio.sleep(0)  # a task that never began could not hand back
                running.task.cancel()
                await asyncio.wait([running.task])
            raise
        if answer is Answer.RECORDED:
            return None
        return self.runs.launch(program, holding, History(), input, parent, resumed=False)

    def _is_ours(self, boot: BootId) -> bool:
        """Whether what was started as `boot` is still this process's; else whoever looks next recovers it."""
        return boot == self.registration.boot and not self.registration.lapsed

    async def _entry(
        self,
        program: Program,
        input: bytes,
        origin: Origin,
        key: ExecutionKey,
        id_: str,
        *,
        owner: BootId | None,
    ) -> tuple[Holding, Entry]:
        """The entry that makes an execution: owned by this process, or by nobody yet."""
        definition, parent = program.definition, origin.parent
        holding = Holding(key, id_, self.store.tenant, epoch=0 if owner is None else 1)
        delay_us = None if owner is not None or not origin.delay else round(origin.delay / _MICROSECOND)
        status = ExecutionStatus.RUNNING if owner is not None else ExecutionStatus.READY
        new = NewExecution(
            key, holding.tenant, id_, definition.name, definition.version, definition.hash,
            fingerprint(definition.name, input), status if delay_us is None else ExecutionStatus.WAITING,
            origin.queue, origin.class_, origin.priority, delay_us, owner, holding.epoch,
            parent=parent.key if parent else None, parent_path=parent.path if parent else None,
            limit_key=origin.limit_key, dedupe_key=origin.dedupe_key, detached=origin.detached,
            tags=origin.tags, trigger_source=origin.trigger, started_by=origin.started_by,
            metadata=origin.said("metadata"), context=origin.said("context"),
        )  # fmt: skip
        placed = await self.store.journal.place(holding, input)
        return holding, Entry(holding, EventType.EXECUTION_STARTED, payload=placed, create=new)

    async def _existing(self, origin: Origin, id: str, program: Program, input: bytes) -> Running | Execution:
        """The execution that stands where another was to be started."""
        execution = await self.store.find_execution(id)
        if execution is None and origin.dedupe_key is not None:
            rows = await self.store.driver.fetch(
                "queues.by_dedupe_key", self.store.tenant, origin.queue, origin.dedupe_key
            )
            if rows:
                return execution_of(rows[0])  # the key says that it is the same work, whatever its input
        if execution is None:
            raise ExecutionNotFound(f"execution {id!r} vanished while it was started", id=id)
        mark = fingerprint(program.definition.name, input)
        if execution.workflow != program.definition.name or execution.fingerprint != mark:
            raise IdTaken(
                f"execution {id!r} exists with another {_other(execution, program)}",
                id=id,
                workflow=execution.workflow,
            )
        if execution.definition != program.definition.hash:
            raise await self.definition_changed(execution, program)
        return self.runs.get(execution.key) or execution

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

    # Going on.

    async def resume(self, execution: Execution, *, steal: bool = False) -> Running:
        """Go on with an unfinished execution by its stored definition.

        Raises `OwnedElsewhere`, `NotResumable`, and what loading its code raises.
        """
        async with self.turn(execution.key):
            return self.runs.get(execution.key) or await self.take_over(execution, steal=steal, above=None)

    def turn(self, key: ExecutionKey) -> asyncio.Lock:
        """Held while an execution is taken here, so that two callers do not take it from each other."""
        return self._turns.setdefault(key, asyncio.Lock())

    async def take_over(
        self, execution: Execution, *, steal: bool, above: ExecutionRuntime | None
    ) -> Running:
        """Go on with an execution by its stored definition; `above` is its parent in this process."""
        await self.runs.registered()
        definition = await self.store.get_definition(execution.definition)
        if definition is None:
            raise WorkflowNotFound(
                f"the definition {execution.definition.hex()[:12]} of execution {execution.id} is not stored"
            )
        program = self.load(definition)
        # Ours, but not running here: a run that could not hand it back has left it. A worker that serves
        # queues may just be starting it, and puts back what it does not.
        ours = not self.serves_queues and execution.owner == self.registration.boot
        taking = asyncio.ensure_future(self._take(execution, program, above, steal=steal or ours))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # It may be ours by now, and what nobody runs must not stay owned: it runs, and is stopped.
            await asyncio.wait([taking])
            if not taking.cancelled() and taking.exception() is None:
                running = taking.result()
                await asyncio.sleep(0)  # a task that never began could not hand back
                running.task.cancel()
                await asyncio.wait([running.task])
            raise

    async def _take(
        self, execution: Execution, program: Program, above: ExecutionRuntime | None, *, steal: bool
    ) -> Running:
        taken = await claim(self.store, self.registration, execution, steal=steal)
        parent = None
        if execution.parent is not None:
            parent = Parent(execution.parent, await self._parent_path(execution), above)
        history = await take_up(self.store, taken, parent)
        return self.runs.launch(program, taken.holding, history, history.input or b"", parent, resumed=True)

    async def _parent_path(self, execution: Execution) -> str:
        rows = await self.store.driver.fetch("executions.parent_path", execution.key)
        return str(rows[0][0])

    def go_on(
        self, claimed: Claimed, program: Program, on_end: Callable[[asyncio.Task[Outcome]], None]
    ) -> Running:
        """Run an execution that was claimed from its queue; `on_end` is called when its task has ended."""
        history = History.read(claimed.events)
        if not claimed.is_fresh:
            kind = EventType.EXECUTION_RESUMED if claimed.was_handed_back else EventType.LEASE_TAKEN
            why: dict[str, object] = {} if claimed.was_handed_back else {"recoveries": claimed.recoveries}
            note(self.store, claimed.holding, kind, why)
        parent = None
        if claimed.parent is not None:
            parent = Parent(claimed.parent, claimed.parent_path or "")
        return self.runs.launch(
            program,
            claimed.holding,
            history,
            history.input or b"",
            parent,
            resumed=not claimed.is_fresh,
            on_end=on_end,
        )

    async def _store_definition(self, definition: StoredDefinition) -> None:
        if definition.hash not in self._stored:
            await self.store.put_definition(definition)
            self._stored.add(definition.hash)


_MICROSECOND = timedelta(microseconds=1)


def _as_enqueued(new: NewExecution, holding: Holding) -> Execution:
    """The execution as it was written, without asking for it; its time of creation is about now."""
    return Execution(
        key=new.key, id=new.id, tenant=new.tenant_id, workflow=new.workflow, version=new.version,
        definition=new.definition, fingerprint=new.fingerprint, status=ExecutionStatus(new.status),
        queue=new.queue, priority=new.priority, due_at=None, owner=None, epoch=holding.epoch, recoveries=0,
        wakes=0, parent=new.parent, created_at=datetime.now(UTC), finished_at=None,
    )  # fmt: skip


def _other(execution: Execution, program: Program) -> str:
    return "input" if execution.workflow == program.definition.name else f"workflow, {execution.workflow}"
