"""Tasks that stand by themselves: dependencies, claims, ends that others wait for, agents."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from holdfast.domain.agents import Agents
from holdfast.domain.tasks import NewTask, Tasks
from holdfast.errors import (
    AgentNotFound,
    ConstraintViolated,
    InvalidArgument,
    RecordExists,
    SealedRecord,
    TaskNotFound,
    TaskTaken,
    VersionConflict,
    WrongTaskStatus,
)
from holdfast.fleet import tasks
from holdfast.fleet.agents import Agent
from holdfast.records.tasks import AgentRecord, AgentStatus, DependencyPolicy, Task, TaskRecord, TaskStatus
from holdfast.store.store import Store
from holdfast.workflows.outside import TaskSpec
from tests.conformance.hands import begin, hand, until

pytestmark = pytest.mark.anyio
CAPABLE = ("research",)


async def statuses(store: Store, *ids: str) -> list[str]:
    return [str((await Tasks(store).get(id)).status) for id in ids]


async def make(store: Store, id: str, *depends_on: str, **options: Any) -> TaskRecord:
    return await Tasks(store).create("research", id=id, depends_on=depends_on, **options)


async def claimed(store: Store, id: str, agent: str = "ana") -> Task:
    """Claim, which has to give just this task."""
    task = await tasks.claim(store, agent, CAPABLE)
    assert task is not None
    assert task.id == id
    return task


async def finish(store: Store, id: str) -> None:
    await tasks.complete(store, await claimed(store, id), {"done": id})


async def test_a_task_has_what_was_said_and_what_became_of_it(store_url: str) -> None:
    async with hand(store_url) as store:
        made = await Tasks(store).create(
            "research", {"topic": "otters", "big": 2**70}, id="a", type="look", priority=5, lease="90s",
            max_attempts=2, metadata={"from": "ana"},
        )  # fmt: skip
        assert (made.status, made.revision, made.depends_on) == (TaskStatus.PENDING, 1, ())
        task = await claimed(store, "a")
        assert (task.payload, task.priority, task.lease) == (made.payload, 5, timedelta(seconds=90))
        held = await Tasks(store).get("a")
        assert (held.status, held.agent, held.attempts, held.revision) == (TaskStatus.CLAIMED, "ana", 1, 2)
        assert held.lease_until is not None
        assert await tasks.renew(store, task)
        assert (await Tasks(store).get("a")).revision == 3
        await tasks.complete(store, task, ["x", None])
        await tasks.complete(store, task, ["x", None])  # again: harmless
        done = await Tasks(store).get("a")
        assert (done.status, done.result, done.metadata) == (
            TaskStatus.COMPLETED,
            ["x", None],
            {"from": "ana"},
        )
        assert done.finished_at is not None
        assert done.updated_at >= held.updated_at
        assert done.revision == 4
        assert (await Tasks(store).find("status:completed type:look priority:>4")).items == [done]


async def test_priorities_order_and_then_age(store_url: str) -> None:
    async with hand(store_url) as store:
        for id, priority in (("low", -1), ("old", 0), ("new", 0), ("high", 2**40)):
            await make(store, id, priority=priority)
        for id in ("high", "old", "new", "low"):
            await claimed(store, id)
        assert await tasks.claim(store, "ana", CAPABLE) is None


async def test_a_task_is_claimed_when_all_it_depends_on_is_completed(store_url: str) -> None:
    async with hand(store_url) as store:
        await make(store, "a")
        await make(store, "b")
        await make(store, "c", "a", "b", priority=9)
        await make(store, "d", "c", "a", "a")
        assert await statuses(store, "a", "b", "c", "d") == ["pending", "pending", "blocked", "blocked"]
        assert (await Tasks(store).get("d")).depends_on == ("c", "a")
        await finish(store, "a")
        assert await statuses(store, "c", "d") == ["blocked", "blocked"]
        await finish(store, "b")
        assert await statuses(store, "c", "d") == ["pending", "blocked"]
        await finish(store, "c")
        await make(store, "e", "a", "c")  # all of it is completed already
        assert await statuses(store, "d", "e") == ["pending", "pending"]


@pytest.mark.parametrize("end", ["fail", "cancel"])
async def test_a_dependency_that_ends_badly_ends_what_waits_by_its_policy(store_url: str, end: str) -> None:
    async with hand(store_url) as store:
        await make(store, "a")
        await make(store, "other")
        await make(store, "failing", "a")
        await make(store, "calm", "a", "other", on_failed_dependency="cancel")
        await make(store, "far", "calm", "failing")
        await make(store, "free", "other")
        if end == "fail":
            assert not await tasks.fail(
                store, await claimed(store, "a"), {"type": "X", "message": "no"}, retry=False
            )
        else:
            assert (await Tasks(store).cancel("a", "not needed")).status is TaskStatus.CANCELLED
        assert await statuses(store, "failing", "calm", "far", "free") == [
            "failed", "cancelled", "failed", "blocked",
        ]  # fmt: skip
        far = await Tasks(store).get("far")
        assert (far.error["type"], far.error["task"]) == ("DependencyFailed", "a")
        assert far.finished_at is not None
        late = await make(store, "late", "other", "a", on_failed_dependency="cancel")
        assert late.status is TaskStatus.CANCELLED
        await finish(store, "other")
        assert await statuses(store, "calm", "free") == ["cancelled", "pending"]


async def test_attempts_that_are_left_end_nothing(store_url: str) -> None:
    async with hand(store_url) as store:
        await make(store, "a", max_attempts=2)
        await make(store, "b", "a")
        assert await tasks.fail(store, await claimed(store, "a"), {"type": "X"})
        assert await statuses(store, "a", "b") == ["pending", "blocked"]
        assert not await tasks.fail(store, await claimed(store, "a"), {"type": "X"})
        assert await statuses(store, "a", "b") == ["failed", "failed"]


async def test_many_are_made_at_once_in_any_order_or_none(store_url: str) -> None:
    async with hand(store_url) as store:
        made = await Tasks(store).create_many([
            NewTask(capability="research", id="c", depends_on=["b", "a"]),
            NewTask(capability="research", id="b", depends_on=["a"]),
            NewTask(capability="research", id="a"),
        ])  # fmt: skip
        assert {each.id: str(each.status) for each in made} == {
            "a": "pending",
            "b": "blocked",
            "c": "blocked",
        }
        for id in ("a", "b", "c"):
            await finish(store, id)
        with pytest.raises(InvalidArgument, match="wait for each other: ") as cycle:
            await Tasks(store).create_many([
                NewTask(capability="research", id="x", depends_on=["z"]),
                NewTask(capability="research", id="y", depends_on=["x"]),
                NewTask(capability="research", id="z", depends_on=["y"]),
                NewTask(capability="research", id="w"),
            ])  # fmt: skip
        assert all(id in cycle.value.cause for id in "xyz")
        with pytest.raises(InvalidArgument, match="wait for each other"):
            await make(store, "self", "self")
        with pytest.raises(RecordExists):
            await Tasks(store).create_many([
                NewTask(capability="research", id="w"), NewTask(capability="research", id="a"),
            ])  # fmt: skip
        with pytest.raises(InvalidArgument, match="same id"):
            await Tasks(store).create_many([NewTask(capability="r", id="v"), NewTask(capability="r", id="v")])
        assert await Tasks(store).create_many([]) == []
        for id in ("w", "x", "v", "self"):
            with pytest.raises(TaskNotFound):
                await Tasks(store).get(id)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capability": ""}, "can not be a capability"),
        ({"capability": "a\0"}, "can not be a capability"),
        ({"capability": "é" * 128}, "can not be a capability"),
        ({"type": ""}, "can not be a type"),
        ({"id": ""}, "can not be an id"),
        ({"id": "i" * 256}, "can not be an id"),
        ({"max_attempts": 0}, "are none"),
        ({"lease": "1ms"}, "too short"),
        ({"depends_on": "abc"}, "depends on 3 others"),
        ({"depends_on": [str(number) for number in range(101)]}, "depends on 101 others"),
        ({"on_failed_dependency": "wait"}, "wait"),
    ],
)
async def test_what_no_task_can_be_is_refused(options: dict[str, Any], words: str) -> None:
    async with hand("memory://") as store:
        with pytest.raises((InvalidArgument, ValueError), match=words):
            await Tasks(store).create_many([NewTask(**{"capability": "research", **options})])
        assert (await Tasks(store).find()).items == []


async def test_only_tasks_that_stand_by_themselves_are_waited_for(store_url: str) -> None:
    async with hand(store_url) as store:
        with pytest.raises(TaskNotFound, match="'nothing' to depend on"):
            await make(store, "a", "nothing")
        holding = await begin(store)
        await tasks.offer(store, holding, "p", "x:p", TaskSpec(capability="research"))
        with pytest.raises(InvalidArgument, match="step of an execution"):
            await make(store, "a", "x:p")
        with pytest.raises(WrongTaskStatus, match="step of an execution"):
            await Tasks(store).requeue("x:p")
        assert (await Tasks(store).cancel("x:p", "not today")).status is TaskStatus.FAILED
        assert len(await store.inbox(holding.key)) == 1  # its step hears of it


async def test_the_records_are_written_by_the_verbs_alone(store_url: str) -> None:
    async with hand(store_url) as store:
        made = await make(store, "a")
        with pytest.raises(SealedRecord):
            await store.repo(TaskRecord).update(made)
        with pytest.raises(SealedRecord):
            await store.repo(TaskRecord).delete("a")
        await make(store, "b", "a")
        raw = store.repo(TaskRecord, unsealed=True)
        with pytest.raises(ConstraintViolated):
            await raw.delete("a")  # "b" waits for it
        await finish(store, "a")
        with pytest.raises(VersionConflict):
            await raw.update(made)  # the claim has raised the revision
        await raw.delete("b")
        await raw.delete("a")


async def test_a_task_that_is_called_off_is_refused_to_its_agent(store_url: str) -> None:
    async with hand(store_url) as store:
        await make(store, "a")
        task = await claimed(store, "a")
        await Tasks(store).cancel("a")
        assert not await tasks.renew(store, task)
        with pytest.raises(TaskTaken):
            await tasks.complete(store, task, 1)
        with pytest.raises(WrongTaskStatus, match="cancelled already"):
            await Tasks(store).cancel("a")
        with pytest.raises(TaskNotFound):
            await Tasks(store).cancel("b")


async def test_a_failed_task_is_put_back_and_waits_again(store_url: str) -> None:
    async with hand(store_url) as store:
        mine = Tasks(store)
        await make(store, "a", max_attempts=1)
        await make(store, "b", "a")
        lost = await claimed(store, "a")
        await tasks.fail(store, lost, {"type": "X"})
        with pytest.raises(WrongTaskStatus, match="depends on 'a', which is failed"):
            await mine.requeue("b")
        again = await mine.requeue("a")
        assert (again.status, again.attempts, again.error, again.finished_at) == (
            TaskStatus.PENDING,
            0,
            None,
            None,
        )
        assert (await mine.requeue("b")).status is TaskStatus.BLOCKED
        with pytest.raises(WrongTaskStatus, match="is pending"):
            await mine.requeue("a")
        with pytest.raises(TaskTaken):
            await tasks.complete(store, lost, "late")
        await finish(store, "a")
        await finish(store, "b")
        with pytest.raises(WrongTaskStatus, match="is completed"):
            await mine.requeue("b")
        with pytest.raises(TaskNotFound):
            await mine.requeue("c")


# Two at once.


async def drain(store: Store, agent: str, taken: list[tuple[str, Sequence[str]]], done: set[str]) -> None:
    """Claim and complete until nothing is left; every claim notes what it depended on."""
    while True:
        task = await tasks.claim(store, agent, CAPABLE)
        if task is None:
            if not (await Tasks(store).find("status:blocked", limit=1)).items:
                left = await Tasks(store).find("status:pending", limit=1)
                if not left.items:
                    return
            await asyncio.sleep(0)
            continue
        record = await Tasks(store).get(task.id)
        assert set(record.depends_on) <= done, f"{task.id} came before {set(record.depends_on) - done}"
        taken.append((task.id, record.depends_on))
        done.add(task.id)  # before the answer is given: whoever sees it completed finds it here
        await tasks.complete(store, task, None)


async def test_two_agents_never_claim_what_waits_and_never_the_same(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        new = []
        for number in range(30):
            before = [f"t{each}" for each in range(max(0, number - 4), number) if (each + number) % 3]
            new.append(NewTask(capability="research", id=f"t{number}", depends_on=before))
        await Tasks(mine).create_many(new)
        taken: list[tuple[str, Sequence[str]]] = []
        done: set[str] = set()
        await asyncio.gather(
            *(drain(store, str(n), taken, done) for n, store in enumerate((mine, theirs, mine, theirs)))
        )
        assert sorted(id for id, _ in taken) == sorted(each.id for each in new)


async def test_the_last_two_dependencies_completing_at_once_release_the_task(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        for number in range(15):
            left, right, end = (f"{number}-{name}" for name in ("l", "r", "end"))
            await make(mine, left)
            await make(mine, right)
            await make(mine, end, left, right)
            first, second = await claimed(mine, left), await claimed(theirs, right)
            await asyncio.gather(tasks.complete(mine, first, 1), tasks.complete(theirs, second, 1))
            await finish(mine, end)


async def test_a_task_made_while_its_dependency_ends_is_never_left_behind(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        for number in range(15):
            await make(mine, f"a{number}")
            task = await claimed(mine, f"a{number}")
            ends: Any = (
                tasks.complete(theirs, task, 1)
                if number % 2
                else tasks.fail(theirs, task, {"type": "X"}, retry=False)
            )
            await asyncio.gather(ends, make(mine, f"b{number}", f"a{number}"))
            if number % 2:
                await finish(mine, f"b{number}")
            else:
                assert await statuses(mine, f"b{number}") == ["failed"]


async def test_calling_off_and_completing_at_once_gives_one_of_both(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        for number in range(15):
            await make(mine, f"a{number}")
            await make(mine, f"b{number}", f"a{number}")
            task = await claimed(theirs, f"a{number}")
            off, done = await asyncio.gather(
                Tasks(mine).cancel(f"a{number}"), tasks.complete(theirs, task, 1), return_exceptions=True
            )
            if isinstance(off, TaskRecord):
                assert isinstance(done, TaskTaken)
                assert await statuses(mine, f"a{number}", f"b{number}") == ["cancelled", "failed"]
            else:
                assert (isinstance(off, WrongTaskStatus), done) == (True, None)
                await finish(mine, f"b{number}")


async def test_crossing_cascades_end_everything(shared_url: str) -> None:
    """Two failures whose dependents lie crosswise, so that both want what the other has."""
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(120):
        for number in range(6):
            a, b, m, n, x, y = (f"{number}{name}" for name in "abmnxy")
            for id, before in ((a, ()), (b, ()), (m, (a,)), (n, (b,)), (x, (a, n)), (y, (b, m))):
                await make(mine, id, *before)
            first, second = await claimed(mine, a), await claimed(theirs, b)
            await asyncio.gather(
                tasks.fail(mine, first, {"type": "X"}, retry=False),
                tasks.fail(theirs, second, {"type": "X"}, retry=False),
            )
            assert set(await statuses(mine, a, b, m, n, x, y)) == {"failed"}


# Agents.


async def age(store: Store, id: str, seconds: int) -> None:
    """Let the last sign of life of an agent lie so long ago."""
    record = await store.repo(AgentRecord).get(id)
    assert record.heartbeat_at is not None
    from dataclasses import replace

    await store.repo(AgentRecord).update(
        replace(record, heartbeat_at=record.heartbeat_at - timedelta(seconds=seconds))
    )


async def test_agents_are_registered_and_found_by_what_they_can_do(store_url: str) -> None:
    async with hand(store_url) as store:
        agents = Agents(store)
        await agents.register("ana", capabilities=["research", "ß"], role="reader", metadata={"n": 1})
        await agents.register("bob", capabilities=["research"], type="llm")
        await agents.register("eve", capabilities=["writing"])
        await agents.heartbeat("bob", AgentStatus.BUSY)
        found = await agents.find("capability:research status:idle")
        assert [each.agent.id for each in found.items] == ["ana"]
        ana = found.items[0]
        assert (ana.agent.capabilities, ana.agent.role, ana.agent.metadata) == (
            ("research", "ß"),
            "reader",
            {"n": 1},
        )
        assert (ana.is_alive, ana.load) == (True, 0)
        again = await agents.register("ana", capabilities=["ß"])
        assert (again.revision, again.role, again.created_at) == (2, None, ana.agent.created_at)
        assert [each.agent.id for each in (await agents.find("capability:ß")).items] == ["ana"]
        with pytest.raises(AgentNotFound):
            await agents.heartbeat("nobody")
        with pytest.raises(AgentNotFound):
            await agents.get("nobody")
        for wrong in ([], "research", [""], ["a\n"]):
            with pytest.raises(InvalidArgument):
                await agents.register("x", capabilities=wrong)


async def test_the_least_loaded_living_agent_comes_first(store_url: str) -> None:
    async with hand(store_url) as store:
        agents = Agents(store)
        for id in ("ana", "bob", "eve", "gone", "off"):
            await agents.register(id, capabilities=["research"])
        for number in range(3):
            await make(store, f"t{number}")
            await claimed(store, f"t{number}", "ana" if number < 2 else "bob")
        await age(store, "gone", 46)
        await age(store, "bob", 44)
        await agents.heartbeat("off", AgentStatus.OFFLINE)
        able = await agents.able("research")
        assert [(each.agent.id, each.load) for each in able] == [("eve", 0), ("bob", 1), ("ana", 2)]
        assert not (await agents.get("gone")).is_alive
        assert not (await agents.get("off")).is_alive
        assert await agents.able("writing") == []
        await agents.heartbeat("gone")
        assert (await agents.get("gone")).is_alive


async def test_an_agent_carries_out_tasks_of_their_own(shared_url: str) -> None:
    async with hand(shared_url) as store, asyncio.timeout(20):
        await make(store, "a", metadata={"n": 1})
        await make(store, "b", "a")
        async with Agent(store, "ana", capabilities=CAPABLE, poll="50ms") as agent:

            async def handler(task: Task) -> object:
                return {"was": task.id}

            work = asyncio.ensure_future(agent.run(handler))

            async def completed() -> bool:
                return await statuses(store, "b") == ["completed"]

            await until(completed, "it never carried out the second one")
            work.cancel()
            await asyncio.wait([work])
        assert (await Tasks(store).get("b")).result == {"was": "b"}
        assert [each.id async for each in store.repo(TaskRecord).stream("agent:ana")] == ["a", "b"]


def test_policies_are_those_of_the_database() -> None:
    assert {str(policy) for policy in DependencyPolicy} == {"fail", "cancel"}
