"""Failures that other workflow engines had, each as a test of the rule that keeps it away."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import ExecutionFailed, IdTaken, LeaseLost, StoreUnavailable
from holdfast.events.cursors import BEGINNING
from holdfast.events.streams import StreamEvent, Streams
from holdfast.fleet.ownership import Registration
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Answer
from tests.conformance.hands import begin, begin_like, hand, plant, result, rows, take_over, until

pytestmark = pytest.mark.anyio

DAY_US = 86_400 * 10**6


class Program:
    """One workflow of three steps; the middle one waits until the test lets it go on."""

    def __init__(self, url: str) -> None:
        self.app = hf.App(url)
        self.bodies: list[str] = []
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

        @self.app.step
        async def work(name: str) -> str:
            self.bodies.append(name)
            if name == "middle":
                self.arrived.set()
                await self.go_on.wait()
            return name

        @self.app.workflow
        async def three(tag: str = "?") -> str:
            return "".join([await work("first"), await work("middle"), await work("last"), tag])

        self.three: Any = three


async def test_known_kw1_a_running_execution_is_not_adopted_by_its_own_process(shared_url: str) -> None:
    program = Program(shared_url)
    async with program.app, asyncio.timeout(20):
        handle = await program.three.options(id="x").start("!")
        await program.arrived.wait()
        again = await program.app.resume("x")
        third = await program.three.options(id="x").start("!")
        program.go_on.set()
        assert await asyncio.gather(handle, again, third) == ["firstmiddlelast!"] * 3
        assert program.bodies == ["first", "middle", "last"]
        assert (await program.app.store.get_execution("x")).epoch == 1


async def test_known_kw2_a_recovery_that_failed_can_be_done_again(shared_url: str) -> None:
    program = Program(shared_url)
    program.go_on.set()
    async with program.app, asyncio.timeout(20):
        store = program.app.store
        await program.three.options(id="model")("!")
        await begin_like(store, await store.get_execution("model"))
        real, failures = store.driver.fetch, 0

        async def fetch(name: str, *args: Any) -> Any:
            nonlocal failures
            if name == "events.history" and failures < 1:
                failures += 1
                raise StoreUnavailable("the database restarts just now")
            return await real(name, *args)

        store.driver.fetch = fetch  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await program.app.resume("x")
        assert failures == 1
        assert await (await program.app.resume("x")) == "firstmiddlelast?"
        assert (await store.get_execution("x")).status is ExecutionStatus.COMPLETED


async def test_known_kw3_two_lives_of_a_process_share_no_identity(shared_url: str) -> None:
    async with hand(shared_url) as store:
        one, two = Registration(store), Registration(store)
        await one.start()
        await two.start()
        names = {one.boot, two.boot}
        await one.stop()
        await one.start()
        assert len(names | {one.boot}) == 3
        await one.stop()
        assert (await rows(store, "SELECT count(*) FROM {workers}"))[0][
            0
        ] == 1  # the other one's lease stands
        await two.stop()


async def test_known_kw4_who_lost_the_race_does_not_carry_on(shared_url: str) -> None:
    program = Program(shared_url)
    async with program.app, hand(shared_url) as theirs, asyncio.timeout(20):
        handle = await program.three.options(id="x").start("!")
        await program.arrived.wait()
        await take_over(theirs, handle.key)
        program.go_on.set()
        with pytest.raises(LeaseLost):
            await handle
        assert program.bodies == ["first", "middle"]
        row = await theirs.get_execution("x")
        assert (row.status, row.epoch) == (ExecutionStatus.RUNNING, 2)  # neither ended nor handed back


async def test_known_kw5_the_same_id_twice_at_once_is_one_run(shared_url: str) -> None:
    one, two = Program(shared_url), Program(shared_url)
    one.go_on.set()
    two.go_on.set()
    async with one.app, two.app, asyncio.timeout(20):
        answers = await asyncio.gather(
            one.three.options(id="x")("!"), two.three.options(id="x")("!"), one.three.options(id="x")("!")
        )
        assert answers == ["firstmiddlelast!"] * 3
        assert sorted(one.bodies + two.bodies) == ["first", "last", "middle"]
        with pytest.raises(IdTaken):
            await two.three.options(id="x")("?")


async def test_known_kw6_a_late_write_is_refused(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(holding, "a"))


async def test_known_kw9_durations_have_64_bits(shared_url: str) -> None:
    async with hand(shared_url) as store:
        holding = await begin(store)
        month = 31 * DAY_US
        assert await store.journal.append(result(holding, "a", duration_us=month)) is Answer.WRITTEN
        found = await rows(store, "SELECT duration_us FROM {events} WHERE path = 'a'")
        assert timedelta(microseconds=found[0][0]) == timedelta(days=31)


async def test_known_kw10_a_huge_error_is_kept_short(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.step
    async def shout() -> None:
        raise ValueError("no! " * 2_000_000)

    @app.workflow
    async def loud() -> None:
        await shout()

    async with app, asyncio.timeout(20):
        with pytest.raises(ExecutionFailed) as caught:
            await loud.options(id="x")()
        assert len(str(caught.value)) < 20_000
        sizes = await rows(app.store, "SELECT max(length(payload)) FROM {events}")
        assert sizes[0][0] <= 8192
        assert (await rows(app.store, "SELECT count(*) FROM {payloads}"))[0][0] == 0


@pytest.mark.parametrize("with_mark", [True, False])
async def test_known_kq8_a_reader_skips_nothing_that_commits_late(
    fresh_postgres: str, with_mark: bool
) -> None:
    """Numbers come before the commit: a reader that saw the later one must not be past the earlier."""
    async with hand(fresh_postgres) as writer, hand(fresh_postgres) as late, asyncio.timeout(20):
        if not with_mark:
            plant(writer, "streams.follow", "AND xid < pg_snapshot_xmin(pg_current_snapshot())", "")
        slow, streams = Streams(late), Streams(writer)
        await streams.append("a", [("made", 0)])
        await streams.append("b", [("made", 0)])
        seen: list[StreamEvent] = []
        cursor = BEGINNING

        async def read_on() -> None:
            nonlocal cursor
            while page := await streams.page(after=cursor):
                seen.extend(page)
                cursor = page[-1].cursor

        await read_on()
        async with late.transaction() as transaction:
            await transaction.fetch("streams.lock", late.tenant, "a")
            await transaction.fetch("streams.insert", late.tenant, "a", 2, "late", codec.encode(1))
            await streams.append("b", [("early", 1)])
            await read_on()  # the other's transaction began first and is still open
            await transaction.fetch("streams.advance", late.tenant, "a", 2)
        await slow.append("a", [("last", 2)])

        async def all_read() -> bool:
            await read_on()  # another database's open transaction may hold the mark back for a moment
            return seen[-1:] != [] and {("a", 3), ("b", 2)} <= {(event.stream, event.seq) for event in seen}

        await until(all_read, "the reader never came to the end")
        numbers = [event.seq for event in seen if event.stream == "a"]
        assert numbers == ([1, 2, 3] if with_mark else [1, 3])  # without it the late one is never seen
        assert [event.seq for event in seen if event.stream == "b"] == [1, 2]
