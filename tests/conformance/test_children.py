"""Child executions on every store: here, in a queue, elsewhere, and when their parent ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import InvalidArgument
from holdfast.fleet import launcher as launching
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.children import ChildRuns
from holdfast.fleet.control import pause
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.ownership import Registration
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.store.store import Store
from tests.conformance.hands import hand, log_of, until

pytestmark = pytest.mark.anyio

WAITING, READY, CANCELLED = ExecutionStatus.WAITING, ExecutionStatus.READY, ExecutionStatus.CANCELLED


def launcher_of(app: hf.App) -> Launcher:
    assert app._launcher is not None
    return app._launcher


@asynccontextmanager
async def opened(url: str, make: Callable[[hf.App], Any], *, parks: bool = True) -> AsyncIterator[Any]:
    """An app and what `make` makes in it; it suspends whatever only waits, as a worker does."""
    app = hf.App(url)
    made = make(app)
    async with app, asyncio.timeout(20):
        if parks:
            launcher_of(app).engine.sleep_max_s = 0.0
        yield app, made


async def row(store: Store, id: str) -> Execution:
    return await store.get_execution(id)


async def waits(app: hf.App, id: str, status: ExecutionStatus) -> None:
    async def has_it() -> bool:
        execution = await app.store.find_execution(id)
        return execution is not None and execution.status is status

    await until(has_it, f"{id} never was {status}")


def family(app: hf.App, **options: Any) -> Any:
    @app.step
    async def add(n: int) -> int:
        return n + 1

    @app.workflow
    async def child(n: int) -> int:
        return await add(n)

    @app.workflow
    async def parent(n: int) -> int:
        return 10 * await child.options(**options)(n)

    return parent


def queued(app: hf.App) -> Any:
    return family(app, queue="slow", priority=3)


async def test_a_queued_child_is_left_for_workers_and_its_end_wakes_the_parent(shared_url: str) -> None:
    async with opened(shared_url, queued) as (app, parent):
        outcome = await (await parent.options(id="p").start(1)).outcome()
        assert (outcome.status, [str(each) for each in outcome.waits_for]) == (WAITING, ["child p.child"])
        child = await row(app.store, "p.child")
        assert (child.status, child.queue, child.epoch, child.priority) == (READY, "slow", 0, 3)
        assert child.parent == (await row(app.store, "p")).key
    async with opened(shared_url, queued) as (app, _):  # a worker of that queue
        assert await (await app.resume("p.child")) == 2
        assert (await row(app.store, "p")).status is READY
    async with opened(shared_url, queued) as (app, _):
        assert await (await app.resume("p")) == 20
        assert await app.store.inbox((await row(app.store, "p")).key) == []


async def test_a_parent_that_sits_hears_the_end_of_a_queued_child(shared_url: str) -> None:
    async with (
        opened(shared_url, queued, parks=False) as (app, parent),
        opened(shared_url, queued) as (other, _),
    ):
        handle = await parent.options(id="p").start(1)
        await waits(app, "p.child", READY)
        await other.resume("p.child")
        assert await handle == 20


def slow_family(app: hf.App) -> Any:
    @app.workflow
    async def child(n: int) -> int:
        return int(await hf.wait_signal("go")) + n

    @app.workflow
    async def parent(n: int) -> int:
        return 10 * await child(n)

    return parent


async def test_a_child_that_is_woken_goes_on_by_itself_and_wakes_its_parent(shared_url: str) -> None:
    async with opened(shared_url, slow_family) as (app, parent):
        outcome = await (await parent.options(id="p", queue=None).start(1)).outcome()
        assert (outcome.status, outcome.until) == (WAITING, None)
        assert [str(each) for each in outcome.waits_for] == ["signal go"]
        assert (await row(app.store, "p")).due_at is None
        await app.signal("go", 4)
        child, above = await row(app.store, "p.child"), await row(app.store, "p")
        assert (child.status, above.status) == (READY, WAITING)
        assert child.queue == above.queue  # whoever serves the parent finds it
        assert await (await app.resume("p.child")) == 5
        assert (await row(app.store, "p")).status is READY
        assert await (await app.resume("p")) == 50


async def test_a_parent_that_comes_back_takes_a_woken_child_along(shared_url: str) -> None:
    async with opened(shared_url, slow_family) as (app, parent):
        await (await parent.options(id="p").start(1)).outcome()
        again = await (await app.resume("p")).outcome()
        assert (again.status, [str(each) for each in again.waits_for]) == (WAITING, ["signal go"])
        assert len(await log_of(app.store, (await row(app.store, "p.child")).key)) == 3  # not run for that
        await app.signal("go", 4)
        assert await (await app.resume("p")) == 50


async def test_a_parent_parks_for_a_child_that_runs_elsewhere(shared_url: str) -> None:
    gate = asyncio.Event()

    def make(app: hf.App) -> Any:
        @app.step
        async def hold() -> int:
            await gate.wait()
            return 1

        @app.workflow
        async def child() -> int:
            return await hold()

        @app.workflow
        async def parent() -> int:
            return 10 * await child()

        return parent

    async with opened(shared_url, make) as (app, parent), opened(shared_url, make) as (other, _):
        handle = await parent.options(id="p").start()
        await waits(app, "p.child", ExecutionStatus.RUNNING)
        running = launcher_of(app).running((await row(app.store, "p")).key)
        assert running is not None
        running.task.cancel()  # handed back, and the child with it
        await asyncio.wait([running.task])
        del handle
        taken = await other.resume("p.child")
        outcome = await (await app.resume("p")).outcome()
        assert (outcome.status, [str(each) for each in outcome.waits_for]) == (WAITING, ["child p.child"])
        gate.set()
        assert await taken == 1
        assert (await row(app.store, "p")).status is READY
        assert await (await app.resume("p")) == 10


async def test_a_paused_child_is_not_taken_along(shared_url: str) -> None:
    async with opened(shared_url, slow_family) as (app, parent):
        await (await parent.options(id="p").start(1)).outcome()
        await pause(app.store, launcher_of(app).registration, await row(app.store, "p.child"))
        assert (await (await app.resume("p")).outcome()).status is WAITING
        assert (await row(app.store, "p.child")).status is ExecutionStatus.PAUSED


# Started, and not awaited.


def starting(policy: str, *, awaits: bool = False, fails: bool = False) -> Callable[[hf.App], Any]:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def child() -> str:
            return str(await hf.wait_signal("go"))

        @app.workflow
        async def parent() -> str:
            kid: Any = await child.options(on_parent_end=policy).start()  # type: ignore[arg-type]
            if fails:
                raise ValueError("no more")
            return await kid if awaits else kid.id

        return parent

    return make


@pytest.mark.parametrize("fails", [False, True])
async def test_a_child_that_nobody_awaited_ends_with_its_parent(shared_url: str, fails: bool) -> None:
    async with opened(shared_url, starting("cancel", fails=fails)) as (app, parent):
        outcome = await (await parent.options(id="p").start()).outcome()
        assert outcome.status == ("failed" if fails else "completed")
        await waits(app, "p.child", CANCELLED)


async def test_a_detached_child_outlives_its_parent(shared_url: str) -> None:
    async with opened(shared_url, starting("detach")) as (app, parent):
        assert await parent.options(id="p")() == "p.child"
        await waits(app, "p.child", WAITING)
        await app.signal("go", "on")
        assert await (await app.resume("p.child")) == "on"


async def test_a_started_child_is_the_same_in_every_run_and_can_be_awaited(shared_url: str) -> None:
    async with opened(shared_url, starting("cancel", awaits=True)) as (app, parent):
        assert (await (await parent.options(id="p").start()).outcome()).status is WAITING
        await app.signal("go", "on")
        assert await (await app.resume("p")) == "on"
        found = [each.id for each in await app.store.list_executions()]
        assert sorted(found) == ["p", "p.child"]
        results = [event[2] for event in await log_of(app.store, (await row(app.store, "p")).key)]
        assert [path for path in results if path] == ["child", "child.result"]


async def test_a_child_has_no_id_of_its_own(shared_url: str) -> None:
    def make(app: hf.App) -> Any:
        @app.workflow
        async def child() -> None: ...

        @app.workflow
        async def parent() -> str:
            try:
                await child.options(id="mine")()
            except InvalidArgument as error:
                return error.cause
            return "accepted"

        return parent

    async with opened(shared_url, make) as (_, parent):
        assert "follows from its parent" in await parent()


async def test_a_parent_that_is_stopped_while_it_starts_a_child_stops_it_too(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def see_parent(self: ChildRuns, *args: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ChildRuns, "_see_parent", see_parent)
    async with opened(shared_url, slow_family, parks=False) as (app, parent):
        await parent.options(id="p").start(1)
        await reached.wait()
        running = launcher_of(app).running((await row(app.store, "p")).key)
        assert running is not None
        running.task.cancel()
        await asyncio.wait([running.task])
        assert [(await row(app.store, id)).status for id in ("p", "p.child")] == [READY, READY]


# Nobody's child, and nobody's row.


async def child_of_an_ended_parent(
    url: str, monkeypatch: pytest.MonkeyPatch, *, careless: bool = False
) -> Execution:
    """A parent is cancelled by somebody else while its old owner is about to start a child."""
    gate = asyncio.Event()

    def make(app: hf.App) -> Any:
        @app.step
        async def hold() -> None:
            await gate.wait()

        @app.workflow
        async def child() -> None:
            await hold()

        @app.workflow
        async def parent() -> None:
            await child()

        return parent

    real = ChildRuns._begin

    async with opened(url, make) as (app, parent), hand(url) as theirs:
        registration = Registration(theirs)
        await registration.start()

        async def begin(self: ChildRuns, *args: Any) -> Any:
            await cancel(theirs, registration, await row(theirs, "p"), steal=True)
            return await real(self, *args)

        monkeypatch.setattr(ChildRuns, "_begin", begin)
        if careless:

            async def nothing(self: ChildRuns, *args: Any) -> None: ...

            monkeypatch.setattr(ChildRuns, "_see_parent", nothing)
        handle = await parent.options(id="p").start()
        with pytest.raises((hf.HoldfastError, asyncio.CancelledError)):
            await handle

        async def is_still() -> bool:
            return not len(launcher_of(app).runs)

        await until(is_still, "something still runs")
        await registration.stop()
        return await row(theirs, "p.child")


async def test_a_child_of_a_parent_that_has_ended_is_not_left_behind(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = await child_of_an_ended_parent(shared_url, monkeypatch)
    assert child.status is CANCELLED


async def test_without_looking_at_the_parent_its_child_is_nobodys(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = await child_of_an_ended_parent(shared_url, monkeypatch, careless=True)
    assert not child.status.is_final


async def cancelled_takeover(
    url: str, monkeypatch: pytest.MonkeyPatch, *, careless: bool = False
) -> Execution:
    """Whoever takes an execution over is cancelled between the takeover's commit and the first step."""
    reached, released = asyncio.Event(), asyncio.Event()
    real = launching.take_up

    async def take_up(*args: Any) -> Any:
        reached.set()
        await released.wait()
        return await real(*args)

    async with opened(url, slow_family) as (app, parent):
        await (await parent.options(id="p").start(1)).outcome()
        monkeypatch.setattr(launching, "take_up", take_up)
        if careless:
            launcher = launcher_of(app)

            async def take_over(execution: Execution, *, steal: bool, above: Any) -> Any:
                definition = await app.store.get_definition(execution.definition)
                assert definition is not None
                return await launcher._take(execution, launcher.load(definition), above, steal=steal)

            monkeypatch.setattr(launcher, "take_over", take_over)
        resuming = asyncio.ensure_future(app.resume("p"))
        await reached.wait()
        resuming.cancel()
        await asyncio.sleep(0)
        released.set()
        await asyncio.wait([resuming])
        assert resuming.cancelled()
        return await row(app.store, "p")


async def test_a_takeover_that_is_cancelled_hands_back(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await cancelled_takeover(shared_url, monkeypatch)
    assert (found.status, found.owner) == (READY, None)


async def test_without_waiting_for_it_a_cancelled_takeover_leaves_a_row_that_nobody_runs(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await cancelled_takeover(shared_url, monkeypatch, careless=True)
    assert found.status is ExecutionStatus.RUNNING
    assert found.owner is not None
