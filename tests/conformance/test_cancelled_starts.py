"""A caller that goes away while a start or an end is on its way to the disk: nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import ExecutionCancelled
from holdfast.fleet.starts import new_key
from holdfast.records.executions import ExecutionStatus
from holdfast.store.drivers.base import Batch, Reply
from holdfast.store.entries import Holding
from tests.conformance.hands import new_entry, until

pytestmark = pytest.mark.anyio


class Program:
    """A workflow with a child, whose starts are held up between their commit and their answer."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)
        self.committed, self.answer = asyncio.Event(), asyncio.Event()

        @self.app.step
        async def work() -> int:
            return 1

        @self.app.workflow
        async def inner() -> int:
            return await work()

        @self.app.workflow
        async def outer() -> int:
            return await inner()

        self.inner: Any = inner
        self.outer: Any = outer

    def hold_up(self, workflow: str) -> None:
        """Keep back the answer to the flush that starts an execution of `workflow`."""
        real = self.app.store.driver.flush

        async def flush(batch: Batch) -> list[Reply]:
            replies = await real(batch)
            if any(write.create is not None and write.create.workflow == workflow for write in batch.writes):
                self.committed.set()
                await self.answer.wait()
            return replies

        self.app.store.driver.flush = flush  # type: ignore[method-assign]


async def test_a_child_whose_parent_is_cancelled_while_it_starts_ends_with_it(store_url: str) -> None:
    program = Program(store_url)
    async with program.app, asyncio.timeout(20):
        store = program.app.store
        program.hold_up("inner")
        handle = await program.outer.options(id="x").start()
        await program.committed.wait()
        await handle.cancel("enough")

        async def stopped() -> bool:
            assert program.app._launcher is not None
            return any(running.task.cancelling() for running in program.app._launcher.runs._running.values())

        await until(stopped, "the owner never heard of its cancellation")
        for _ in range(5):
            await asyncio.sleep(0)  # the cancellation arrives where the child's start is awaited
        program.answer.set()
        with pytest.raises(ExecutionCancelled):
            await handle

        async def ended() -> bool:
            return all(execution.status.is_final for execution in await store.list_executions())

        await until(ended, "the child was left behind as running, and nobody runs it")
        assert len(await store.list_executions()) == 2


async def test_a_start_that_is_given_up_is_handed_back(store_url: str) -> None:
    program = Program(store_url)
    async with program.app, asyncio.timeout(20):
        program.hold_up("inner")
        starting = asyncio.ensure_future(program.inner.options(id="x").start())
        await program.committed.wait()
        starting.cancel()
        program.answer.set()
        await asyncio.wait([starting])
        execution = await program.app.store.get_execution("x")
        if execution.status is not ExecutionStatus.COMPLETED:  # its one step may have been quicker
            assert execution.status is ExecutionStatus.READY
            assert await (await program.app.resume("x")) == 1


async def test_a_run_that_is_dropped_while_it_ends_has_ended(fresh_postgres: str) -> None:
    """Its end waits behind another flush when the run is cancelled: it stays in the queue, and is written.

    On PostgreSQL, where the journal does not wait for the run to hand it in with what came before.
    """
    program = Program(fresh_postgres)
    async with program.app, asyncio.timeout(20):
        store, launcher = program.app.store, program.app._launcher
        assert launcher is not None
        real = store.driver.flush

        async def flush(batch: Batch) -> list[Reply]:
            replies = await real(batch)
            if any(write.event.path == "work" for write in batch.writes) and not program.committed.is_set():
                program.committed.set()
                # In the queue before the run can hand in its end.
                store.journal.append(new_entry(Holding(new_key(), "other", store.tenant, epoch=1)))
            elif program.committed.is_set():
                await program.answer.wait()
            return replies

        store.driver.flush = flush  # type: ignore[method-assign]
        handle = await program.inner.options(id="x").start()
        running = launcher.running(handle.key)
        assert running is not None
        await program.committed.wait()

        async def waits() -> bool:
            return any(entry.holding.id == "x" for entry in store.journal._queue)

        await until(waits, "its end is not in the queue")
        running.task.cancel()
        await asyncio.wait([running.task], timeout=0.05)
        program.answer.set()

        async def ended() -> bool:
            return (await store.get_execution("x")).status.is_final

        await until(ended, "its end was dropped")
        assert (await store.get_execution("x")).status is ExecutionStatus.COMPLETED
