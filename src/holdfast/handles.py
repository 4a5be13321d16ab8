"""A handle on one execution: its result, where it stands, and what may be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from holdfast.errors import ExecutionCancelled, ExecutionFailed, HoldfastError
from holdfast.events.progress import read_progress
from holdfast.fleet import control
from holdfast.fleet.ends import read_outcome, wait_for_end
from holdfast.fleet.forking import fork
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.retrying import retry
from holdfast.fleet.starts import Running
from holdfast.fleet.tasks import agents_of
from holdfast.records.executions import Execution, ExecutionDetails, ExecutionStatus, StepProgress
from holdfast.store import codec
from holdfast.workflows.driving import Outcome

R = TypeVar("R")


class Handle(Generic[R]):
    """An execution that was started or found; `await handle` gives its result.

    Awaiting raises `ExecutionFailed` or `ExecutionCancelled` when it ended so. Giving up the
    wait leaves the execution running.
    """

    def __init__(self, launcher: Launcher, started: Running | Execution, annotation: Any) -> None:
        self.id = started.id
        self.key = started.key
        self._launcher = launcher
        self._started = started
        self._annotation = annotation

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def outcome(self) -> Outcome:
        """How it ended, or that it waits; never raises for a failed execution."""
        started = self._started
        if isinstance(started, Running):
            return await asyncio.shield(started.task)
        if not started.status.is_final:
            await wait_for_end(self._launcher.store, self.id)
        return await read_outcome(self._launcher.store, self.key)

    async def result(self) -> R:
        """The result, decoded as the workflow's annotation says."""
        outcome = await self.outcome()
        if outcome.status is ExecutionStatus.COMPLETED:
            decoded: R = codec.decode(outcome.output or b"", self._annotation, what=f"output of {self.id}")
            return decoded
        raise end_error(self.id, outcome)

    async def status(self) -> ExecutionStatus:
        """Where it stands now."""
        return (await self._launcher.store.get_execution(self.id)).status

    async def details(self) -> ExecutionDetails:
        """What was said about it when it was started: tags, who and what started it, metadata, context."""
        return await self._launcher.store.execution_details(self.key)

    async def progress(self) -> StepProgress:
        """How far it is, read from its log."""
        store = self._launcher.store
        return await read_progress(store, await store.get_execution(self.id))

    async def agents(self) -> list[str]:
        """The agents that have carried out steps of it, or do so now."""
        store = self._launcher.store
        return await agents_of(store, await store.get_execution(self.id))

    async def cancel(self, reason: str = "") -> None:
        """Ask it to stop; it ends as cancelled once its steps have been stopped."""
        execution = await self._launcher.store.get_execution(self.id)
        await self._launcher.cancel(execution, reason=reason)

    async def pause(self, reason: str = "") -> bool:
        """Set it aside. True: it is paused now; False: its owner was told, and pauses when its steps end.

        `await app.resume(id)` goes on with it here, `handle.resume()` gives it back to its queue.
        """
        store = self._launcher.store
        execution = await store.get_execution(self.id)
        done = await control.pause(store, self._launcher.registration, execution, reason=reason)
        await self._launcher.runs.look_now()
        return done

    async def resume(self) -> None:
        """Take a pause back: it goes on from its queue. Raises `WrongStatus` when it is not paused."""
        store = self._launcher.store
        await control.resume(store, await store.get_execution(self.id))
        if not isinstance(self._started, Running) or self._started.task.done():
            self._started = await store.get_execution(self.id)

    async def retry(self, from_step: str | None = None) -> list[str]:
        """Make it ready again after it failed or was cancelled; the paths of the steps that will run again.

        From the steps that failed, or from `from_step` and everything recorded after it. A worker of its
        queue goes on with it, or `await app.resume(id)` here. Raises `WrongStatus`, `StepNotFound`.
        """
        store = self._launcher.store
        paths = await retry(store, await store.get_execution(self.id), from_step=from_step)
        self._started = await store.get_execution(self.id)
        return paths

    async def fork(self, at: str | None = None, *, id: str | None = None) -> Handle[R]:
        """A new execution that has the results recorded before step `at`, and its handle.

        It is ready in the same queue; `await app.resume(handle.id)` runs it here. Raises `StepNotFound`,
        `IdTaken`.
        """
        store = self._launcher.store
        made = await fork(store, await store.get_execution(self.id), at=at, id=id)
        return Handle(self._launcher, made, self._annotation)


def end_error(id: str, outcome: Outcome) -> HoldfastError:
    """The error that tells of an execution that did not complete."""
    error = outcome.error or {}
    if outcome.status is ExecutionStatus.CANCELLED:
        return ExecutionCancelled(f"execution {id} was cancelled: {error.get('message', '')}", id=id)
    step = f" in step {error['step']}" if error.get("step") else ""
    return ExecutionFailed(
        f"execution {id} failed{step}: {error.get('type')}: {error.get('message')}", id=id, error=error
    )
