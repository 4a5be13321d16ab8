"""An execution that suspends while a message arrives: whichever comes first, the message is acted on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from holdfast.fleet.cancelling import post
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Row
from holdfast.store.store import Store
from holdfast.workflows.driving import Drive, Outcome
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.replay import History
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.runtime import StepCall
from tests.conformance.hands import begin, hand, log_of, row_of, until

pytestmark = pytest.mark.anyio

CANCEL = codec.encode({"reason": "enough"})


class SlowReader:
    """Reads like the driver, but the inbox only when the test opens it."""

    def __init__(self, store: Store) -> None:
        self._driver = store.driver
        self.opened = asyncio.Event()
        self.asked = asyncio.Event()

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        if name == "inbox.read":
            self.asked.set()
            await self.opened.wait()
        return await self._driver.fetch(name, *args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        return await self._driver.fetch_text(text, *args)


async def drive(mine: Store, theirs: Store, reader: SlowReader, *, when: str) -> Outcome:
    """A step beside a long timer; the cancellation arrives during the step, or when all is quiet."""
    holding = await begin(mine)
    engine = Engine(mine.journal, reader, sleep_max_s=0.0)
    runtime = ExecutionRuntime(engine, holding, History())
    message = b"c" * 16

    async def body(_attempt: int) -> int:
        if when == "step":
            await post(theirs, holding.key, "cancel", None, CANCEL, message)
        return 1

    async def program(running: ExecutionRuntime) -> None:
        call = StepCall(path="a", name="a", arguments={}, body=body, retry=RetryPolicy())
        await asyncio.gather(running.step(call), running.sleep("nap", "nap", timedelta(hours=1)))

    driven = Drive(runtime, program)
    settled, look = asyncio.Event(), driven._settled

    def look_and_tell() -> None:
        look()
        settled.set()

    driven._settled = look_and_tell  # type: ignore[method-assign]

    async def is_parked() -> bool:
        return bool(runtime.parked)

    ending = asyncio.ensure_future(driven.run())
    try:
        async with asyncio.timeout(10):
            if when == "quiet":
                # Nothing of this process writes any more: only the suspension itself can find the message.
                await until(is_parked, "it never came to the timer")
                await post(theirs, holding.key, "cancel", None, CANCEL, message)
            await reader.asked.wait()
            await settled.wait()
            if driven._suspending is not None:
                await asyncio.wait([driven._suspending], timeout=0.2)
            reader.opened.set()
            return await ending
    finally:
        ending.cancel()
        await asyncio.wait([ending])
        engine.close()


@pytest.mark.parametrize("when", ["step", "quiet"])
async def test_a_cancellation_is_read_before_the_execution_sleeps(shared_url: str, when: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        outcome = await drive(mine, theirs, SlowReader(mine), when=when)
        assert outcome.status is ExecutionStatus.CANCELLED
        found = await theirs.list_executions()
        row = await row_of(theirs, found[0].key)
        assert row.status is ExecutionStatus.CANCELLED
        assert await theirs.inbox(row.key) == []
        log = await log_of(theirs, row.key)
        assert [event[0] for event in log] == list(range(1, len(log) + 1))


async def test_without_a_message_it_suspends(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        reader = SlowReader(mine)
        reader.asked.set()
        outcome = await drive(mine, theirs, reader, when="never")
        assert outcome.status is ExecutionStatus.WAITING
        found = await theirs.list_executions()
        assert found[0].status is ExecutionStatus.WAITING
