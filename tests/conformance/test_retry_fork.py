"""Running ended executions again, in place or as new ones: what runs again, what stays, and who may race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    DefinitionChanged,
    ExecutionFailed,
    IdTaken,
    LeaseLost,
    StepFailed,
    StepNotFound,
    WrongStatus,
)
from holdfast.events.log import EventLog
from holdfast.events.steps import read_steps
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.control import pause, resume
from holdfast.fleet.forking import fork
from holdfast.fleet.ownership import claim
from holdfast.fleet.retrying import retry
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, Transition
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from tests.conformance.hands import (
    begin,
    hand,
    is_mysql,
    log_of,
    mark,
    plant,
    prefixed,
    result,
    row_of,
    rows,
    statements_of,
)
from tests.conformance.test_control import both, sql

pytestmark = pytest.mark.anyio


class World:
    """What bodies do depends on it; what they did is noted."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.ran: list[str] = []

    def body(self, name: str, value: Any = None) -> Any:
        self.ran.append(name)
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        return name.upper() if value is None else value


@asynccontextmanager
async def opened(
    url: str, make: Callable[[hf.App, World], Any], world: World
) -> AsyncIterator[tuple[hf.App, Any]]:
    app = hf.App(url)
    made = make(app, world)
    async with app:
        yield app, made


async def fails(flow: Any, *args: Any, id: str = "x") -> Any:
    handle = await flow.options(id=id).start(*args)
    with pytest.raises(ExecutionFailed):
        await handle.result()
    return handle


async def again(app: hf.App, id: str = "x", *, from_step: str | None = None) -> Any:
    """Retry, and run it here."""
    await retry(app.store, await app.store.get_execution(id), from_step=from_step)
    handle = await app.resume(id)
    return await handle.result()


async def status_of(store: Store, id: str) -> ExecutionStatus:
    return (await store.get_execution(id)).status


async def is_whole(store: Store) -> bool:
    return await EventLog(store).verify() == []


def three(app: hf.App, world: World) -> Any:
    @app.step
    async def first() -> str:
        return str(world.body("first"))

    @app.step
    async def second(before: str) -> str:
        return before + str(world.body("second"))

    @app.step
    async def third(before: str) -> str:
        return before + str(world.body("third"))

    @app.workflow
    async def flow(word: str = "") -> str:
        return word + await third(await second(await first()))

    return flow


# Retry: what runs again.


async def test_a_failed_step_runs_again_and_what_was_done_does_not(shared_url: str) -> None:
    world = World()
    world.broken.add("second")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        world.broken.clear()
        before = await app.store.get_execution("x")
        assert await again(app) == "FIRSTSECONDTHIRD"
        assert world.ran == ["first", "second", "second", "third"]
        after = await app.store.get_execution("x")
        assert (after.status, after.key) == (ExecutionStatus.COMPLETED, before.key)
        assert after.epoch > before.epoch
        assert await is_whole(app.store)
        steps = {step.path: step.status for step in await read_steps(app.store, after)}
        assert steps == {"first": "completed", "second": "completed", "third": "completed"}
        seen = await rows(
            app.store,
            f"SELECT path, generation, status FROM {prefixed(app.store, 'steps')} ORDER BY path",
        )
        assert [tuple(row) for row in seen] == [
            ("first", 0, "completed"), ("second", 1, "completed"), ("third", 0, "completed"),
        ]  # fmt: skip


async def test_a_retry_is_one_event_and_nothing_is_deleted(shared_url: str) -> None:
    world = World()
    world.broken.add("second")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        execution = await app.store.get_execution("x")
        before = await log_of(app.store, execution.key)
        assert await retry(app.store, execution) == ["second"]
        after = await log_of(app.store, execution.key)
        assert after[: len(before)] == before
        assert [event[1] for event in after[len(before) :]] == ["step.reset"]
        assert after[-1][3] == execution.epoch + 1
        row = await app.store.get_execution("x")
        assert (row.status, row.owner, row.recoveries, row.finished_at) == ("ready", None, 0, None)
        assert row.queue == execution.queue
        assert await is_whole(app.store)
        # Between the retry and its take-up the execution has no end, whatever the log says in front.
        assert not await app.store.driver.fetch("events.end", execution.key)


async def test_it_may_fail_and_be_retried_again_and_again(shared_url: str) -> None:
    world = World()
    world.broken.add("second")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        for _ in range(3):
            with pytest.raises(ExecutionFailed):
                await again(app)
        world.broken = {"third"}
        with pytest.raises(ExecutionFailed):
            await again(app)
        world.broken.clear()
        assert await again(app) == "FIRSTSECONDTHIRD"
        assert world.ran.count("first") == 1
        assert world.ran.count("second") == 5
        assert await is_whole(app.store)


async def test_attempts_count_anew(shared_url: str) -> None:
    world = World()

    def make(app: hf.App, world: World) -> Any:
        @app.step(max_attempts=2, backoff="1ms")
        async def shaky() -> str:
            return str(world.body("shaky"))

        @app.workflow
        async def flow() -> str:
            return await shaky()

        return flow

    world.broken.add("shaky")
    async with opened(shared_url, make, world) as (app, flow):
        await fails(flow)
        with pytest.raises(ExecutionFailed):
            await again(app)
        assert world.ran == ["shaky"] * 4
        rows_ = await app.store.driver.fetch("events.history", (await app.store.get_execution("x")).key)
        assert [row[5] for row in rows_ if row[2] == "shaky" and row[1] != "step.started"] == [1, 2, 1, 2]


async def test_from_a_named_step_everything_recorded_behind_it_runs_again(shared_url: str) -> None:
    world = World()
    world.broken.add("third")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        world.broken.clear()
        assert await again(app, from_step="second") == "FIRSTSECONDTHIRD"
        assert world.ran == ["first", "second", "third", "second", "third"]
        assert await is_whole(app.store)


async def test_a_step_that_is_not_there_is_named(shared_url: str) -> None:
    world = World()
    world.broken.add("third")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        with pytest.raises(StepNotFound) as refused:
            await retry(app.store, await app.store.get_execution("x"), from_step="secnd")
        assert "second" in refused.value.fix
        assert await status_of(app.store, "x") is ExecutionStatus.FAILED


def fanned(app: hf.App, world: World) -> Any:
    @app.step
    async def part(number: int) -> int:
        world.body(f"part{number}")
        return number

    @app.step
    async def inner(number: int) -> int:
        world.body(f"inner{number}")
        return number

    @app.step
    async def total(numbers: list[int]) -> int:
        return int(world.body("total", sum(numbers)))

    async def two(number: int) -> int:
        return await inner(await part(number))

    @app.workflow
    async def flow() -> int:
        plain = await hf.gather(*(part(number) for number in range(3)))
        nested = await hf.gather(*(two(number) for number in range(3, 6)))
        return await total([*plain, *nested])

    return flow


@pytest.mark.parametrize("broken", [["part1"], ["part0", "part2"], ["inner4"], ["part3", "inner5"]])
async def test_of_a_gather_only_what_failed_runs_again(shared_url: str, broken: list[str]) -> None:
    world = World()
    world.broken.update(broken)
    async with opened(shared_url, fanned, world) as (app, flow):
        await fails(flow)
        first, world.ran = world.ran, []
        world.broken.clear()
        assert await again(app) == 15
        rerun = set(first) & set(world.ran)
        assert rerun == set(broken)
        assert len(world.ran) == len(set(world.ran))
        assert await is_whole(app.store)


def caught(app: hf.App, world: World) -> Any:
    @app.step
    async def risky() -> str:
        return str(world.body("risky"))

    @app.step
    async def clean_up() -> str:
        return str(world.body("clean_up"))

    @app.step
    async def after(value: str) -> str:
        return str(world.body("after", value))

    @app.workflow
    async def flow(reraise: bool) -> str:
        try:
            value = await risky()
        except StepFailed:
            async with hf.scope("tidy"):
                await clean_up()
            if reraise:
                raise
            value = "fallback"
        return await after(value)

    return flow


async def test_what_was_recorded_because_of_a_failure_is_taken_back_with_it(shared_url: str) -> None:
    world = World()
    world.broken.add("risky")
    async with opened(shared_url, caught, world) as (app, flow):
        await fails(flow, True)
        world.broken.clear()
        # Had the clean-up stayed recorded, the log would have what the code no longer calls.
        assert await again(app) == "RISKY"
        assert world.ran == ["risky", "clean_up", "risky", "after"]
        assert await is_whole(app.store)


async def test_a_failure_that_the_workflow_lived_with_stays(shared_url: str) -> None:
    world = World()
    world.broken.update(["risky", "after"])
    async with opened(shared_url, caught, world) as (app, flow):
        await fails(flow, False)
        world.broken.clear()
        assert await again(app) == "fallback"
        assert world.ran == ["risky", "clean_up", "after", "after"]


async def test_a_failure_of_the_workflow_itself_runs_on_from_what_is_recorded(shared_url: str) -> None:
    world = World()

    def make(app: hf.App, world: World) -> Any:
        @app.step
        async def first() -> str:
            return str(world.body("first"))

        @app.workflow
        async def flow() -> str:
            value = await first()
            if "flow" in world.broken:
                raise RuntimeError("a mistake in the code")
            return value

        return flow

    world.broken.add("flow")
    async with opened(shared_url, make, world) as (app, flow):
        await fails(flow)
        world.broken.clear()
        assert await again(app) == "FIRST"
        assert world.ran == ["first"]


async def test_without_the_reset_the_old_failure_is_found_again(shared_url: str) -> None:
    """Planted: a retry that takes nothing back."""
    world = World()
    world.broken.add("second")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        world.broken.clear()
        kind = mark(app.store, 2)
        other = f"substr({kind}, 1, 0) || 'execution.resumed'"
        plant(app.store, "control.event", kind, "'execution.resumed'" if is_mysql(app.store) else other)
        with pytest.raises(ExecutionFailed):
            await again(app)
        assert world.ran == ["first", "second"]


# Retry: who may.


async def test_only_what_failed_or_was_cancelled_can_be_retried(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine, owner=owner.boot)
        with pytest.raises(WrongStatus, match="is running"):
            await retry(theirs, await row_of(theirs, holding.key))
        await mine.journal.append(Entry(holding, EventType.EXECUTION_COMPLETED, transition=_END))
        with pytest.raises(WrongStatus, match="has completed") as refused:
            await retry(theirs, await row_of(theirs, holding.key))
        assert "holdfast fork x" in refused.value.fix
        waits = await begin(mine, "w")
        await mine.journal.append(
            Entry(waits, EventType.EXECUTION_SUSPENDED, transition=Transition("waiting", final=False))
        )
        with pytest.raises(WrongStatus, match="is waiting"):
            await retry(theirs, await row_of(theirs, waits.key))
        del asker


_END = Transition("completed", final=True)
_FAILED = codec.encode({"type": "ValueError", "message": "broken", "step": "a"})


async def failing(store: Store, id: str = "x") -> Holding:
    """An execution that failed in step `a`."""
    holding = await begin(store, id)
    entry = result(holding, "a", {"type": "ValueError", "message": "broken"}, ordinal=1)
    entry.fields = (str(EventType.STEP_FAILED), *entry.fields[1:])
    assert await store.journal.append(entry) is Answer.WRITTEN
    placed = store.journal.place_small(_FAILED)
    failed = Entry(
        holding, EventType.EXECUTION_FAILED, payload=placed, transition=Transition("failed", final=True)
    )
    assert await store.journal.append(failed) is Answer.WRITTEN
    return holding


async def test_of_two_retries_at_once_one_is_done(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await failing(mine)
        row = await row_of(mine, holding.key)
        answers = await asyncio.gather(retry(mine, row), retry(theirs, row), return_exceptions=True)
        assert answers.count(["a"]) == 1
        assert sum(isinstance(each, WrongStatus) for each in answers) == 1
        log = [event[1] for event in await log_of(mine, holding.key)]
        assert log.count("step.reset") == 1
        assert await is_whole(mine)


async def test_without_the_lock_two_retries_collide(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the status is not looked at under the lock."""
    from holdfast.fleet import retrying

    async def unchecked(*_: Any) -> None:
        return None

    monkeypatch.setattr(retrying, "_check", unchecked)
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await failing(mine)
        row = await row_of(mine, holding.key)
        await asyncio.gather(retry(mine, row), retry(theirs, row), return_exceptions=True)
        log = [event[1] for event in await log_of(mine, holding.key)]
        assert log.count("step.reset") == 2


async def test_the_old_owner_writes_nothing_after_a_retry(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, _asker):
        holding = await failing(mine)
        await retry(theirs, await row_of(theirs, holding.key))
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(holding, "b"))
        assert await is_whole(mine)


async def test_a_retry_against_a_claim_a_cancel_and_a_pause(shared_url: str) -> None:
    """All at once: one story, no gap, and whatever came last is what the row says."""
    for number in range(4):
        async with both(shared_url) as (mine, owner, theirs, asker):
            holding = await failing(mine, f"x{number}")
            row = await row_of(mine, holding.key)
            await asyncio.gather(
                retry(mine, row), claim(theirs, asker, row), cancel(theirs, asker, row),
                pause(mine, owner, row), return_exceptions=True,
            )  # fmt: skip
            log = [event[1] for event in await log_of(mine, holding.key)]
            assert log[3] == "step.reset"
            assert (await row_of(mine, holding.key)).status in ("ready", "running", "paused", "cancelled")
            assert await is_whole(mine)


async def test_what_was_asked_before_the_end_is_forgotten(shared_url: str) -> None:
    """A request that came as it failed must not stop what is retried long after."""
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine, owner=owner.boot)
        row = await row_of(theirs, holding.key)
        assert not await cancel(theirs, asker, row)
        assert not await pause(theirs, asker, row)
        placed = mine.journal.place_small(_FAILED)
        end = Transition("failed", final=True)
        await mine.journal.append(Entry(holding, EventType.EXECUTION_FAILED, payload=placed, transition=end))
        assert await retry(theirs, row) == []
        assert await mine.inbox(holding.key) == []
        with pytest.raises(WrongStatus):
            await resume(theirs, row)


async def test_a_newer_one_with_the_same_deduplication_key_comes_first(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding = await failing(mine)
        table = prefixed(mine, "executions")
        await sql(mine, f"UPDATE {table} SET dedupe_key = 'k'")
        newer = await begin(mine, "newer")
        await sql(mine, f"UPDATE {table} SET dedupe_key = 'k' WHERE id = 'newer'")
        with pytest.raises(WrongStatus, match="deduplication key"):
            await retry(mine, await row_of(mine, holding.key))
        assert (await row_of(mine, holding.key)).status is ExecutionStatus.FAILED
        await mine.journal.append(Entry(newer, EventType.EXECUTION_COMPLETED, transition=_END))
        assert await retry(mine, await row_of(mine, holding.key)) == ["a"]


async def test_nothing_of_a_retry_that_breaks_off_is_seen(shared_url: str) -> None:
    """Whatever statement it breaks off at, the execution is as it was."""
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await failing(mine)
        before, log = await row_of(mine, holding.key), await log_of(mine, holding.key)
        for statement in ("control.reopen", "control.forget_requests", "control.event", "control.children"):
            real = statements_of(theirs)[statement]
            statements_of(theirs)._texts[statement] = "SELECT nonsense FROM nowhere"
            with pytest.raises(Exception):  # noqa: B017 - the database's own words
                await retry(theirs, before)
            statements_of(theirs)._texts[statement] = real
            assert await row_of(mine, holding.key) == before
            assert await log_of(mine, holding.key) == log
        assert await retry(theirs, before) == ["a"]


# Retry: children.


def family(app: hf.App, world: World) -> Any:
    @app.step
    async def work(name: str) -> str:
        return str(world.body(name))

    @app.workflow
    async def child(name: str) -> str:
        return await work(f"{name}1") + await work(f"{name}2")

    @app.workflow
    async def flow() -> list[str]:
        start = await work("start")
        made = await hf.gather(child("a"), child("b"))
        return [start, *made, await work("end")]

    return flow


async def test_a_failed_child_goes_on_under_its_own_id(shared_url: str) -> None:
    world = World()
    world.broken.add("b2")
    async with opened(shared_url, family, world) as (app, flow):
        await fails(flow)
        world.broken.clear()
        before = {each.id: each.key for each in await app.store.list_executions()}
        assert await again(app) == ["START", "A1A2", "B1B2", "END"]
        assert world.ran.count("b2") == 2
        assert all(world.ran.count(name) == 1 for name in ("start", "a1", "a2", "b1", "end"))
        after = {each.id: each.key for each in await app.store.list_executions()}
        assert after == before
        assert {str(each.status) for each in await app.store.list_executions()} == {"completed"}
        assert await is_whole(app.store)


async def test_without_the_retry_of_the_child_its_failure_is_found_again(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.fleet import retrying

    async def left(*_: Any) -> None:
        return None

    monkeypatch.setattr(retrying, "_child_again", left)
    world = World()
    world.broken.add("b2")
    async with opened(shared_url, family, world) as (app, flow):
        await fails(flow)
        world.broken.clear()
        with pytest.raises(ExecutionFailed):
            await again(app)


async def test_from_a_step_its_children_start_anew(shared_url: str) -> None:
    world = World()
    world.broken.add("end")
    async with opened(shared_url, family, world) as (app, flow):
        await fails(flow)
        first, world.ran = set(world.ran), []
        world.broken.clear()
        assert await again(app, from_step="gather") == ["START", "A1A2", "B1B2", "END"]
        assert sorted(world.ran) == ["a1", "a2", "b1", "b2", "end"]
        ids = {each.id for each in await app.store.list_executions()}
        assert ids == {
            "x", "x.gather/child", "x.gather#2/child", "x.gather/child~1", "x.gather#2/child~1",
        }  # fmt: skip
        assert await is_whole(app.store)
        del first


async def test_a_child_is_retried_with_its_parent_only(shared_url: str) -> None:
    world = World()
    world.broken.add("b2")
    async with opened(shared_url, family, world) as (app, flow):
        await fails(flow)
        with pytest.raises(WrongStatus, match="child") as refused:
            await retry(app.store, await app.store.get_execution("x.gather#2/child"))
        assert "retry x" in refused.value.fix


async def test_a_cancelled_execution_goes_on_where_it_stopped(shared_url: str) -> None:
    world, gate, there = World(), asyncio.Event(), asyncio.Event()

    def make(app: hf.App, world: World) -> Any:
        @app.step
        async def work(name: str) -> str:
            if name == "b" and not gate.is_set():
                there.set()
                await gate.wait()
            return str(world.body(name))

        @app.workflow
        async def child() -> str:
            return await work("a") + await work("b")

        @app.workflow
        async def flow() -> str:
            return await work("start") + await child()

        return flow

    async with opened(shared_url, make, world) as (app, flow):
        handle = await flow.options(id="x").start()
        await there.wait()
        await handle.cancel("stop")
        outcome = await handle.outcome()
        assert outcome.status is ExecutionStatus.CANCELLED
        assert await status_of(app.store, "x.child") is ExecutionStatus.CANCELLED
        gate.set()
        assert await again(app) == "STARTAB"
        assert world.ran == ["start", "a", "b"]
        assert await is_whole(app.store)


# Fork.


async def forked(app: hf.App, source: Execution, **options: Any) -> Execution:
    made = await fork(app.store, source, **options)
    assert (made.status, made.epoch, made.owner) == (ExecutionStatus.READY, 0, None)
    return made


async def test_a_fork_has_what_stood_before_the_step(shared_url: str) -> None:
    world = World()
    world.broken.add("third")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        source = await app.store.get_execution("x")
        log = await log_of(app.store, source.key)
        world.broken.clear()
        made = await forked(app, source, at="second", id="y", started_by="ada")
        told = await app.store.execution_details(made.key)
        assert (told.trigger, told.started_by) == ("fork", "ada")
        assert [event[1:3] for event in await log_of(app.store, made.key)] == [
            ("execution.started", None), ("step.completed", "first"),
        ]  # fmt: skip
        world.ran.clear()
        assert await (await app.resume("y")).result() == "FIRSTSECONDTHIRD"
        assert world.ran == ["second", "third"]
        assert await app.store.get_execution("x") == source
        assert await log_of(app.store, source.key) == log
        assert await is_whole(app.store)


async def test_a_fork_with_other_input_runs_from_the_beginning(shared_url: str) -> None:
    world = World()
    async with opened(shared_url, three, world) as (app, flow):
        assert await flow.options(id="x").start("old ") is not None
        handle = await app.handle("x")
        assert await handle.result() == "old FIRSTSECONDTHIRD"
        source = await app.store.get_execution("x")
        made = await forked(app, source, input=codec.encode({"word": "new "}))
        assert made.fingerprint != source.fingerprint
        assert await (await app.resume(made.id)).result() == "new FIRSTSECONDTHIRD"
        assert world.ran.count("first") == 2


async def test_other_arguments_in_front_of_the_fork_are_refused(shared_url: str) -> None:
    world = World()

    def make(app: hf.App, world: World) -> Any:
        @app.step
        async def first(word: str) -> str:
            return str(world.body("first", word))

        @app.step
        async def second(word: str) -> str:
            return str(world.body("second", word))

        @app.workflow
        async def flow(word: str) -> str:
            return await second(await first(word))

        return flow

    async with opened(shared_url, make, world) as (app, flow):
        assert await flow.options(id="x")("old") == "old"
        source = await app.store.get_execution("x")
        made = await forked(app, source, at="second", input=codec.encode({"word": "new"}))
        with pytest.raises(DefinitionChanged, match="other arguments"):
            await (await app.resume(made.id)).result()


async def test_large_values_are_copied_with_their_results(shared_url: str) -> None:
    world = World()
    text = "x" * 200_000

    def make(app: hf.App, world: World) -> Any:
        @app.step
        async def large() -> str:
            return str(world.body("large", text))

        @app.step
        async def small(value: str) -> int:
            return int(world.body("small", len(value)))

        @app.workflow
        async def flow(given: str) -> int:
            return await small(await large()) + len(given)

        return flow

    async with opened(shared_url, make, world) as (app, flow):
        assert await flow.options(id="x")(text) == 400_000
        made = await forked(app, await app.store.get_execution("x"), at="small")
        assert await (await app.resume(made.id)).result() == 400_000
        assert world.ran == ["large", "small", "small"]
        assert await is_whole(app.store)


async def test_a_fork_takes_the_newest_results_of_a_retried_one(shared_url: str) -> None:
    world = World()
    world.broken.add("third")
    async with opened(shared_url, three, world) as (app, flow):
        await fails(flow)
        with pytest.raises(ExecutionFailed):
            await again(app, from_step="second")
        world.broken.clear()
        world.ran.clear()
        made = await forked(app, await app.store.get_execution("x"), at="third")
        assert await (await app.resume(made.id)).result() == "FIRSTSECONDTHIRD"
        assert world.ran == ["third"]


async def test_an_id_that_is_taken_and_a_step_that_is_not_there(shared_url: str) -> None:
    world = World()
    async with opened(shared_url, three, world) as (app, flow):
        await flow.options(id="x")()
        source = await app.store.get_execution("x")
        with pytest.raises(IdTaken):
            await fork(app.store, source, id="x")
        with pytest.raises(StepNotFound):
            await fork(app.store, source, at="nowhere")
        assert len(await app.store.list_executions()) == 1


async def test_two_forks_to_one_id_are_one(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await failing(mine)
        row = await row_of(mine, holding.key)
        answers = await asyncio.gather(
            fork(mine, row, id="y"), fork(theirs, row, id="y"), return_exceptions=True
        )
        assert sum(isinstance(each, IdTaken) for each in answers) == 1
        assert len(await mine.list_executions()) == 2
        assert await is_whole(mine)


async def test_nothing_of_a_fork_that_breaks_off_is_seen(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await failing(mine)
        row = await row_of(mine, holding.key)
        for statement in (
            "control.fork_details",
            "control.event",
            "control.fork_results",
            "control.fork_payloads",
        ):
            real = statements_of(theirs)[statement]
            statements_of(theirs)._texts[statement] = "SELECT nonsense FROM nowhere"
            with pytest.raises(Exception):  # noqa: B017 - the database's own words
                await fork(theirs, row, at="a", id="y")
            statements_of(theirs)._texts[statement] = real
            assert await mine.find_execution("y") is None
            assert len(await rows(mine, "SELECT seq FROM {events}")) == 3
        assert (await fork(theirs, row, at="a", id="y")).id == "y"


async def test_forking_what_runs_changes_nothing_there(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, _):
        holding = await begin(mine, owner=owner.boot)
        await mine.journal.append(result(holding, "a", ordinal=1))
        row = await row_of(theirs, holding.key)
        await fork(theirs, row, id="y")
        assert await row_of(theirs, holding.key) == row
        assert await mine.journal.append(result(holding, "b", ordinal=2)) is Answer.WRITTEN
