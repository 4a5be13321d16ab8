"""Running a workflow's code against a log, to see whether it still does what the log says.

Nothing is written, claimed or run: recorded results are given back, and what is not recorded is held. The
code of a Python workflow runs, but no step's body does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Never

from holdfast.errors import (
    DefinitionChanged,
    HoldfastError,
    ReplayDiverged,
    TooManyRecoveries,
    WorkflowNotFound,
)
from holdfast.records.events import EventType
from holdfast.records.executions import Execution
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.entries import Entry, Holding, Placed
from holdfast.store.journal import Journal
from holdfast.store.store import Store
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.failures import describe
from holdfast.workflows.program import Program
from holdfast.workflows.replay import History

QUIET_S = 0.2
"""How long nothing may be called before the code counts as waiting for what is not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it. `difference` is None when the code follows the log.

    `replayed` results were given back; `held_at` are calls that the log has no result for, where an
    unfinished execution goes on.
    """

    difference: str | None
    replayed: int
    held_at: tuple[str, ...]


async def replay(
    store: Store,
    execution: Execution,
    load: Callable[[StoredDefinition], Program],
    *,
    timeout: timedelta = timedelta(minutes=1),
) -> Verdict:
    """Run the code of `execution` against its log. Raises what loading the code raises."""
    definition = await store.get_definition(execution.definition)
    if definition is None:
        raise WorkflowNotFound(f"the definition of execution {execution.id} is not stored")
    program = load(definition)
    history = History.read(await store.driver.fetch("events.history", execution.key))
    holding = Holding(execution.key, execution.id, execution.tenant, epoch=execution.epoch)
    runtime = _Replay(Engine(_NoJournal(store.driver), store.driver), holding, history)
    task = asyncio.ensure_future(program.execute(runtime, history.input or b""))
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            await _until_quiet(task, runtime)
        difference = await _difference(store, execution, program, runtime, task)
    except TimeoutError:
        difference = f"the code did not come to an end within {timeout}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return Verdict(difference=difference, replayed=runtime.replayed, held_at=tuple(runtime.held))


async def _until_quiet(task: asyncio.Future[Any], runtime: _Replay) -> None:
    while not task.done():
        seen = runtime.calls
        await asyncio.wait([task], timeout=QUIET_S)
        if runtime.held and runtime.calls == seen:
            return


async def _difference(
    store: Store, execution: Execution, program: Program, runtime: _Replay, task: asyncio.Future[Any]
) -> str | None:
    if runtime.fatal is not None:
        return runtime.fatal.cause
    kind, value = await _recorded_end(store, execution)
    if not task.done():
        # An end from outside, by a cancellation or because its owners kept dying, comes anywhere.
        from_outside = kind == EventType.EXECUTION_CANCELLED or value.get("code") == TooManyRecoveries.code
        if kind is None or from_outside:
            return None
        return f"the code calls {runtime.held[0]!r}, which the log of the ended execution has not"
    error = task.exception()
    if isinstance(error, DefinitionChanged):
        return error.cause
    try:
        runtime.history.check_consumed()
    except DefinitionChanged as left:
        return left.cause
    if kind == EventType.EXECUTION_COMPLETED and error is not None:
        return f"the execution completed, the code fails: {describe(error)['message']}"
    if kind == EventType.EXECUTION_FAILED and error is None:
        return f"the execution failed ({value.get('message')}), the code completes"
    return None if error is not None else await _other_output(store, execution, program, task.result())


async def _recorded_end(store: Store, execution: Execution) -> tuple[str | None, dict[str, Any]]:
    """The type of the end in the log, and what it says unless that is an output."""
    rows = await store.driver.fetch("events.end", execution.key)
    if not rows or rows[0][0] == EventType.EXECUTION_COMPLETED:
        return (rows[0][0], {}) if rows else (None, {})
    return rows[0][0], codec.decode(rows[0][1], what="error") if rows[0][1] else {}


async def _other_output(store: Store, execution: Execution, program: Program, value: object) -> str | None:
    rows = await store.driver.fetch("events.end", execution.key)
    if not rows or rows[0][0] != EventType.EXECUTION_COMPLETED:
        return None
    same = codec.encode(value, program.annotation, what="output") == rows[0][1]
    return None if same else "the code ends with another output than the recorded one"


class _NoJournal(Journal):
    """A journal that writes nothing."""

    def append(self, entry: Entry) -> Never:
        """Nothing may be written in a replay."""
        raise AssertionError(f"a replay was about to write {entry.fields[0]}")

    def append_soon(self, entry: Entry) -> None:
        """What nobody awaits is passed over."""

    async def place(self, holding: Holding, data: bytes) -> Placed:
        """Values are not stored either."""
        return Placed(data, None, None)


class _Replay(ExecutionRuntime):
    """Gives back what is recorded, and holds every call that is not."""

    def __init__(self, engine: Engine, holding: Holding, history: History) -> None:
        super().__init__(engine, holding, history)
        self.held: list[str] = []
        self.calls = 0

    async def _recorded(self, path: str) -> None:
        self.calls += 1
        if path not in self.history.results:
            self.held.append(path)
            await asyncio.get_running_loop().create_future()

    async def perform(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """A step: its result, and never its body."""
        await self._recorded(path)
        return await super().perform(path, *args, **kwargs)

    async def skip(self, path: str, name: str, reason: str) -> None:
        """A step that did not run."""
        await self._recorded(path)
        await super().skip(path, name, reason)

    async def sleep(self, path: str, *args: Any, **kwargs: Any) -> None:
        """A timer that has fired."""
        await self._recorded(path)
        await super().sleep(path, *args, **kwargs)

    async def await_message(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """A message that was taken."""
        await self._recorded(path)
        return await super().await_message(path, *args, **kwargs)

    async def descend(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """The end of a child."""
        await self._recorded(path)
        return await super().descend(path, *args, **kwargs)

    async def child(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """The end of a child of a YAML workflow."""
        await self._recorded(path)
        return await super().child(path, *args, **kwargs)

    async def start_child(self, path: str, *args: Any, **kwargs: Any) -> str:
        """A child that was started."""
        await self._recorded(path)
        return await super().start_child(path, *args, **kwargs)


def diverged(verdict: Verdict, execution: Execution) -> HoldfastError:
    """The error that tells of a difference."""
    cause = str(verdict.difference)
    return ReplayDiverged(cause, where=execution.id, id=execution.id, replayed=verdict.replayed)
