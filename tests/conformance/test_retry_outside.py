"""What a retried execution had asked of agents and people: asked again, kept, or called off."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import ExecutionFailed, TaskTaken
from holdfast.fleet import tasks
from holdfast.fleet.agents import Agent
from holdfast.fleet.retrying import retry
from holdfast.records.events import EventType
from holdfast.records.tasks import Task, TaskStatus
from holdfast.store.entries import Entry
from holdfast.store.store import Store
from tests.conformance.fleets import hired
from tests.conformance.hands import begin, hand, log_of, result, row_of, until
from tests.conformance.test_leaving import SPEC, failing
from tests.conformance.test_worker import ended

pytestmark = pytest.mark.anyio


class Team:
    """A workflow that asks an agent twice and fails as often as it is told to."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)
        self.failures = 0

        @self.app.step
        async def check() -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise ValueError("not yet")

        @self.app.workflow
        async def work(attempts: int = 1) -> list[Any]:
            answers = [await hf.agent_task("c", number, max_attempts=attempts) for number in (1, 2)]
            await check()
            return answers

        self.work: Any = work


@asynccontextmanager
async def answering(store: Store, seen: list[Task]) -> Any:
    """An agent that answers what it is asked with how many it has answered before."""

    async def answer(task: Task) -> int:
        seen.append(task)
        return len(seen)

    async with Agent(store, "ana", capabilities=["c"], poll="50ms") as agent:
        at_work = asyncio.ensure_future(agent.run(answer))
        try:
            yield
        finally:
            at_work.cancel()
            await asyncio.wait([at_work])


async def test_steps_that_run_again_ask_anew_however_often(shared_url: str) -> None:
    """No task of a later generation has the name of an earlier one, or of another call."""
    team, seen = Team(shared_url), list[Task]()
    team.failures = 3
    async with team.app, hired(shared_url, team.app) as worker, asyncio.timeout(30):
        handle = await team.work.options(id="x").enqueue()
        async with answering(worker.store, seen):
            for _ in range(3):
                with pytest.raises(ExecutionFailed):
                    await handle
                await retry(worker.store, await worker.store.get_execution("x"), from_step="agent_task")
            assert await handle == [7, 8]
    assert [task.payload for task in seen] == [1, 2] * 4
    assert len({task.id for task in seen}) == 8


async def test_a_task_that_failed_is_asked_once_more_and_not_twice(shared_url: str) -> None:
    team = Team(shared_url)
    async with team.app, hired(shared_url, team.app) as worker, asyncio.timeout(30):
        store = worker.store
        handle = await team.work.options(id="x").enqueue()
        async with Agent(store, "ana", capabilities=["c"]) as agent:
            first = await agent.claim("10s")
            assert first is not None
            await tasks.fail(store, first, {"type": "no", "message": "ink"})
            with pytest.raises(ExecutionFailed):
                await handle
            await retry(store, await store.get_execution("x"))
            again = await agent.claim("10s")
            assert again is not None
            assert (again.payload, again.attempts) == (1, 1)
            assert await tasks.claim(store, "bob", ["c"]) is None
            assert (await tasks.get(store, first.id)).status is TaskStatus.FAILED  # what was, stays


async def test_a_task_that_a_cancellation_called_off_is_offered_again(shared_url: str) -> None:
    """Under its old name; whoever had it before can not answer for whoever has it now."""
    team = Team(shared_url)
    async with team.app, hired(shared_url, team.app) as worker, asyncio.timeout(30):
        store = worker.store
        handle = await team.work.options(id="x").enqueue()
        async with Agent(store, "ana", capabilities=["c"]) as agent:
            old = await agent.claim("10s")
            assert old is not None
            await handle.cancel("stop")
            await ended(store, "x", status="cancelled")

            async def called_off() -> bool:
                return (await tasks.get(store, old.id)).status is TaskStatus.CANCELLED

            await until(called_off, "the task was not called off")
            await retry(store, await store.get_execution("x"))
            new = await agent.claim("10s")
            assert new is not None
            assert (new.id, new.attempts) == (old.id, 1)
            assert new.epoch > old.epoch
            with pytest.raises(TaskTaken):
                await tasks.complete(store, old, "late")
            await tasks.complete(store, new, "new")
            assert (await tasks.get(store, new.id)).status is TaskStatus.COMPLETED


@pytest.mark.parametrize(
    ("from_step", "left", "status"), [(None, 1, TaskStatus.PENDING), ("a", 0, TaskStatus.CANCELLED)]
)
async def test_an_answer_counts_only_for_what_was_asked(
    shared_url: str, from_step: str | None, left: int, status: TaskStatus
) -> None:
    """It came before the end and was not taken: it goes with its step, and stays with one that goes on.

    So does a task that nobody has answered.
    """
    async with hand(shared_url) as mine:
        holding = await begin(mine, "x")
        await mine.journal.append(result(holding, "a"))
        await mine.journal.append(Entry(holding, EventType.TIMER_STARTED, "b"))
        await mine.driver.fetch("inbox.post", holding.key, b"m" * 16, "signal", "b", b"answer")
        await mine.driver.fetch("inbox.post", holding.key, b"n" * 16, "signal", "b\x1fname", b"signal")
        await tasks.offer(mine, holding, "b", "x:b", SPEC)
        await mine.journal.append(failing(holding))
        await retry(mine, await row_of(mine, holding.key), from_step=from_step)
        names = [message.name for message in await mine.inbox(holding.key)]
        assert (names.count("b"), names.count("b\x1fname")) == (left, 1)
        assert (await tasks.get(mine, "x:b")).status is status
        assert (await log_of(mine, holding.key))[-1][1] == EventType.STEP_RESET
