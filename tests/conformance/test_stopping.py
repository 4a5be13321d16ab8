"""What an owner does when it is asked to pause or to stop, on every store: its steps take their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import ExecutionCancelled
from holdfast.fleet import control
from holdfast.fleet.cancelling import cancel, post
from holdfast.fleet.ownership import Registration
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.store import codec
from holdfast.store.entries import Entry
from holdfast.store.store import Store
from holdfast.workflows.driving import Drive, Outcome
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.replay import History
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.runtime import StepCall
from tests.conformance.hands import begin, hand, log_of, row_of, until

pytestmark = pytest.mark.anyio

PAUSED, READY, CANCELLED = ExecutionStatus.PAUSED, ExecutionStatus.READY, ExecutionStatus.CANCELLED


class Works:
    """A workflow of two steps; the first one waits for `gate`, and tells when it has begun."""

    def __init__(self, url: str) -> None:
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.ran: list[str] = []
        self.app = hf.App(url)

        @self.app.step
        async def first() -> str:
            self.ran.append("first")
            self.begun.set()
            await self.gate.wait()
            return "one"

        @self.app.step
        async def second() -> str:
            self.ran.append("second")
            return "two"

        @self.app.workflow
        async def work() -> str:
            return await first() + await second()

        @self.app.workflow
        async def naps() -> None:
            await hf.gather(first(), hf.sleep("1h"))
            await second()

        self.work, self.naps = work, naps


@asynccontextmanager
async def asker(url: str) -> AsyncIterator[tuple[Store, Registration]]:
    """Somebody else, who asks."""
    async with hand(url) as theirs:
        registration = Registration(theirs)
        await registration.start()
        try:
            yield theirs, registration
        finally:
            await registration.stop()


async def found(store: Store, id: str = "w") -> Execution:
    return await store.get_execution(id)


async def kinds(store: Store, id: str = "w") -> list[str]:
    return [event[1] for event in await log_of(store, (await found(store, id)).key)]


async def hears(works: Works) -> None:
    """Let the process look for messages now, instead of within a second, and read what it finds."""
    assert works.app._launcher is not None
    await works.app._launcher.runs.look_now()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when an execution of this process has heard that it is to pause."""
    event, real = asyncio.Event(), ExecutionRuntime.pause

    def pause(self: ExecutionRuntime) -> None:
        real(self)
        event.set()

    monkeypatch.setattr(ExecutionRuntime, "pause", pause)
    return event


async def test_a_pause_lets_running_steps_end_and_begins_none(shared_url: str, heard: asyncio.Event) -> None:
    works = Works(shared_url)
    async with works.app, asker(shared_url) as (theirs, registration), asyncio.timeout(20):
        handle = await works.work.options(id="w").start()
        await works.begun.wait()
        assert not await control.pause(theirs, registration, await found(theirs), reason="lunch")
        await hears(works)
        await heard.wait()
        works.gate.set()
        assert (await handle.outcome()).status is PAUSED
        assert works.ran == ["first"]
        row = await found(theirs)
        assert (row.status, row.owner) == (PAUSED, None)
        assert await theirs.inbox(row.key) == []
        assert (await kinds(theirs))[-2:] == ["step.completed", "execution.suspended"]
        assert await control.resume(theirs, row) is READY
        assert await (await works.app.resume("w")) == "onetwo"
        assert works.ran == ["first", "second"]


async def test_a_pause_does_not_wait_for_a_timer(shared_url: str) -> None:
    works = Works(shared_url)
    async with works.app, asker(shared_url) as (theirs, registration), asyncio.timeout(20):
        handle = await works.naps.options(id="w").start()
        await works.begun.wait()
        works.gate.set()

        async def has_first() -> bool:
            return "step.completed" in await kinds(theirs)

        await until(has_first, "the step never ended")
        await control.pause(theirs, registration, await found(theirs))
        await hears(works)
        assert (await handle.outcome()).status is PAUSED


async def test_a_pause_that_is_taken_back_goes_on(shared_url: str, heard: asyncio.Event) -> None:
    works = Works(shared_url)
    async with works.app, asker(shared_url) as (theirs, registration), asyncio.timeout(20):
        handle = await works.work.options(id="w").start()
        await works.begun.wait()
        await control.pause(theirs, registration, await found(theirs))
        await hears(works)
        await heard.wait()
        await control.resume(theirs, await found(theirs))
        works.gate.set()
        assert await handle == "onetwo"
        assert "execution.suspended" not in await kinds(theirs)


async def test_a_cancellation_overrules_a_pause(shared_url: str, heard: asyncio.Event) -> None:
    works = Works(shared_url)
    async with works.app, asker(shared_url) as (theirs, registration), asyncio.timeout(20):
        handle = await works.work.options(id="w").start()
        await works.begun.wait()
        await control.pause(theirs, registration, await found(theirs))
        await hears(works)
        await heard.wait()
        await cancel(theirs, registration, await found(theirs), reason="enough")
        await hears(works)
        with pytest.raises(ExecutionCancelled, match="enough"):
            await handle
        assert (await found(theirs)).status is CANCELLED


async def test_a_pause_lets_the_steps_of_children_end(shared_url: str, heard: asyncio.Event) -> None:
    works = Works(shared_url)

    @works.app.workflow
    async def outer() -> str:
        return (await works.work()).upper()

    async with works.app, asker(shared_url) as (theirs, registration), asyncio.timeout(20):
        handle = await outer.options(id="w").start()
        await works.begun.wait()
        await control.pause(theirs, registration, await found(theirs))
        await hears(works)
        await heard.wait()
        assert not handle_is_done(works)
        works.gate.set()
        assert (await handle.outcome()).status is PAUSED
        assert (await kinds(theirs, "w.work"))[-2:] == ["step.completed", "execution.suspended"]
        assert (await found(theirs, "w.work")).status is READY
        await control.resume(theirs, await found(theirs))
        assert await (await works.app.resume("w")) == "ONETWO"
        assert works.ran == ["first", "second"]


def handle_is_done(works: Works) -> bool:
    """Whether nothing runs in this process any more."""
    assert works.app._launcher is not None
    return not len(works.app._launcher.runs)


# A deadline for those that do not stop.


class Stubborn:
    """A step that swallows its cancellation until `gate` opens."""

    def __init__(self, url: str) -> None:
        self.gate, self.begun, self.asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.app = hf.App(url)

        @self.app.step
        async def holds() -> str:
            self.begun.set()
            while not self.gate.is_set():
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.asked.set()
            return "late"

        @self.app.workflow
        async def work() -> str:
            return await holds()

        self.work = work


@pytest.mark.parametrize("limit", [timedelta(milliseconds=50), None])
async def test_a_deadline_ends_what_does_not_stop(shared_url: str, limit: timedelta | None) -> None:
    """Its twin without a deadline is the second case: the execution runs as long as its step likes."""
    stubborn = Stubborn(shared_url)
    async with stubborn.app, asker(shared_url) as (theirs, registration), asyncio.timeout(20):
        handle = await stubborn.work.options(id="w").start()
        await stubborn.begun.wait()
        await cancel(theirs, registration, await found(theirs), reason="enough", deadline=limit)
        assert stubborn.app._launcher is not None
        await stubborn.app._launcher.runs.look_now()
        await stubborn.asked.wait()
        if limit is not None:

            async def has_ended() -> bool:
                return (await found(theirs)).status is CANCELLED

            await until(has_ended, "it never ended")
            assert (await kinds(theirs))[-1] == "execution.cancelled"
        else:
            assert (await found(theirs)).status is ExecutionStatus.RUNNING
        stubborn.gate.set()
        if limit is not None:
            with pytest.raises(ExecutionCancelled, match="enough"):
                await handle
            assert (await kinds(theirs))[-1] == "execution.cancelled"  # nothing came behind it
        else:
            assert await handle == "late"


# A message beside the end of the process.


async def handed_back(
    mine: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch, kind: str, *, careless: bool = False
) -> tuple[Outcome | BaseException, Execution, int]:
    """A message arrives when the owner is leaving, and has not given the execution up yet."""
    holding = await begin(mine)
    engine = Engine(mine.journal, mine.driver)
    runtime = ExecutionRuntime(engine, holding, History())
    begun = asyncio.Event()

    async def body(_attempt: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def program(running: ExecutionRuntime) -> Any:
        await running.step(StepCall(path="a", name="a", arguments={}, body=body, retry=RetryPolicy()))

    real = mine.journal.append
    message = b"m" * 16

    def append(entry: Entry) -> Any:
        transition = entry.transition
        if transition is None or transition.status not in (READY, PAUSED):
            return real(entry)
        if careless:
            entry.transition = transition._replace(expect_wakes=None)
        return asyncio.ensure_future(after_the_message(entry))

    async def after_the_message(entry: Entry) -> Any:
        if not await theirs.inbox(holding.key):
            await post(theirs, holding.key, kind, None, codec.encode({"reason": "enough"}), message)
        return await real(entry)

    monkeypatch.setattr(mine.journal, "append", append)
    running = asyncio.ensure_future(Drive(runtime, program).run())
    await begun.wait()
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([running])
    engine.close()
    outcome = asyncio.CancelledError() if running.cancelled() else running.exception() or running.result()
    return outcome, await row_of(theirs, holding.key), len(await theirs.inbox(holding.key))


@pytest.mark.parametrize(("kind", "status"), [("cancel", CANCELLED), ("pause", PAUSED), ("child", READY)])
async def test_a_message_beside_a_hand_back_is_acted_on(
    shared_url: str, monkeypatch: pytest.MonkeyPatch, kind: str, status: ExecutionStatus
) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        outcome, row, left = await handed_back(mine, theirs, monkeypatch, kind)
        assert isinstance(outcome, asyncio.CancelledError)  # whoever stops the process is not told otherwise
        assert (row.status, row.owner) == (status, None)
        assert left == (1 if kind == "child" else 0)


async def test_without_counting_wakes_a_cancellation_waits_for_nobody(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        _, row, left = await handed_back(mine, theirs, monkeypatch, "cancel", careless=True)
        assert (row.status, left) == (READY, 1)
