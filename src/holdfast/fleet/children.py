"""Child executions, started and awaited for their parents.

A child's id follows from its parent and the path of the call, so a parent that comes back finds the children
it had: running here, left behind by a dead process, owned by a live one, or ended. A child that was started
goes on by its stored definition, whatever has become of the file it came from. One that is queued, waits, is
paused or runs elsewhere is left alone: its end is told to the parent's inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from holdfast.errors import (
    ExecutionNotFound,
    HoldfastError,
    IdTaken,
    LeaseLost,
    NotResumable,
    OwnedElsewhere,
    RetryLater,
    TooManyRecoveries,
)
from holdfast.fleet.ends import read_outcome, read_waits
from holdfast.fleet.starts import LOCAL_QUEUE, Origin, Running, child_id, fingerprint, new_key
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.records.workflows import StoredDefinition
from holdfast.store.store import Store
from holdfast.workflows.descent import ChildAway, ChildCall, ChildEnd
from holdfast.workflows.driving import Parent
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.program import Program
from holdfast.workflows.replay import arguments_changed
from holdfast.workflows.results import shown

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
        """Start an execution here; None when its id exists."""
        ...

    async def enqueue(self, program: Program, input: bytes, origin: Origin) -> Execution:
        """Leave an execution to the workers of its queue; the one that has its id already as it is."""
        ...

    async def cancel(self, execution: Execution, *, reason: str = "") -> bool:
        """Ask an execution to stop."""
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

    async def run(self, parent: ExecutionRuntime, path: str, call: ChildCall) -> ChildEnd | ChildAway:
        """See `Children.run`."""
        child = await self._started(parent, path, call)
        if not isinstance(child, Running):
            return child
        return await self._end_of(child, parent, path, call)

    async def start(self, parent: ExecutionRuntime, path: str, call: ChildCall) -> str:
        """See `Children.start`."""
        await self._started(parent, path, call)
        return child_id(parent.execution_id, path, parent.history.renewed.get(path, 0))

    async def _started(
        self, parent: ExecutionRuntime, path: str, call: ChildCall
    ) -> Running | ChildEnd | ChildAway:
        id_ = child_id(parent.execution_id, path, parent.history.renewed.get(path, 0))
        # Only a parent that comes back can have this child already, and it goes on by its stored definition.
        child: Running | ChildEnd | ChildAway | None = None
        if parent.history.last_seq:
            child = await self._child_again(parent, path, id_, call)
        if child is None:
            child = await self._begin(parent, path, id_, call)
            try:
                await self._see_parent(parent, id_)
            except asyncio.CancelledError:
                if isinstance(child, Running):
                    await _stop(child, call)
                raise
        child = child or await self._child_again(parent, path, id_, call)
        if child is None:
            raise ExecutionNotFound(f"execution {id_!r} vanished while it was started", id=id_)
        return child

    async def _begin(
        self, parent: ExecutionRuntime, path: str, id_: str, call: ChildCall
    ) -> Running | ChildAway | None:
        """Start the child, here or for workers; None when there is one already."""
        above = await self._store.execution_by_key(parent.holding.key)
        asking = await self._store.get_definition(above.definition) if above else None
        program = await self._find(call.workflow, call.version, asking)
        # Where its parent is served: a child that began here may be woken when nobody runs it.
        inherited = above.queue if above is not None else LOCAL_QUEUE
        origin = Origin(
            id=id_,
            queue=call.queue or inherited,
            class_=call.class_ or "io",
            priority=call.priority if call.priority is not None else (above.priority if above else 0),
            delay=call.delay,
            limit_key=call.limit_key,
            tags=call.tags,
            metadata=call.metadata,
            context=call.context,
            trigger="parent",
            parent=Parent(parent.holding.key, path, parent),
            detached=call.detach,
        )
        if call.queue is not None:
            found = await self._host.enqueue(program, call.input, origin)
            return None if found.parent != parent.holding.key or found.status.is_final else ChildAway(id_)
        key = new_key()
        async with self._host.turn(key):
            return await self._host.begin(program, call.input, origin, key, id_)

    async def _see_parent(self, parent: ExecutionRuntime, id_: str) -> None:
        """A parent that ended while it was starting a child has nobody to stop the child: so this does.

        Its end looks for children after its commit and this looks at the parent after the child's, so at
        least one of the two sees the other.
        """
        above = await self._store.execution_by_key(parent.holding.key)
        if above is not None and above.status.is_final:
            child = await self._store.find_execution(id_)
            if child is not None and not child.status.is_final:
                with suppress(NotResumable):
                    await self._host.cancel(child, reason=f"its parent had {above.status}")

    async def _child_again(
        self, parent: ExecutionRuntime, path: str, id_: str, call: ChildCall
    ) -> Running | ChildEnd | ChildAway | None:
        """The child as it is: running here now, away, or its end. None when there is none."""
        while True:
            child = await self._store.find_execution(id_)
            if child is None:
                return None
            if child.parent != parent.holding.key:
                parent.stop(IdTaken(f"execution {id_!r} exists and is no child of this one", id=id_))
            if child.fingerprint != fingerprint(child.workflow, call.input):
                rows = await self._store.driver.fetch("events.history", child.key)
                parent.stop(arguments_changed(path, shown(rows[0][11]), shown(call.input)))
            if child.status.is_final:
                return await self._read_end(child.key)
            running = self._host.running(child.key)
            if running is not None:
                return running
            if _is_away(child, call, parent.now()):
                return ChildAway(id_, child.due_at, await read_waits(self._store, child))
            try:
                async with self._host.turn(child.key):
                    return self._host.running(child.key) or await self._host.take_over(
                        child, steal=False, above=parent
                    )
            except (TooManyRecoveries, NotResumable):
                continue  # it has ended by that, or meanwhile
            except OwnedElsewhere as error:
                # Somebody runs the child by itself, and its end is told. When that owner dies, workers take
                # it from its queue; where none serve, it is ours to take as soon as the lease is over.
                left_s = max(float(error.details.get("lease_left_s", 0.0)), 0.0) + 1.0
                until = parent.now() + timedelta(seconds=left_s) if child.queue == LOCAL_QUEUE else None
                return ChildAway(id_, until)

    async def _end_of(
        self, child: Running, parent: ExecutionRuntime, path: str, call: ChildCall
    ) -> ChildEnd | ChildAway:
        """Wait for a child of this process; what stopped its run without ending it stops the parent's too."""
        try:
            outcome = await asyncio.shield(child.task)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if child.task.cancelled() and task is not None and not task.cancelling():
                # Handed back by itself: so is the parent, which finds it again.
                parent.stop(RetryLater(f"child {child.id} was interrupted", where=child.id))
            await _stop(child, call)
            raise
        except LeaseLost:
            ended = await self._child_again(parent, path, child.id, call)
            if ended is None or isinstance(ended, Running):
                parent.stop(RetryLater(f"child {child.id} changed hands", where=child.id))
            return ended
        except HoldfastError as error:
            parent.stop(error)
        if not outcome.status.is_final:
            return ChildAway(child.id, outcome.until, outcome.waits_for)
        return ChildEnd(outcome.output, outcome.error, bytes(child.key))

    async def _read_end(self, key: ExecutionKey) -> ChildEnd:
        outcome = await read_outcome(self._store, key)
        return ChildEnd(outcome.output, outcome.error, bytes(key))


async def _stop(child: Running, call: ChildCall) -> None:
    """Hand a child back that nobody here waits for any more; one that was detached goes on."""
    if not call.detach:
        child.task.cancel()
        await asyncio.wait([child.task])


def _is_away(child: Execution, call: ChildCall, now: datetime) -> bool:
    """Whether a child that has not ended is not to be run here: it is the workers', or has nothing to do."""
    if call.queue is not None or child.status is ExecutionStatus.PAUSED:
        return True
    return child.status is ExecutionStatus.WAITING and (child.due_at is None or child.due_at > now)
