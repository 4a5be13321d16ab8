"""Agent tasks: a step that an agent outside carries out, however often agents are lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import ExecutionFailed, LeaseLost, TaskTaken
from holdfast.fleet import tasks
from holdfast.fleet.agents import Agent
from holdfast.records.tasks import AgentRecord, AgentStatus, Task, TaskStatus
from holdfast.store.entries import Holding
from holdfast.store.store import Store
from holdfast.workflows.outside import TaskSpec
from tests.conformance.fleets import hired
from tests.conformance.hands import begin, hand, take_over, until
from tests.conformance.test_worker import ended

pytestmark = pytest.mark.anyio


@dataclass
class Notes:
    text: str
    pages: int


class Desk:
    """An app with one workflow that asks an agent."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)

        @self.app.workflow
        async def ask(topic: str, attempts: int = 3, timeout: str | None = None) -> str:
            notes = await hf.agent_task(
                "research", {"topic": topic}, max_attempts=attempts, timeout=timeout, lease="1s", model=Notes
            )
            return f"{notes.text} {notes.pages}"

        self.ask: Any = ask


async def age(store: Store, id: str) -> None:
    """Let the lease of a task be over by the database's clock."""
    if store.driver.dialect == "postgresql":
        past = f"UPDATE {store.driver.schema}.tasks SET lease_until = now() - interval '1 s' WHERE id = $1"
    else:
        past = "UPDATE tasks SET lease_until = 0 WHERE id = ?1"
    await store.driver.fetch_text(past, id)


async def test_an_agent_carries_out_a_step_and_nothing_waits_for_it_meanwhile(shared_url: str) -> None:
    desk = Desk(shared_url)
    async with desk.app, hired(shared_url, desk.app, waits_here_s=0.0) as worker, asyncio.timeout(20):
        handle = await desk.ask.options(id="x").enqueue("otters")
        await ended(worker.store, "x", status="waiting")
        async with Agent(worker.store, "ana", capabilities=["writing", "research"], role="reader") as agent:
            task = await agent.claim("10s")
            assert task is not None
            assert (task.payload, task.attempts, task.status) == ({"topic": "otters"}, 1, TaskStatus.CLAIMED)
            async with agent.working(task):
                await tasks.complete(worker.store, task, {"text": "notes", "pages": 3})
            await tasks.complete(worker.store, task, {"text": "notes", "pages": 3})  # again: harmless
            record = await worker.store.repo(AgentRecord).get("ana")
            assert (record.id, record.role, record.capabilities) == ("ana", "reader", ("writing", "research"))
        assert await handle == "notes 3"
        assert (await worker.store.repo(AgentRecord).get("ana")).status is AgentStatus.OFFLINE


async def test_a_handler_that_fails_gets_the_task_again_until_its_attempts_are_used(shared_url: str) -> None:
    desk = Desk(shared_url)
    seen: list[int] = []

    async def fails(task: Task) -> object:
        seen.append(task.attempts)
        raise ValueError("no ink")

    async with desk.app, hired(shared_url, desk.app) as worker, asyncio.timeout(20):
        handle = await desk.ask.options(id="x").enqueue("otters", 2)
        async with Agent(worker.store, "ana", capabilities=["research"], poll="50ms") as agent:
            work = asyncio.ensure_future(agent.run(fails))
            with pytest.raises(ExecutionFailed, match="no ink"):
                await handle
            work.cancel()
            await asyncio.wait([work])
        assert seen == [1, 2]


async def test_the_task_of_a_lost_agent_returns_and_its_late_answer_is_refused(shared_url: str) -> None:
    desk = Desk(shared_url)
    async with desk.app, hired(shared_url, desk.app) as worker, asyncio.timeout(20):
        store = worker.store
        handle = await desk.ask.options(id="x").enqueue("otters")
        async with Agent(store, "lost", capabilities=["research"]) as lost:
            first = await lost.claim("10s")
            assert first is not None
            await age(store, first.id)
            assert not await tasks.renew(store, first)  # what has run out stays so
            async with Agent(store, "ana", capabilities=["research"]) as agent:
                second = await agent.claim("10s")
                assert second is not None
                assert (second.id, second.attempts) == (first.id, 2)
                with pytest.raises(TaskTaken):
                    await tasks.complete(store, first, {"text": "late", "pages": 0})
                await tasks.complete(store, second, {"text": "new", "pages": 1})
        assert await handle == "new 1"


async def test_without_the_epoch_a_late_answer_would_count(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lenient(transaction: Any, tenant: str, id: str, epoch: int) -> Any:
        return (await transaction.fetch("tasks.lock", tenant, id))[0]

    monkeypatch.setattr(tasks, "_claimed_row", lenient)
    async with hand(shared_url) as store:
        holding = await begin(store)
        await tasks.offer(store, holding, "p", "t", TaskSpec(capability="research"))
        first = await tasks.claim(store, "lost", ["research"])
        assert first is not None
        await age(store, "t")
        await tasks.return_lapsed(store)
        assert await tasks.claim(store, "ana", ["research"]) is not None
        await tasks.complete(store, first, "late")
        assert (await tasks.get(store, "t")).status is TaskStatus.COMPLETED


async def test_a_task_whose_agents_keep_dying_fails_the_step(shared_url: str) -> None:
    desk = Desk(shared_url)
    async with desk.app, hired(shared_url, desk.app) as worker, asyncio.timeout(20):
        store = worker.store
        handle = await desk.ask.options(id="x").enqueue("otters", 2)
        for name in ("one", "two"):
            async with Agent(store, name, capabilities=["research"]) as agent:
                task = await agent.claim("10s")
                assert task is not None
                await age(store, task.id)
                assert await tasks.return_lapsed(store) == 1
        with pytest.raises(ExecutionFailed, match="stopped renewing"):
            await handle


async def test_a_deadline_calls_the_task_off(shared_url: str) -> None:
    desk = Desk(shared_url)
    async with desk.app, hired(shared_url, desk.app) as worker, asyncio.timeout(20):
        handle = await desk.ask.options(id="x").enqueue("otters", 1, "100ms")
        with pytest.raises(ExecutionFailed, match="no agent completed"):
            await handle
        assert await tasks.claim(worker.store, "late", ["research"]) is None


async def test_a_zombie_offers_no_task(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        with pytest.raises(LeaseLost):
            await tasks.offer(mine, holding, "p", "t", TaskSpec(capability="research"))
        assert await tasks.claim(theirs, "ana", ["research"]) is None


async def test_completing_and_calling_off_at_once_gives_one_of_both(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(20):
        for number in range(10):
            holding = await begin(mine, f"x{number}")
            id = f"t{number}"
            await tasks.offer(mine, holding, "p", id, TaskSpec(capability=id))
            task = await tasks.claim(theirs, "ana", [id])
            assert task is not None
            withdrawn, completed = await asyncio.gather(
                tasks.withdraw(mine, holding, id),
                tasks.complete(theirs, task, 1),
                return_exceptions=True,
            )
            status = (await tasks.get(mine, id)).status
            if withdrawn is True:
                assert isinstance(completed, TaskTaken)
                assert (status, await mine.inbox(holding.key)) == (TaskStatus.CANCELLED, [])
            else:
                assert (withdrawn, completed, status) == (False, None, TaskStatus.COMPLETED)
                assert len(await mine.inbox(holding.key)) == 1


async def test_two_agents_never_claim_the_same_task(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(20):
        holding: Holding = await begin(mine)
        for number in range(40):
            await tasks.offer(mine, holding, f"p{number}", f"t{number}", TaskSpec(capability="research"))
        taken: list[str] = []

        async def drain(store: Store, agent: str) -> None:
            while (task := await tasks.claim(store, agent, ["research"])) is not None:
                taken.append(task.id)

        await asyncio.gather(*[drain(store, str(n)) for n, store in enumerate((mine, theirs, mine, theirs))])
        assert sorted(taken) == sorted(f"t{number}" for number in range(40))


async def test_a_yaml_step_asks_an_agent(shared_url: str, tmp_path: Any) -> None:
    file = tmp_path / "ask.yaml"
    file.write_text(
        "name: ask\ninputs: {properties: {topic: {type: string}}}\nsteps:\n"
        "  - id: look\n    agent: {capability: research, timeout: 1h}\n"
        "    with: {topic: '${{ inputs.topic }}'}\noutputs: '${{ steps.look.output }}'\n"
    )
    async with hand(shared_url) as store, asyncio.timeout(20), hf.Orchestrator(store) as orchestrator:
        running = await orchestrator.start(file, {"topic": "otters"})
        async with Agent(store, "ana", capabilities=["research"]) as agent:

            async def answer(task: Task) -> object:
                return {"about": task.payload["topic"]}

            work = asyncio.ensure_future(agent.run(answer))
            outcome = await orchestrator.outcome(running)
            work.cancel()
            await asyncio.wait([work])
        assert outcome.error is None
        assert b"otters" in (outcome.output or b"")


async def test_a_lost_claim_stops_the_work_on_it(shared_url: str) -> None:
    async with hand(shared_url) as store, asyncio.timeout(20):
        holding = await begin(store)
        await tasks.offer(store, holding, "p", "t", TaskSpec(capability="research"))
        async with Agent(store, "ana", capabilities=["research"]) as agent:
            task = await agent.claim("5s")
            assert task is not None
            quick = Task(
                **{name: getattr(task, name) for name in task.__slots__} | {"lease": task.lease / 300}
            )
            await age(store, "t")
            with pytest.raises(TaskTaken):
                async with agent.working(quick):
                    await asyncio.Event().wait()

            async def lapsed() -> bool:
                return await tasks.return_lapsed(store) == 1

            await until(lapsed, "the task never returned")
