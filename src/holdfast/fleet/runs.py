"""What runs in this process: one task for each execution, one look around for all of them, and lapses.

Two things reach a run from outside. While executions are held here, one question about once a second, or when
a hint says so, tells whether messages came for them or somebody took them, for those that write nothing
themselves. And when the lease has run out, all of them are stopped, the process registers anew, and those
that nobody else has taken go on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from holdfast.errors import HoldfastError, LeaseLost, OwnedElsewhere, RetryLater
from holdfast.fleet.leaving import clean_up
from holdfast.fleet.ownership import Claim, Registration, claim
from holdfast.fleet.starts import Running
from holdfast.fleet.taking import take_up
from holdfast.records.executions import ExecutionKey
from holdfast.store.entries import Holding
from holdfast.store.query import bound_list
from holdfast.store.store import Store
from holdfast.workflows.driving import Drive, Outcome, Parent
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.program import Program
from holdfast.workflows.replay import History

_WATCH_S = (0.7, 1.0)
_HASTENED_S = 0.01
_COME_BACK_S = (0.1, 5.0)


class Runs:
    """The executions of this process, by key."""

    def __init__(self, store: Store, registration: Registration) -> None:
        self._store = store
        self._registration = registration
        self.engine: Engine | None = None
        self.clock_offset = timedelta(0)
        self._running: dict[ExecutionKey, Running] = {}
        self._held: dict[ExecutionKey, Holding] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._hastened = False
        self._looking: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._lapses = 0
        registration.on_lapse = self._lapsed

    def __len__(self) -> int:
        return len(self._running)

    def get(self, key: ExecutionKey) -> Running | None:
        """The run of an execution in this process, if it is here."""
        return self._running.get(key)

    def keys(self) -> set[ExecutionKey]:
        """The executions that run here."""
        return set(self._running)

    async def close(self) -> None:
        """Stop what runs and hand it back. Safe twice."""
        self._registration.on_lapse = None
        if self._watch is not None:
            self._watch.cancel()
        tasks: list[asyncio.Task[Outcome] | asyncio.Task[None]] = [
            running.task for running in self._running.values()
        ]
        tasks.extend(task for task in (self._looking, self._returning) if task is not None)
        await asyncio.sleep(0)  # a task that never began could not hand back
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def launch(
        self,
        program: Program,
        holding: Holding,
        history: History,
        input: bytes,
        parent: Parent | None,
        *,
        resumed: bool,
        on_end: Callable[[asyncio.Task[Outcome]], None] | None = None,
    ) -> Running:
        """Run an execution that this process owns, in a task of its own; `on_end` is called with that."""
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
            if on_end is not None:
                on_end(task)

        task.add_done_callback(ended)
        return running

    async def _drive(
        self, program: Program, holding: Holding, history: History, input: bytes, parent: Parent | None
    ) -> Outcome:
        """Run an execution here, also across a lapse of the lease."""
        assert self.engine is not None  # given by the launcher before anything is launched
        while True:
            lapses = self._lapses
            runtime = ExecutionRuntime(self.engine, holding, history, clock_offset=self.clock_offset)
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
                await self.registered()
                taken = await self._claim_again(holding)
                history = await take_up(self._store, taken, parent)
                holding = taken.holding
            else:
                await clean_up(self._store, self._registration, holding.key, outcome)
                return outcome
            finally:
                self._held.pop(runtime.holding.key, None)

    async def _claim_again(self, lost: Holding) -> Claim:
        """After a lapse: take an execution back; `LeaseLost` when somebody else has it or it has ended."""
        execution = await self._store.execution_by_key(lost.key)
        if execution is None or execution.epoch != lost.epoch or execution.status.is_final:
            raise LeaseLost(f"execution {lost.id} was taken over while this process had no lease", id=lost.id)
        try:
            return await claim(self._store, self._registration, execution)
        except OwnedElsewhere as error:
            raise LeaseLost(f"execution {lost.id} was taken over by another owner", id=lost.id) from error

    # What comes from outside.

    def _look_soon(self) -> None:
        self._watch = None
        self._hastened = False
        if self._held:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        # The next look may find the store again; nothing can be written until then.
        with suppress(RetryLater):
            await self.look_now()
        if self._held and self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(random.uniform(*_WATCH_S), self._look_soon)

    def hasten(self) -> None:
        """A hint came: look around in a moment instead of at the usual time; many hints are one look."""
        if self._watch is not None and not self._hastened:
            self._watch.cancel()
            self._hastened = True
            self._watch = asyncio.get_running_loop().call_later(_HASTENED_S, self._look_soon)

    async def look_now(self) -> None:
        """Ask once for all that is held whether messages came, or somebody else has taken over."""
        asked = dict(self._held)
        if not asked:
            return
        driver = self._store.driver
        for key, epoch, wakes in await driver.fetch(
            "executions.wakes", bound_list(driver.dialect, list(asked))
        ):
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

    async def registered(self) -> None:
        """Wait until this process may take executions: at once, except after a lapse."""
        if self._returning is not None:
            await asyncio.shield(self._returning)

    async def _come_back(self) -> None:
        pause_s = _COME_BACK_S[0]
        while True:
            try:
                await self._registration.start_over()
            except HoldfastError:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _COME_BACK_S[1])
            else:
                self._returning = None
                return
