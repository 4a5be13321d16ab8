"""Python workflows on every store: what is recorded, what a second run does, and what it refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pydantic
import pytest

import holdfast as hf
from holdfast.errors import (
    DefinitionChanged,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionNotFound,
    IdTaken,
    InvalidArgument,
    LeaseLost,
    NoApp,
    StepFailed,
    StoreUnavailable,
    UnnamedBranch,
)
from holdfast.fleet.launcher import Launcher
from holdfast.records.executions import ExecutionStatus

pytestmark = pytest.mark.anyio
PATIENCE_S = 10.0


@pytest.fixture
def url(store_url: str) -> str:
    return store_url


@pytest.fixture
def lasting_url(shared_url: str) -> str:
    """A store that outlives its app, which memory does not."""
    return shared_url


class Bench:
    """One app and its workflow `work`, made anew for every run, as a restarted program would."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)

    @property
    def launcher(self) -> Launcher:
        launcher = self.app._launcher
        assert launcher is not None
        return launcher

    async def log(self, id: str) -> list[tuple[str, str | None, int]]:
        """Type, path and attempt of the events of an execution."""
        execution = await self.app.store.get_execution(id)
        rows = await self.app.store.driver.fetch("events.history", execution.key)
        return [(row[1], row[2], row[5]) for row in rows]

    async def results(self, id: str) -> list[str | None]:
        execution = await self.app.store.get_execution(id)
        rows = await self.app.store.driver.fetch("events.history", execution.key)
        return [row[2] for row in rows if row[7]]

    async def interrupt(self, id: str) -> None:
        """Stop a run as Ctrl-C does."""
        running = await self.running(id)
        running.task.cancel()
        await asyncio.wait([running.task])

    async def running(self, id: str) -> Any:
        execution = await self.app.store.get_execution(id)
        return self.launcher.running(execution.key)


@asynccontextmanager
async def opened(url: str, make: Callable[[hf.App], Any]) -> AsyncIterator[tuple[Bench, Any]]:
    bench = Bench(url)
    made = make(bench.app)
    async with bench.app:
        yield bench, made


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until something is so; the pause only spares the processor."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what it looks for has no event
            await asyncio.sleep(0.002)


# Results.


async def test_a_result_is_recorded_once_and_given_back_by_the_same_id(url: str) -> None:
    runs: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def double(x: int) -> int:
            runs.append(x)
            return 2 * x

        @app.workflow
        async def work(x: int) -> int:
            return await double(x) + await double(x + 1)

        return work

    async with opened(url, make) as (bench, work):
        first = await work.options(id="one")(3)
        again = await work.options(id="one")(3)
        assert (first, again) == (14, 14)
        assert runs == [3, 4]
        assert await bench.results("one") == ["double", "double#2"]
        with pytest.raises(IdTaken):
            await work.options(id="one")(4)


async def test_two_starts_of_one_id_at_once_are_one_run(url: str) -> None:
    runs: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def note() -> int:
            runs.append(1)
            return len(runs)

        @app.workflow
        async def work() -> int:
            return await note()

        return work

    async with opened(url, make) as (_, work):
        once = work.options(id="same")
        assert await asyncio.gather(*[once() for _ in range(8)]) == [1] * 8
        assert runs == [1]


@dataclass
class Point:
    x: int
    y: float


class Order(pydantic.BaseModel):
    item: str
    count: int = 1


class Receipt(msgspec.Struct):
    number: int
    lines: list[str]


async def test_replay_gives_equal_values_of_the_same_types(lasting_url: str) -> None:
    seen: list[Any] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def point(p: Point) -> Point:
            return Point(p.x + 1, p.y)

        @app.step
        async def order(o: Order) -> Order:
            return o.model_copy(update={"count": 5})

        @app.step
        async def receipt(r: Receipt) -> Receipt:
            return Receipt(r.number + 1, [*r.lines, "paid"])

        @app.step
        def pair(n: int) -> tuple[int, bytes]:
            return n, b"\x00\xff"

        @app.step
        async def gate() -> None:
            if len(seen) == 1:
                await asyncio.Event().wait()

        @app.workflow
        async def work() -> str:
            values = (
                await point(Point(1, 0.5)),
                await order(Order(item="tea")),
                await receipt(Receipt(1, [])),
                await pair(7),
            )
            seen.append(values)
            await gate()
            return "done"

        return work

    async with opened(lasting_url, make) as (bench, work):
        await work.options(id="v").start()

        async def stands() -> bool:
            return len(await bench.results("v")) == 4 and len(seen) == 1

        await until(stands)
    async with opened(lasting_url, make) as (bench, _):
        assert await (await bench.app.resume("v")) == "done"
    assert seen[0] == seen[1]
    assert [type(value) for value in seen[1]] == [Point, Order, Receipt, tuple]
    assert isinstance(seen[1][0].y, float)


@pytest.mark.parametrize("size", [9 * 2**10, 100 * 2**10, 5 * 2**20], ids=["9K", "100K", "5M"])
async def test_large_values_come_back_whole(lasting_url: str, size: int) -> None:
    text = "€" * (size // 3)
    tries: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def large(given: str) -> str:
            return given

        @app.step
        async def gate() -> None:
            tries.append(1)
            if len(tries) == 1:
                await asyncio.Event().wait()

        @app.workflow
        async def work(given: str) -> str:
            kept = await large(given)
            await gate()
            return kept

        return work

    async with opened(lasting_url, make) as (_, work):
        await work.options(id="big").start(text)

        async def gated() -> bool:
            return bool(tries)

        await until(gated)
    async with opened(lasting_url, make) as (bench, _):
        assert await (await bench.app.resume("big")) == text
        assert await (await bench.app.handle("big")) == text


async def test_a_value_that_can_not_be_stored_fails_its_step_without_another_try(url: str) -> None:
    tries: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step(max_attempts=3, backoff="1ms")
        async def bad() -> Any:
            tries.append(1)
            return {"deep": [object()]}

        @app.workflow
        async def work() -> None:
            await bad()

        return work

    async with opened(url, make) as (_, work):
        with pytest.raises(ExecutionFailed) as failed:
            await work()
        assert failed.value.details["error"]["type"] == "UnsupportedValue"
        assert failed.value.details["error"]["step"] == "bad"
    assert tries == [1]


# Attempts.


async def test_attempts_are_recorded_and_counted(url: str) -> None:
    tries: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step(max_attempts=3, backoff="1ms")
        async def flaky() -> str:
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError("not yet")
            return "ok"

        @app.workflow
        async def work() -> str:
            return await flaky()

        return work

    async with opened(url, make) as (bench, work):
        assert await work.options(id="r")() == "ok"
        log = [event for event in await bench.log("r") if event[1] and event[0] != "step.started"]
    assert log == [
        ("attempt.failed", "flaky", 1),
        ("attempt.failed", "flaky", 2),
        ("step.completed", "flaky", 3),
    ]


async def test_attempts_go_on_counting_after_an_interruption(lasting_url: str) -> None:
    tries: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step(max_attempts=3, backoff="1ms", jitter=False)
        async def flaky() -> str:
            tries.append(1)
            if len(tries) == 2:
                await asyncio.Event().wait()  # the process is stopped in the second attempt
            raise ConnectionError("always")

        @app.workflow
        async def work() -> str:
            return await flaky()

        return work

    async with opened(lasting_url, make) as (_, work):
        await work.options(id="r").start()

        async def second() -> bool:
            return len(tries) == 2

        await until(second)
    async with opened(lasting_url, make) as (bench, _):
        with pytest.raises(ExecutionFailed):
            await (await bench.app.resume("r"))
        log = [event for event in await bench.log("r") if event[0] in ("attempt.failed", "step.failed")]
    assert log == [
        ("attempt.failed", "flaky", 1),
        ("attempt.failed", "flaky", 2),
        ("step.failed", "flaky", 3),
    ]
    assert len(tries) == 4  # the body of the second attempt ran twice, its end was recorded once


async def test_retry_on_names_what_is_retried(url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.step(max_attempts=5, backoff="1ms", retry_on=("ConnectionError",))
        async def wrong() -> None:
            raise KeyError("no use")

        @app.workflow
        async def work() -> None:
            await wrong()

        return work

    async with opened(url, make) as (bench, work):
        with pytest.raises(ExecutionFailed):
            await work.options(id="k")()
        assert ("step.failed", "wrong", 1) in await bench.log("k")


async def test_a_timeout_bounds_one_attempt(url: str) -> None:
    tries: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step(max_attempts=2, backoff="1ms", timeout="20ms")
        async def slow() -> str:
            tries.append(1)
            if len(tries) == 1:
                await asyncio.Event().wait()
            return "quick"

        @app.workflow
        async def work() -> str:
            return await slow()

        return work

    async with opened(url, make) as (bench, work):
        assert await work.options(id="t")() == "quick"
        log = await bench.log("t")
    assert ("attempt.failed", "slow", 1) in log
    assert ("step.completed", "slow", 2) in log


async def test_a_body_that_cancels_itself_has_failed(url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.step
        async def odd() -> None:
            raise asyncio.CancelledError

        @app.workflow
        async def work() -> None:
            await odd()

        return work

    async with opened(url, make) as (_, work):
        with pytest.raises(ExecutionFailed) as failed:
            await work()
        assert failed.value.details["error"]["step"] == "odd"


async def test_a_plain_function_runs_in_a_thread(url: str) -> None:
    threads: list[str] = []

    def make(app: hf.App) -> Any:
        @app.step
        def blocking(n: int) -> int:
            threads.append(threading.current_thread().name)
            return n

        @app.workflow
        async def work() -> tuple[int, ...]:
            return await hf.gather(*[blocking(n) for n in range(5)])

        return work

    async with opened(url, make) as (_, work):
        assert await work() == (0, 1, 2, 3, 4)
    assert len(threads) == 5
    assert threading.main_thread().name not in threads


async def test_a_failed_workflow_records_its_error(lasting_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def work() -> None:
            raise ValueError("the reason")

        return work

    async with opened(lasting_url, make) as (_, work):
        with pytest.raises(ExecutionFailed, match="the reason"):
            await work.options(id="f")()
    async with opened(lasting_url, make) as (bench, work):
        with pytest.raises(ExecutionFailed, match="the reason") as failed:
            await work.options(id="f")()
        assert failed.value.details["error"]["type"] == "ValueError"
        assert (await bench.log("f"))[-1][0] == "execution.failed"


async def test_a_workflow_may_catch_a_failed_step_and_does_so_again(lasting_url: str) -> None:
    tries: list[str] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def bad() -> None:
            tries.append("bad")
            raise ValueError("no")

        @app.step
        async def gate() -> None:
            tries.append("gate")
            if tries.count("gate") == 1:
                await asyncio.Event().wait()

        @app.workflow
        async def work() -> str:
            try:
                await bad()
            except StepFailed as error:
                await gate()
                return str(error.details["error"]["message"])
            return "never"

        return work

    async with opened(lasting_url, make) as (_, work):
        await work.options(id="c").start()

        async def gated() -> bool:
            return "gate" in tries

        await until(gated)
    async with opened(lasting_url, make) as (bench, _):
        assert await (await bench.app.resume("c")) == "no"
    assert tries == ["bad", "gate", "gate"]


# Branches.


async def test_gather_keeps_order_and_identity(url: str) -> None:
    order: list[int] = []

    def make(app: hf.App) -> Any:
        turn = [asyncio.Event() for _ in range(4)]
        turn[3].set()

        @app.step
        async def part(n: int) -> int:
            await turn[n].wait()
            order.append(n)
            if n:
                turn[n - 1].set()
            return n * 10

        @app.workflow
        async def work() -> list[int]:
            return list(await hf.gather(*[part(n) for n in range(4)]))

        return work

    async with opened(url, make) as (bench, work):
        assert await work.options(id="g")() == [0, 10, 20, 30]
        assert sorted(str(path) for path in await bench.results("g")) == [
            "part",
            "part#2",
            "part#3",
            "part#4",
        ]
    assert order == [3, 2, 1, 0]


async def test_nested_gather_and_scope_have_stable_paths(url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.step
        async def leaf(n: int) -> int:
            return n

        async def pair(n: int) -> int:
            a, b = await hf.gather(leaf(n), inner(n))
            return a + b

        async def inner(n: int) -> int:
            return await leaf(n + 100)

        @app.workflow
        async def work() -> int:
            async with hf.scope("sum"):
                first = await leaf(1)
            async with hf.scope("sum"):
                second = await leaf(2)
            return first + second + sum(await hf.gather(pair(1), pair(2)))

        return work

    async with opened(url, make) as (bench, work):
        assert await work.options(id="n")() == 209
        assert set(await bench.results("n")) == {
            "sum/leaf",
            "sum#2/leaf",
            "gather/leaf",
            "gather/gather#2/leaf",
            "gather#2/leaf",
            "gather#2/gather#2/leaf",
        }


async def test_all_parts_of_a_gather_end_and_the_first_failure_in_order_is_raised(url: str) -> None:
    ended: list[str] = []

    def make(app: hf.App) -> Any:
        failed = asyncio.Event()

        @app.step
        async def first() -> None:
            await failed.wait()
            raise ValueError("first")

        @app.step
        async def second() -> None:
            failed.set()
            raise ValueError("second")

        @app.step
        async def third() -> None:
            await failed.wait()
            ended.append("third")

        @app.workflow
        async def work() -> None:
            await hf.gather(first(), second(), third())

        return work

    async with opened(url, make) as (_, work):
        with pytest.raises(ExecutionFailed) as failed:
            await work()
        assert failed.value.details["error"]["step"] == "first"
    assert ended == ["third"]


async def test_a_step_from_a_foreign_task_is_refused(url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.step
        async def leaf() -> int:
            return 1

        async def stray() -> int:
            return await leaf()

        @app.workflow
        async def work(named: bool) -> int:
            async def under_a_name() -> int:
                async with hf.scope("mine"):
                    return await leaf()

            return await asyncio.create_task(under_a_name() if named else stray())

        return work

    async with opened(url, make) as (bench, work):
        with pytest.raises(ExecutionFailed) as failed:
            await work(False)
        assert failed.value.details["error"]["type"] == UnnamedBranch.__name__
        assert await work.options(id="named")(True) == 1
        assert await bench.results("named") == ["mine/leaf"]


async def test_two_foreign_tasks_can_not_share_a_scope(url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.step
        async def leaf() -> int:
            return 1

        @app.workflow
        async def work() -> int:
            async def one() -> int:
                async with hf.scope("same"):
                    return await leaf()

            return sum(await asyncio.gather(asyncio.create_task(one()), asyncio.create_task(one())))

        return work

    async with opened(url, make) as (_, work):
        with pytest.raises(ExecutionFailed) as failed:
            await work()
        assert failed.value.details["error"]["type"] == UnnamedBranch.__name__


async def test_outside_a_workflow_everything_just_runs() -> None:
    app = hf.App("memory://")

    @app.step
    async def plain(n: int) -> int:
        return n + 1

    async with hf.scope("nothing"):
        assert await hf.gather(plain(1), plain(2)) == (2, 3)
    await hf.sleep("1ms")

    @app.workflow
    async def work() -> None: ...

    with pytest.raises(NoApp):
        await work()


# Timers.


async def test_the_deadline_of_a_sleep_survives_a_restart(lasting_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def work() -> str:
            await hf.sleep("0.4s")
            return "awake"

        return work

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with opened(lasting_url, make) as (bench, work):
        await work.options(id="s").start()

        async def started() -> bool:
            return ("timer.started", "sleep", 0) in await bench.log("s")

        await until(started)
    async with opened(lasting_url, make) as (bench, _):
        handle = await bench.app.resume("s")
        assert await handle == "awake"
        log = await bench.log("s")
    assert loop.time() - began >= 0.39
    assert [event[0] for event in log].count("timer.started") == 1


def sleeper(app: hf.App) -> Any:
    @app.step
    async def before() -> int:
        return 1

    @app.workflow
    async def nap(duration: str) -> str:
        await hf.sleep(duration)
        return "awake"

    @app.workflow
    async def parent(duration: str) -> str:
        await before()
        return await nap(duration) + "!"

    return parent


async def test_a_long_sleep_suspends_child_and_parent_and_both_go_on(lasting_url: str) -> None:
    async with opened(lasting_url, sleeper) as (bench, parent):
        bench.launcher.engine.sleep_max_s = 0.2
        handle = await parent.options(id="p").start("1500ms")
        outcome = await handle.outcome()
        assert outcome.status is ExecutionStatus.WAITING
        assert outcome.until is not None
        child = await bench.app.store.get_execution("p.nap")
        assert child.status is ExecutionStatus.WAITING
        assert (await bench.app.store.get_execution("p")).status is ExecutionStatus.WAITING
        assert child.due_at == pytest.approx(outcome.until, abs=timedelta(seconds=0.2))
    async with opened(lasting_url, sleeper) as (bench, _):
        assert await (await bench.app.resume("p")) == "awake!"
        assert await bench.results("p") == ["before", "nap"]


async def test_cancelling_what_waits_reaches_its_children(url: str) -> None:
    async with opened(url, sleeper) as (bench, parent):
        bench.launcher.engine.sleep_max_s = 0.2
        handle = await parent.options(id="p").start("1h")
        assert (await handle.outcome()).status is ExecutionStatus.WAITING
        await handle.cancel("enough")
        for id in ("p", "p.nap"):
            assert (await bench.app.store.get_execution(id)).status is ExecutionStatus.CANCELLED
        with pytest.raises(ExecutionCancelled, match="enough"):
            await (await bench.app.handle("p"))


async def test_a_short_timer_keeps_an_execution_with_a_long_one_here(url: str) -> None:
    fired: list[str] = []

    def make(app: hf.App) -> Any:
        async def short() -> None:
            await hf.sleep("150ms")
            fired.append("short")

        @app.workflow
        async def work() -> None:
            await hf.gather(hf.sleep("1h"), short())

        return work

    async with opened(url, make) as (bench, work):
        bench.launcher.engine.sleep_max_s = 1.0
        handle = await work.start()
        assert (await handle.outcome()).status is ExecutionStatus.WAITING
        assert fired == ["short"]
        await handle.cancel()


async def test_clean_up_is_not_recorded_when_the_execution_is_only_suspended(url: str) -> None:
    cleaned: list[int] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def clean() -> None:
            cleaned.append(1)

        @app.workflow
        async def work() -> None:
            try:
                await hf.sleep("1h")
            finally:
                await clean()

        return work

    async with opened(url, make) as (bench, work):
        bench.launcher.engine.sleep_max_s = 0.2
        handle = await work.options(id="w").start()
        assert (await handle.outcome()).status is ExecutionStatus.WAITING
        assert cleaned == []
        bench.launcher.engine.sleep_max_s = None
        handle = await bench.app.resume("w")
        await handle.cancel("for good")
        with pytest.raises(ExecutionCancelled):
            await handle
    assert cleaned == [1]


# Children.


async def test_a_child_is_found_again_and_not_run_twice(lasting_url: str) -> None:
    ran: list[str] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def note(word: str) -> str:
            ran.append(word)
            if word == "stop" and ran.count("stop") == 1:
                await asyncio.Event().wait()
            return word

        @app.workflow
        async def child(word: str) -> str:
            return await note(word)

        @app.workflow
        async def work() -> list[str]:
            return [await child("go"), await child("stop")]

        return work

    async with opened(lasting_url, make) as (_, work):
        await work.options(id="p").start()

        async def stopped() -> bool:
            return "stop" in ran

        await until(stopped)
    async with opened(lasting_url, make) as (bench, _):
        assert await (await bench.app.resume("p")) == ["go", "stop"]
        assert await bench.results("p") == ["child", "child#2"]
        child = await bench.app.store.get_execution("p.child#2")
        assert child.parent == (await bench.app.store.get_execution("p")).key
        assert await bench.app.store.inbox(child.parent) == []
    assert ran == ["go", "stop", "stop"]


async def test_a_failed_child_fails_the_call_and_can_be_caught(url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def child() -> None:
            raise ValueError("in the child")

        @app.workflow
        async def work() -> str:
            try:
                await child()
            except StepFailed as error:
                return f"{error.details['error']['type']} at {error.details['path']}"
            return "never"

        return work

    async with opened(url, make) as (bench, work):
        assert await work.options(id="p")() == "ValueError at child"
        assert (await bench.app.store.get_execution("p.child")).status is ExecutionStatus.FAILED


async def test_cancel_reaches_a_running_child(url: str) -> None:
    running = asyncio.Event()

    def make(app: hf.App) -> Any:
        @app.step
        async def forever() -> None:
            running.set()
            await asyncio.Event().wait()

        @app.workflow
        async def child() -> None:
            await forever()

        @app.workflow
        async def work() -> None:
            await child()

        return work

    async with opened(url, make) as (bench, work):
        handle = await work.options(id="p").start()
        await running.wait()
        await handle.cancel("no more")
        with pytest.raises(ExecutionCancelled, match="no more"):
            await handle
        assert (await bench.app.store.get_execution("p.child")).status is ExecutionStatus.CANCELLED


# Changed code.


def versions(app: hf.App, calls: list[str], gate: asyncio.Event, *, patient: bool = False) -> Any:
    """A workflow whose code is `calls`; it stops at the call `gate` until that is set."""

    async def body(name: str) -> str:
        if name == "gate":
            await gate.wait()
        ran.append(name)
        return name

    ran: list[str] = []
    steps = {}
    for name in {*calls}:
        plain = name.partition(":")[0]

        async def run(argument: str, plain: str = plain) -> str:
            return await body(plain)

        run.__name__ = plain
        steps[name] = app.steps.get(plain) or app.step(name=plain)(run)

    @app.workflow
    async def work() -> list[str]:
        made = []
        for call in calls:
            try:
                made.append(await steps[call](call.partition(":")[2]))
            except Exception:
                if not patient:
                    raise
        return made

    return work, ran


@pytest.mark.parametrize(
    ("changed", "shows"),
    [
        (["b", "gate", "d"], ("'a'", "'b'")),
        (["a", "new", "b", "gate"], ("'new'", "'b'")),
        (["a", "b2", "gate"], ("'b2'", "'b'")),
        (["a:1", "b:2", "gate"], ("recorded", "called", "''", "'1'")),
        (["a"], ("'b'", "no longer calls")),
    ],
    ids=["removed", "inserted", "renamed", "arguments", "leftover"],
)
@pytest.mark.parametrize("patient", [False, True], ids=["plain", "catching"])
async def test_changed_code_is_refused_before_anything_runs(
    lasting_url: str, changed: list[str], shows: tuple[str, ...], patient: bool
) -> None:
    shut, wide = asyncio.Event(), asyncio.Event()
    wide.set()
    async with opened(lasting_url, lambda app: versions(app, ["a", "b", "gate"], shut)) as (bench, made):
        work, ran = made
        await work.options(id="w").start()

        async def two() -> bool:
            return len(await bench.results("w")) == 2

        await until(two)
    make = lambda app: versions(app, changed, wide, patient=patient)  # noqa: E731
    async with opened(lasting_url, make) as (bench, made):
        _, ran = made
        with pytest.raises(DefinitionChanged) as refused:
            await (await bench.app.resume("w"))
        for word in shows:
            assert word in refused.value.cause
        assert ran == []
        assert (await bench.app.store.get_execution("w")).status is ExecutionStatus.READY
    async with opened(lasting_url, lambda app: versions(app, ["a", "b", "gate"], wide)) as (bench, _):
        assert await (await bench.app.resume("w")) == ["a", "b", "gate"]


async def test_changed_code_in_one_part_of_a_gather_ends_the_other_parts(lasting_url: str) -> None:
    def make(name: str) -> Callable[[hf.App], Any]:
        def decorate(app: hf.App) -> Any:
            @app.step
            async def forever() -> None:
                await asyncio.Event().wait()

            @app.step(name=name)
            async def named() -> None: ...

            async def part() -> None:
                await named()

            @app.workflow
            async def work() -> None:
                await hf.gather(forever(), part())

            return work

        return decorate

    async with opened(lasting_url, make("old")) as (bench, work):
        await work.options(id="w").start()

        async def recorded() -> bool:
            return bool(await bench.results("w"))

        await until(recorded)
    async with opened(lasting_url, make("new")) as (bench, _):
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(DefinitionChanged):
                await (await bench.app.resume("w"))


async def test_another_version_keeps_off_an_unfinished_execution(lasting_url: str) -> None:
    def make(version: str) -> Callable[[hf.App], Any]:
        def decorate(app: hf.App) -> Any:
            @app.workflow(version=version)
            async def work() -> None:
                await hf.sleep("1h")

            return work

        return decorate

    async with opened(lasting_url, make("1")) as (_, work):
        await work.options(id="w").start()
    async with opened(lasting_url, make("2")) as (_, work):
        with pytest.raises(DefinitionChanged, match="version 1 became 2"):
            await work.options(id="w").start()


# Stopping.


async def test_an_interrupted_run_is_handed_back_at_once(lasting_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.step
        async def one() -> int:
            return 1

        @app.workflow
        async def work() -> int:
            number = await one()
            await asyncio.Event().wait()
            return number

        return work

    async with opened(lasting_url, make) as (bench, work):
        await work.options(id="i").start()

        async def recorded() -> bool:
            return await bench.results("i") == ["one"]

        await until(recorded)
        await bench.interrupt("i")
        execution = await bench.app.store.get_execution("i")
        assert (execution.status, execution.owner) == (ExecutionStatus.READY, None)
        assert (await bench.log("i"))[-1][0] == "execution.suspended"


async def test_giving_up_the_wait_leaves_the_execution_running(url: str) -> None:
    go = asyncio.Event()

    def make(app: hf.App) -> Any:
        @app.workflow
        async def work() -> str:
            await go.wait()
            return "done"

        return work

    async with opened(url, make) as (_, work):
        handle = await work.start()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.result(), 0.01)
        go.set()
        assert await handle == "done"


async def test_cancel_from_another_process_is_heard_while_nothing_is_written(lasting_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def work() -> None:
            await asyncio.Event().wait()

        return work

    async with (
        opened(lasting_url, make) as (_, work),
        opened(lasting_url, make) as (elsewhere, _),
        asyncio.timeout(PATIENCE_S),
    ):
        handle = await work.options(id="far").start()
        far = await elsewhere.app.handle("far")
        assert await far.status() is ExecutionStatus.RUNNING
        await far.cancel("from afar")
        with pytest.raises(ExecutionCancelled, match="from afar"):
            await handle
        with pytest.raises(ExecutionCancelled, match="from afar"):
            await far


async def test_a_handle_follows_an_execution_that_runs_elsewhere(lasting_url: str) -> None:
    go = asyncio.Event()

    def make(app: hf.App) -> Any:
        @app.workflow
        async def work(n: int) -> int:
            await go.wait()
            return n + 1

        return work

    async with opened(lasting_url, make) as (_, work), opened(lasting_url, make) as (far, far_work):
        handle = await work.options(id="far").start(1)
        follower = await far.app.handle("far")
        joined = await far_work.options(id="far").start(1)
        go.set()
        assert await handle == 2
        assert await follower == 2
        assert await joined == 2
        with pytest.raises(ExecutionNotFound):
            await far.app.handle("nobody")


async def test_a_stolen_execution_stops_its_old_owner_though_it_writes_nothing(lasting_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def work() -> None:
            await asyncio.Event().wait()

        return work

    async with (
        opened(lasting_url, make) as (_, work),
        opened(lasting_url, make) as (thief, _),
        asyncio.timeout(PATIENCE_S),
    ):
        handle = await work.options(id="w").start()
        execution = await thief.app.store.get_execution("w")
        await thief.launcher.resume(execution, steal=True)
        with pytest.raises(LeaseLost):
            await handle


async def test_after_a_lapse_the_process_comes_back_and_goes_on(url: str) -> None:
    go = asyncio.Event()
    ran: list[str] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def once() -> str:
            ran.append("once")
            return "kept"

        @app.workflow
        async def child() -> str:
            await go.wait()
            return "child"

        @app.workflow
        async def work() -> str:
            return f"{await once()} {await child()}"

        return work

    async with opened(url, make) as (bench, work), asyncio.timeout(PATIENCE_S):
        handle = await work.options(id="w").start()

        async def started() -> bool:
            return await bench.app.store.find_execution("w.child") is not None

        await until(started)
        before = bench.launcher.registration.boot
        bench.launcher.registration._note_lapse(before)
        assert bench.launcher.registration.lapsed
        go.set()
        assert await handle == "kept child"
        assert bench.launcher.registration.boot != before
        assert not bench.launcher.registration.lapsed
        execution = await bench.app.store.get_execution("w")
        assert (execution.epoch, execution.recoveries) == (2, 1)
    assert ran == ["once"]


async def test_after_a_lapse_what_others_took_stays_theirs(lasting_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def work() -> None:
            await asyncio.Event().wait()

        return work

    async with (
        opened(lasting_url, make) as (bench, work),
        opened(lasting_url, make) as (other, _),
        asyncio.timeout(PATIENCE_S),
    ):
        handle = await work.options(id="w").start()
        await other.launcher.resume(await other.app.store.get_execution("w"), steal=True)
        bench.launcher.registration._note_lapse(bench.launcher.registration.boot)
        with pytest.raises(LeaseLost):
            await handle
        execution = await other.app.store.get_execution("w")
        assert execution.owner == other.launcher.registration.boot


async def test_a_step_left_behind_in_a_task_writes_nothing_after_the_end(url: str) -> None:
    go = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def late() -> int:
            await go.wait()
            return 1

        @app.workflow
        async def work() -> str:
            left.append(asyncio.ensure_future(late()))
            return "ended"

        return work

    async with opened(url, make) as (bench, work):
        assert await work.options(id="w")() == "ended"
        go.set()
        with pytest.raises(LeaseLost):
            await left[0]
        assert await bench.results("w") == []


@pytest.mark.parametrize("id", ["", " x", "@last", "a\nb", "x" * 256, "\ud800"], ids=ascii)
async def test_ids_that_some_store_could_not_keep_are_refused(id: str) -> None:
    app = hf.App("memory://")

    @app.workflow
    async def work() -> None: ...

    async with app:
        with pytest.raises(InvalidArgument):
            await work.options(id=id).start()


async def test_a_run_that_could_not_hand_back_is_taken_up_by_the_same_process(url: str) -> None:
    ran: list[str] = []

    def make(app: hf.App) -> Any:
        @app.step
        async def once() -> str:
            ran.append("once")
            return "kept"

        @app.workflow
        async def work() -> str:
            kept = await once()
            if len(ran) == 1:
                ran.append("waiting")
                await asyncio.Event().wait()
            return kept

        return work

    async with opened(url, make) as (bench, work), asyncio.timeout(PATIENCE_S):
        handle = await work.options(id="w").start()

        async def waiting() -> bool:
            return "waiting" in ran

        await until(waiting)
        (holding,) = bench.launcher.runs._held.values()
        holding.lose(StoreUnavailable("the store stayed out of reach"))
        with pytest.raises(StoreUnavailable):
            await handle
        assert await handle.status() is ExecutionStatus.RUNNING
        both = await asyncio.gather(bench.app.resume("w"), bench.app.resume("w"))
        assert await asyncio.gather(*both) == ["kept", "kept"]
    assert ran == ["once", "waiting"]


async def test_a_parent_waits_for_a_child_that_somebody_else_resumed(lasting_url: str) -> None:
    go = asyncio.Event()

    def make(app: hf.App) -> Any:
        @app.workflow
        async def child() -> str:
            await go.wait()
            return "from afar"

        @app.workflow
        async def work() -> str:
            return await child()

        return work

    async with opened(lasting_url, make) as (bench, work):
        await work.options(id="p").start()

        async def started() -> bool:
            return await bench.app.store.find_execution("p.child") is not None

        await until(started)
    async with (
        opened(lasting_url, make) as (bench, _),
        opened(lasting_url, make) as (far, _),
        asyncio.timeout(PATIENCE_S),
    ):
        child = await far.app.resume("p.child")
        parent = await bench.app.resume("p")
        go.set()
        assert await child == "from afar"
        assert await parent == "from afar"
        assert await bench.results("p") == ["child"]
        assert await bench.app.store.inbox((await bench.app.store.get_execution("p")).key) == []


async def test_a_child_called_with_another_input_is_refused(lasting_url: str) -> None:
    def make(number: int) -> Callable[[hf.App], Any]:
        def decorate(app: hf.App) -> Any:
            @app.workflow
            async def child(n: int) -> None:
                await hf.sleep("1h")

            @app.workflow
            async def work() -> None:
                await child(number)

            return work

        return decorate

    async with opened(lasting_url, make(1)) as (bench, work):
        await work.options(id="p").start()

        async def started() -> bool:
            return await bench.app.store.find_execution("p.child") is not None

        await until(started)
    async with opened(lasting_url, make(2)) as (bench, _), asyncio.timeout(PATIENCE_S):
        with pytest.raises(DefinitionChanged, match="other arguments") as changed:
            await (await bench.app.resume("p"))
        assert "{'n': 1}" in changed.value.cause
        assert "{'n': 2}" in changed.value.cause
