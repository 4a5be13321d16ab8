"""Signals on every store: kept when early, matched once, and whatever comes in between of the two sides."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import InvalidArgument, LeaseLost, SignalUndeliverable
from holdfast.fleet import signals
from holdfast.fleet.outside import OutsideRows
from holdfast.fleet.signals import return_unclaimed, send, stop_waiting_for_signal, wait_for_signal
from holdfast.records.executions import ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.workflows.driving import Drive
from holdfast.workflows.engine import Engine, ExecutionRuntime
from holdfast.workflows.replay import History
from holdfast.workflows.requests import wait_for_signal as wait_step
from tests.conformance.hands import (
    begin,
    blocked,
    ending,
    hand,
    log_of,
    mark,
    plant,
    row_of,
    take_over,
    until,
)
from tests.conformance.stops import stopped_at

pytestmark = pytest.mark.anyio


async def heard(store: Store, key: ExecutionKey) -> list[Any]:
    """The values of the signals in an inbox."""
    return [codec.decode(message.payload or b"") for message in await store.inbox(key)]


async def state(store: Store) -> tuple[int, int]:
    """How many signals are kept, and how many steps wait."""
    return len(await signals.kept(store)), len(await signals.waiters(store))


async def meet(first: asyncio.Future[Any], second: asyncio.Future[Any]) -> list[Any]:
    async with asyncio.timeout(10):
        return await asyncio.gather(first, second, return_exceptions=True)


# Matching.


async def test_an_early_signal_is_kept_and_taken_once(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        one, two = await begin(mine, "one"), await begin(mine, "two")
        assert (await send(mine, "go", 1)).path is None
        assert await wait_for_signal(mine, one, "w", "go")
        assert not await wait_for_signal(mine, two, "w", "go")
        assert (await heard(mine, one.key), await heard(mine, two.key)) == ([1], [])
        assert await state(mine) == (0, 1)


async def test_the_oldest_signal_goes_to_the_step_that_waits_longest(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        held = [await begin(mine, name) for name in ("one", "two", "three")]
        for value in (1, 2):
            await send(mine, "early", value)
        for holding in held[:2]:
            await wait_for_signal(mine, holding, "e", "early")
        assert [await heard(mine, each.key) for each in held[:2]] == [[1], [2]]
        for holding in reversed(held):
            await wait_for_signal(mine, holding, "l", "late")
        assert [(await send(mine, "late", value)).execution for value in (3, 4, 5)] == ["three", "two", "one"]


async def test_waiting_again_registers_nothing_twice(shared_url: str) -> None:
    """A run that comes back asks again; what was delivered meanwhile must not be followed by a second."""
    async with hand(shared_url) as mine:
        holding = await begin(mine)
        for _ in range(2):
            assert not await wait_for_signal(mine, holding, "w", "go")
        await send(mine, "go", 1)
        assert await wait_for_signal(mine, holding, "w", "go")
        assert (await send(mine, "go", 2)).path is None
        assert await heard(mine, holding.key) == [1]


async def test_a_message_id_makes_sending_again_harmless(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        one, two = await begin(mine, "one"), await begin(mine, "two")
        await wait_for_signal(mine, one, "w", "go")
        assert (await send(mine, "go", 1, message_id="m")).execution == "one"
        await wait_for_signal(mine, two, "w", "go")
        assert (await send(mine, "go", 1, message_id="m")).repeated
        assert await heard(mine, two.key) == []
        assert (await send(mine, "other", 1, message_id="m")).repeated is False


async def test_a_waiter_that_has_ended_is_passed_over_and_removed(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        one, two = await begin(mine, "one"), await begin(mine, "two")
        for holding in (one, two):
            await wait_for_signal(mine, holding, "w", "go")
        await mine.journal.append(ending(one))
        assert (await send(mine, "go", 1)).execution == "two"
        assert await state(mine) == (0, 0)


async def test_a_signal_for_one_execution_reaches_no_other(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        one, two = await begin(mine, "one"), await begin(mine, "two")
        target = await row_of(mine, two.key)
        await send(mine, "go", "for two", to=target)
        assert not await wait_for_signal(mine, one, "w", "go")
        assert await wait_for_signal(mine, two, "w", "go")
        assert await heard(mine, two.key) == ["for two"]
        assert (await send(mine, "go", "again", to=target)).path is None
        assert (await send(mine, "go", "for all")).execution == "one"
        await mine.journal.append(ending(two))
        with pytest.raises(SignalUndeliverable):
            await send(mine, "go", 1, to=target)


async def test_what_an_ended_execution_did_not_take_goes_to_the_next(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        one, two, three = [await begin(mine, name) for name in ("one", "two", "three")]
        for holding in (one, two):
            await wait_for_signal(mine, holding, "w", "go")
        await send(mine, "go", 1)
        await send(mine, "go", 2)
        for holding in (one, two):
            await mine.journal.append(ending(holding))
        assert not await wait_for_signal(mine, three, "w", "go")
        for expected in (1, 0):
            assert [await return_unclaimed(mine, each.key) for each in (one, two)] == [expected] * 2
        assert await heard(mine, three.key) == [1]
        assert [each.payload for each in await signals.kept(mine)] == [2]


async def test_a_signal_outlives_the_cancellation_of_whoever_had_it(shared_url: str) -> None:
    app = hf.App(shared_url)
    work = waiter(app)
    async with app, asyncio.timeout(10):
        assert app._launcher is not None
        app._launcher.engine.sleep_max_s = 0.0
        handle = await work.options(id="w").start()
        await handle.outcome()
        await app.signal("go", 5)
        assert await state(app.store) == (0, 0)
        await handle.cancel("no more")
        assert (await app.store.get_execution("w")).status is ExecutionStatus.CANCELLED
        assert [each.payload for each in await signals.kept(app.store)] == [5]


@pytest.mark.parametrize("name", ["", " a", "a\n", "x" * 256, "\x1ea"])
async def test_names_that_no_signal_can_have(shared_url: str, name: str) -> None:
    async with hand(shared_url) as mine:
        with pytest.raises(InvalidArgument):
            await send(mine, name)


# Two connections.


async def send_beside_wait(
    mine: Store, theirs: Store, *, loose: bool = False
) -> tuple[bool, tuple[int, int]]:
    """A signal is sent while a step has seen that none is kept, and has not said that it waits."""
    holding = await begin(mine)
    async with stopped_at(mine, "signals.wait", loose=loose) as stop:
        waiting = asyncio.ensure_future(wait_for_signal(mine, holding, "w", "go"))
        await stop.reached.wait()
        sending = asyncio.ensure_future(send(theirs, "go", 1))
        had_to_wait = await blocked(theirs, sending) if not loose else not await sending
        stop.release()
        await meet(waiting, sending)
    return had_to_wait, await state(theirs)


async def test_a_signal_beside_a_wait_finds_it(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        assert await send_beside_wait(mine, theirs) == (True, (0, 0))


async def test_without_the_mailbox_a_signal_and_a_wait_miss_each_other(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        assert await send_beside_wait(mine, theirs, loose=True) == (False, (1, 1))


async def wait_beside_send(
    mine: Store, theirs: Store, *, loose: bool = False
) -> tuple[bool, tuple[int, int]]:
    """A step begins to wait while a sender has seen that nobody waits, and has not kept the signal."""
    holding = await begin(theirs)
    async with stopped_at(mine, "signals.keep", loose=loose) as stop:
        sending = asyncio.ensure_future(send(mine, "go", 1))
        await stop.reached.wait()
        waiting = asyncio.ensure_future(wait_for_signal(theirs, holding, "w", "go"))
        had_to_wait = await blocked(theirs, waiting) if not loose else await waiting
        stop.release()
        await meet(waiting, sending)
    return had_to_wait, await state(theirs)


async def test_a_wait_beside_a_signal_finds_it(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        assert await wait_beside_send(mine, theirs) == (True, (0, 0))


async def test_without_the_mailbox_a_wait_and_a_signal_miss_each_other(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        assert await wait_beside_send(mine, theirs, loose=True) == (False, (1, 1))


async def timeout_beside_send(
    mine: Store, theirs: Store, *, loose: bool = False
) -> tuple[Any, Any, list[Any]]:
    """The deadline comes while a sender has chosen the step, and has not left its message."""
    holding = await begin(theirs)
    await wait_for_signal(theirs, holding, "w", "go")
    async with stopped_at(mine, "inbox.post", loose=loose) as stop:
        sending = asyncio.ensure_future(send(mine, "go", 1))
        await stop.reached.wait()
        stopping = asyncio.ensure_future(stop_waiting_for_signal(theirs, holding, "w", "go"))
        if loose:
            await stopping
        else:
            assert await blocked(theirs, stopping)
        stop.release()
        sent, timed_out = await meet(sending, stopping)
    return sent, timed_out, await heard(theirs, holding.key)


async def test_at_a_deadline_a_signal_that_came_first_counts(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        sent, timed_out, found = await timeout_beside_send(mine, theirs)
        assert (sent.path, timed_out, found) == ("w", False, [1])


async def test_without_the_mailbox_a_deadline_loses_a_signal(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        sent, timed_out, found = await timeout_beside_send(mine, theirs, loose=True)
        assert (sent.path, timed_out, found) == ("w", True, [1])  # timed out, and delivered


async def test_a_signal_behind_a_deadline_goes_to_whoever_comes_next(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await wait_for_signal(mine, holding, "w", "go")
        async with stopped_at(mine, "signals.remove_wait") as stop:
            stopping = asyncio.ensure_future(stop_waiting_for_signal(mine, holding, "w", "go"))
            await stop.reached.wait()
            sending = asyncio.ensure_future(send(theirs, "go", 1))
            assert await blocked(theirs, sending)
            stop.release()
            timed_out, sent = await meet(stopping, sending)
        assert (timed_out, sent.path) == (True, None)
        assert await state(mine) == (1, 0)


async def test_an_owner_that_lost_the_execution_registers_nothing(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        with pytest.raises(LeaseLost):
            await wait_for_signal(mine, holding, "w", "go")
        with pytest.raises(LeaseLost):
            await stop_waiting_for_signal(mine, holding, "w", "go")
        assert await state(theirs) == (0, 0)


async def test_without_the_epoch_a_zombie_takes_signals_from_others(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        plant(mine, "executions.hold", f"epoch = {mark(mine, 2)}", f"epoch > {mark(mine, 2)}")
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        await wait_for_signal(mine, holding, "w", "go")
        assert await state(theirs) == (0, 1)


async def test_a_takeover_comes_before_or_after_a_registration(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        async with stopped_at(mine, "signals.wait") as stop:
            waiting = asyncio.ensure_future(wait_for_signal(mine, holding, "w", "go"))
            await stop.reached.wait()
            taking = asyncio.ensure_future(take_over(theirs, holding.key))
            assert await blocked(theirs, taking)
            stop.release()
            await meet(waiting, taking)
        assert (await row_of(mine, holding.key)).epoch == 2


# Beside a suspension.


async def signal_beside_suspension(
    mine: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch, *, careless: bool = False
) -> tuple[ExecutionStatus, ExecutionStatus, list[Any]]:
    """A signal arrives when the execution has decided to suspend, and before that is written."""
    holding = await begin(mine)
    engine = Engine(mine.journal, mine.driver, outside=OutsideRows(mine), sleep_max_s=0.0)
    runtime = ExecutionRuntime(engine, holding, History())

    async def program(running: ExecutionRuntime) -> Any:
        return await wait_step(running, "w", None, "go", timedelta(hours=1))

    real = Drive._put_down

    async def put_down(self: Drive, transition: Any, *args: Any, **fields: Any) -> None:
        if not await theirs.inbox(holding.key):
            await send(theirs, "go", 7)
        if careless:
            transition = transition._replace(expect_wakes=None)
        await real(self, transition, *args, **fields)

    monkeypatch.setattr(Drive, "_put_down", put_down)
    async with asyncio.timeout(10):
        outcome = await Drive(runtime, program).run()
    engine.close()
    row = await row_of(theirs, holding.key)
    return outcome.status, row.status, await heard(theirs, holding.key)


async def test_a_signal_beside_a_suspension_is_taken(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        done = ExecutionStatus.COMPLETED
        assert await signal_beside_suspension(mine, theirs, monkeypatch) == (done, done, [])


async def test_without_counting_wakes_a_signal_is_slept_through(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        asleep = ExecutionStatus.WAITING
        found = await signal_beside_suspension(mine, theirs, monkeypatch, careless=True)
        assert found == (asleep, asleep, [7])


# In workflows.


def waiter(app: hf.App) -> Any:
    @app.workflow
    async def work(timeout: str | None = None) -> str:
        try:
            value = await hf.wait_signal("go", timeout=timeout)
        except hf.SignalTimeout as error:
            return f"{error.code} {error.details['error']['code']}"
        return f"got {value}"

    return work


async def test_a_workflow_suspends_for_a_signal_and_goes_on(shared_url: str) -> None:
    app = hf.App(shared_url)
    work = waiter(app)
    async with app:
        assert app._launcher is not None
        app._launcher.engine.sleep_max_s = 0.0
        outcome = await (await work.options(id="w").start()).outcome()
        assert outcome.status is ExecutionStatus.WAITING
        assert outcome.until is None
        assert [str(reason) for reason in outcome.waits_for] == ["signal go"]
        row = await app.store.get_execution("w")
        assert (row.status, row.due_at) == (ExecutionStatus.WAITING, None)
        await app.signal("go", 5)
        assert (await app.store.get_execution("w")).status is ExecutionStatus.READY
        assert await (await app.resume("w")) == "got 5"
        kinds = [event[1] for event in await log_of(app.store, row.key)]
        assert kinds == [
            "execution.started", "timer.started", "execution.suspended",
            "execution.resumed", "signal.received", "execution.completed",
        ]  # fmt: skip
        assert await app.store.inbox(row.key) == []


async def test_an_app_hears_a_signal_while_it_sits(shared_url: str) -> None:
    app = hf.App(shared_url)
    work = waiter(app)
    async with app, hand(shared_url) as theirs, asyncio.timeout(10):
        handle = await work.start()

        async def waits() -> bool:
            return await state(theirs) == (0, 1)

        await until(waits, "it never waited")
        await send(theirs, "go", 6)
        assert await handle == "got 6"


async def test_a_timeout_is_recorded_and_raised_again(shared_url: str) -> None:
    app = hf.App(shared_url)
    ran: list[int] = []

    @app.workflow
    async def work() -> str:
        try:
            await hf.wait_signal("go", timeout="10ms")
        except hf.SignalTimeout as error:
            first = error.code
        ran.append(1)
        await hf.sleep("1ms" if len(ran) > 1 else "1h")
        return first

    async with app, asyncio.timeout(10):
        handle = await work.options(id="w").start()

        async def has_timed_out() -> bool:
            return bool(ran)

        await until(has_timed_out, "it never timed out")
        assert await state(app.store) == (0, 0)
        await app.signal("go", 1)
        await handle.cancel()
        row = await app.store.get_execution("w")
        rows = await app.store.driver.fetch("events.history", row.key)
        assert [each[1] for each in rows if each[2] == "wait_signal"] == ["timer.started", "step.failed"]
        history = History.read([each for each in rows if each[2] is None or each[2] == "wait_signal"][:3])
        assert history.results["wait_signal"].type == "step.failed"
    assert await replayed(history) == "HF7010"


async def replayed(history: History) -> str:
    """What the recorded timeout raises when it is asked for again."""
    from holdfast.store.entries import Holding
    from holdfast.store.journal import Journal

    holding = Holding(ExecutionKey(b"k" * 16), "w", "default", epoch=1)
    unused: Any = None
    engine = Engine(Journal(unused), unused, outside=unused or object())  # type: ignore[arg-type]
    runtime = ExecutionRuntime(engine, holding, history)
    try:
        await wait_step(runtime, "wait_signal", 1, "go", timedelta(milliseconds=10))
    except hf.SignalTimeout as error:
        return error.code
    return "nothing"


async def test_a_changed_name_is_refused(shared_url: str) -> None:
    app = hf.App(shared_url)
    name = ["one"]

    @app.workflow
    async def work() -> str:
        await hf.wait_signal(name[0])
        await hf.wait_signal("never")
        return ""

    async with app, asyncio.timeout(10):
        assert app._launcher is not None
        app._launcher.engine.sleep_max_s = 0.0
        await app.signal("one", 1)
        assert (await (await work.options(id="w").start()).outcome()).status is ExecutionStatus.WAITING
        name[0] = "two"
        with pytest.raises(hf.HoldfastError, match="other arguments"):
            await (await app.resume("w"))


async def test_a_value_that_does_not_fit_its_model_fails_the_step(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def work() -> str:
        try:
            await hf.wait_signal("go", model=int)
        except hf.StepFailed:
            return "did not fit"
        return "fitted"

    async with app, asyncio.timeout(10):
        await app.signal("go", "text")
        assert await work.options(id="w")() == "did not fit"
        assert await app.store.inbox((await app.store.get_execution("w")).key) == []
