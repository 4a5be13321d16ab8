"""Child executions, started and awaited for their parents.

A child's id follows from its parent and the path of the call, so a parent that comes back finds the children
it had: running here, left behind by a dead process, owned by a live one, or ended. A child that was started
goes on by its stored definition, whatever has become of the file it came from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from holdfast.errors import (
    ExecutionNotFound,
    HoldfastError,
    IdTaken,
    LeaseLost,
    OwnedElsewhere,
    RetryLater,
    TooManyRecoveries,
)
from holdfast.fleet.ends import POLL_S, read_outcome, wait_for_end
from holdfast.fleet.starts import Origin, Running, child_id, fingerprint, new_key
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.records.workflows import StoredDefinition
from holdfast.store.store import Store
from holdfast.workflows.driving import Parent
from holdfast.workflows.engine import ChildEnd, ExecutionRuntime, shown
from holdfast.workflows.program import Program
from holdfast.workflows.replay import arguments_changed

FindProgram = Callable[[str, str | None, StoredDefinition | None], Awaitable[Program]]
"""Name, version, and the definition that asks: the program to run as its child."""


class Host(Protocol):
    """What children need of the launcher that runs them."""

    def turn(self, key: ExecutionKey) -> asyncio.Lock:
        """Held while an execution is taken here."""
        ...

    def running(self, key: ExecutionKey) -> Running | None:
        """The run of an execution in this process, if it is here."""
        ...

    async def begin(
        self, program: Program, input: bytes, origin: Origin, key: ExecutionKey, id_: str
    ) -> Running | None:
        """Start an execution; None when its id exists."""
        ...

    async def take_over(
        self, execution: Execution, *, steal: bool, above: ExecutionRuntime | None
    ) -> Running:
        """Go on with an execution by its stored definition; `above` is its parent in this process."""
        ...


class ChildRuns:
    """See `Children`."""

    def __init__(self, host: Host, store: Store, find: FindProgram) -> None:
        self._host = host
        self._store = store
        self._find = find

    async def run(
        self, parent: ExecutionRuntime, path: str, workflow: str, version: str | None, input: bytes
    ) -> ChildEnd:
        """See `Children.run`."""
        id_ = child_id(parent.execution_id, path)
        # Only a parent that comes back can have this child already, and it goes on by its stored definition.
        child: Running | ChildEnd | None = None
        if parent.history.last_seq:
            child = await self._child_again(parent, path, id_, input)
        if child is None:
            asking = await self._definition_of(parent)
            program = await self._find(workflow, version, asking)
            end = Parent(parent.holding.key, path, parent)
            origin = Origin(id=id_, trigger="parent", parent=end)
            key = new_key()
            async with self._host.turn(key):
                child = await self._host.begin(program, input, origin, key, id_)
            child = child or await self._child_again(parent, path, id_, input)
        if child is None:
            raise ExecutionNotFound(f"execution {id_!r} vanished while it was started", id=id_)
        return child if isinstance(child, ChildEnd) else await self._end_of(child, parent, path, input)

    async def _child_again(
        self, parent: ExecutionRuntime, path: str, id_: str, input: bytes
    ) -> Running | ChildEnd | None:
        """The child as it is: running here now, or its end. None when there is none."""
        while True:
            child = await self._store.find_execution(id_)
            if child is None:
                return None
            if child.parent != parent.holding.key:
                parent.stop(IdTaken(f"execution {id_!r} exists and is no child of this one", id=id_))
            if child.fingerprint != fingerprint(child.workflow, input):
                rows = await self._store.driver.fetch("events.history", child.key)
                parent.stop(arguments_changed(path, shown(rows[0][11]), shown(input)))
            if child.status.is_final:
                return await self._read_end(child.key)
            try:
                async with self._host.turn(child.key):
                    return self._host.running(child.key) or await self._host.take_over(
                        child, steal=False, above=parent
                    )
            except TooManyRecoveries:
                continue  # it has ended by that
            except OwnedElsewhere:
                # Somebody resumed the child by itself; when that owner dies, the child is ours to take.
                await wait_for_end(self._store, id_, timeout_s=POLL_S)

    async def _end_of(self, child: Running, parent: ExecutionRuntime, path: str, input: bytes) -> ChildEnd:
        """Wait for a child of this process; what stopped its run without ending it stops the parent's too."""
        try:
            outcome = await asyncio.shield(child.task)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if child.task.cancelled() and task is not None and not task.cancelling():
                # Handed back by itself: so is the parent, which finds it again.
                parent.stop(RetryLater(f"child {child.id} was interrupted", where=child.id))
            child.task.cancel()
            await asyncio.wait([child.task])
            raise
        except LeaseLost:
            ended = await self._child_again(parent, path, child.id, input)
            if ended is None or isinstance(ended, Running):
                parent.stop(RetryLater(f"child {child.id} changed hands", where=child.id))
            return ended
        except HoldfastError as error:
            parent.stop(error)
        if outcome.status is ExecutionStatus.WAITING:
            return ChildEnd(None, None, bytes(child.key), until=outcome.until)
        return ChildEnd(outcome.output, outcome.error, bytes(child.key))

    async def _definition_of(self, runtime: ExecutionRuntime) -> StoredDefinition | None:
        execution = await self._store.execution_by_key(runtime.holding.key)
        return await self._store.get_definition(execution.definition) if execution else None

    async def _read_end(self, key: ExecutionKey) -> ChildEnd:
        outcome = await read_outcome(self._store, key)
        return ChildEnd(outcome.output, outcome.error, bytes(key))
