"""Schedules that fire: once, by the store's clock, with every policy, whoever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain import firings
from holdfast.domain.firings import Turn, turn
from holdfast.domain.schedules import Schedules
from holdfast.errors import HoldfastError, InvalidArgument, InvalidInput, ScheduleNotFound, WorkflowNotFound
from holdfast.events.log import EventLog
from holdfast.programs import yaml_program
from holdfast.records.executions import Execution, ExecutionStatus
from holdfast.records.schedules import (
    CatchUp,
    FiringCause,
    FiringState,
    Overlap,
    Schedule,
    ScheduleFiring,
    ScheduleResult,
)
from holdfast.records.workflows import StoredDefinition
from holdfast.scheduling import maintenance, scheduler
from holdfast.scheduling.maintenance import DUTIES, Duty, keep_duties
from holdfast.scheduling.scheduler import Scheduler
from holdfast.store.store import Store
from holdfast.workflows.definition import parse
from tests.conformance.clocks import stop_at, utc
from tests.conformance.hands import hand, is_postgresql, mark, moment_text, prefixed, until

pytestmark = pytest.mark.anyio

NOON = utc("2026-03-10 12:00")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@asynccontextmanager
async def opened(url: str, at: datetime = NOON) -> AsyncIterator[Store]:
    """A store in which it is noon, with a workflow to start."""
    async with hand(url) as store:
        stop_at(store, at)
        definition = StoredDefinition(
            hash=b"d" * 32, name="report", version="1", kind="python", document={"module": "reports"},
            created_at=at,
        )  # fmt: skip
        await store.register_workflow(definition)
        yield store


def hourly(**fields: Any) -> Schedule:
    return Schedule(**{"id": "hourly", "workflow": "report", "cron": "0 * * * *", **fields})


async def fired(store: Store, id: str = "hourly") -> Turn:
    """Turns until there is nothing more to do, added up."""
    total = Turn()
    while True:
        did = await turn(store, id)
        for name in ("started", "queued", "skipped", "failed"):
            setattr(total, name, getattr(total, name) + getattr(did, name))
        total.cancel += did.cancel
        total.maintain += did.maintain
        total.problem = did.problem or total.problem
        if not did.more:
            return total


async def recorded(store: Store, id: str = "hourly") -> list[ScheduleFiring]:
    """What became of the times of a schedule, the earliest first."""
    found = await store.repo(ScheduleFiring).find(f"schedule:{id}", limit=1000)
    return sorted(found.items, key=lambda each: each.nominal_at)


async def states(store: Store, id: str = "hourly") -> list[tuple[str, str]]:
    return [
        (f"{each.nominal_at.astimezone(UTC):%H:%M}", str(each.state)) for each in await recorded(store, id)
    ]


async def executions(store: Store) -> list[Execution]:
    return sorted(await store.list_executions(limit=1000), key=lambda each: each.id)


async def end(store: Store, id: str, status: ExecutionStatus = ExecutionStatus.COMPLETED) -> None:
    """Have an execution ended, as a worker would."""
    at = moment_text(store, round(NOON.timestamp() * 1_000_000))
    text = (
        f"UPDATE {prefixed(store, 'executions')} SET status = {mark(store, 1)}, finished_at = {at} "
        f"WHERE id = {mark(store, 2)}"
    )
    await store.driver.fetch_text(text, str(status), id)


# Once, and by the store's clock.


async def test_a_time_that_has_come_is_started_once(store_url: str) -> None:
    async with opened(store_url) as store:
        made = await Schedules(store).create(hourly(inputs={"n": 2**70}, queue="slow", tags=("a",)))
        assert made.next_run_at == NOON + HOUR
        assert (await fired(store)).started == 0
        stop_at(store, NOON + HOUR)
        assert await fired(store) == Turn(started=1)
        assert await fired(store) == Turn()
        (execution,) = await executions(store)
        assert (execution.id, execution.workflow, execution.status, execution.queue) == (
            "hourly-20260310T130000Z", "report", ExecutionStatus.READY, "slow",
        )  # fmt: skip
        details = await store.execution_details(execution.key)
        assert (details.tags, details.trigger) == (("a",), "schedule")
        assert details.metadata == {"schedule": "hourly", "nominal_at": "2026-03-10T13:00:00+00:00"}
        (event,) = await EventLog(store).page(execution)
        assert event.payload == {"n": 2**70}
        (firing,) = await recorded(store)
        assert (firing.cause, firing.state, firing.execution) == (
            FiringCause.TIME, FiringState.STARTED, execution.id,
        )  # fmt: skip
        now = await Schedules(store).get("hourly")
        assert (now.next_run_at, now.last_run_at, now.last_execution, now.last_result) == (
            NOON + 2 * HOUR, NOON + HOUR, execution.id, None,
        )  # fmt: skip


async def test_an_execution_names_its_schedule(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly())
        stop_at(store, NOON + HOUR)
        await fired(store)
        text = f"SELECT schedule FROM {prefixed(store, 'executions')}"
        ((told,),) = await store.driver.fetch_text(text)
        assert told == "hourly"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_how_it_ended_is_written_down(store_url: str, status: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly())
        stop_at(store, NOON + HOUR)
        await fired(store)
        await end(store, "hourly-20260310T130000Z", ExecutionStatus(status))
        assert (await Scheduler(store)._look()).schedules == ["hourly"]
        await fired(store)
        (firing,) = await recorded(store)
        assert (firing.state, firing.finished_at) == (status, NOON)
        assert (await Schedules(store).get("hourly")).last_result == status
        assert (await Scheduler(store)._look()).schedules == []


async def test_an_execution_that_was_removed_is_lost(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly())
        stop_at(store, NOON + HOUR)
        await fired(store)
        (execution,) = await executions(store)
        for table, column in (
            ("events", "execution"),
            ("execution_details", "execution"),
            ("executions", "key"),
        ):
            quoted = f"`{column}`" if store.driver.dialect == "mysql" else column
            text = f"DELETE FROM {prefixed(store, table)} WHERE {quoted} = {mark(store, 1)}"
            await store.driver.fetch_text(text, execution.key)
        await fired(store)
        assert await states(store) == [("13:00", "lost")]
        assert (await Schedules(store).get("hourly")).last_result is ScheduleResult.LOST


async def test_a_clock_that_is_put_back_starts_nothing_twice(store_url: str) -> None:
    async with opened(store_url) as store:
        schedules = Schedules(store)
        await schedules.create(hourly(overlap=Overlap.ALLOW, catch_up=CatchUp.ALL))
        stop_at(store, NOON + 3 * HOUR)
        assert (await fired(store)).started == 3
        for back in (NOON + 1.5 * HOUR, NOON, NOON + 2 * HOUR):
            stop_at(store, back)
            assert await fired(store) == Turn()
        # Even when it is planned anew by the clock that was put back, and that goes on from there.
        stop_at(store, NOON + MINUTE)
        await schedules.change("hourly", description="other words")
        await schedules.pause("hourly")
        await schedules.resume("hourly")
        for hours in range(1, 6):
            stop_at(store, NOON + hours * HOUR)
            await fired(store)
        assert await states(store) == [(f"{hour}:00", "started") for hour in range(13, 18)]
        assert len(await executions(store)) == 5


async def test_the_planned_time_only_moves_forward_while_nothing_is_changed(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly())
        stop_at(store, NOON + 2 * HOUR)
        await fired(store)
        stop_at(store, NOON - 48 * HOUR)
        await fired(store)
        assert (await Schedules(store).get("hourly")).next_run_at == NOON + 3 * HOUR


async def test_schedulers_that_come_at_once_start_it_once(shared_url: str) -> None:
    async with opened(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(60):
        for number in range(5):
            await Schedules(mine).create(hourly(id=f"s{number}", catch_up=CatchUp.ALL, overlap=Overlap.ALLOW))
        for hours in (1, 3):
            for store in (mine, theirs):
                stop_at(store, NOON + hours * HOUR)
            await asyncio.gather(
                *(fired(store, f"s{number}") for number in range(5) for store in (mine, theirs) * 3)
            )
        for number in range(5):
            assert [time for time, _ in await states(mine, f"s{number}")] == ["13:00", "14:00", "15:00"]
        assert len(await executions(mine)) == 15


class Cut(Exception):
    """The end of the process, as the transaction sees it."""


async def test_cut_off_between_any_two_statements_nothing_is_left_half(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0

    class Cutting:
        """A transaction that is cut off after so many statements."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        async def fetch(self, *args: Any) -> Any:
            return await self._count(self._inner.fetch(*args))

        async def fetch_text(self, *args: Any) -> Any:
            return await self._count(self._inner.fetch_text(*args))

        async def _count(self, work: Any) -> Any:
            nonlocal left
            found = await work
            left -= 1
            if left == 0:
                raise Cut
            return found

    before = firings._Turn.__init__

    def cut(self: Any, store: Store, transaction: Any, *rest: Any) -> None:
        before(self, store, Cutting(transaction), *rest)

    monkeypatch.setattr(firings._Turn, "__init__", cut)
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.QUEUE, catch_up=CatchUp.ALL))
        stop_at(store, NOON + 3 * HOUR)
        plan = await Schedules(store).get("hourly")
        cuts = 0
        for after in range(1, 100):
            left = after
            try:
                await turn(store, "hourly")
            except Cut:
                cuts += 1
                assert await recorded(store) == []
                assert await executions(store) == []
                assert await Schedules(store).get("hourly") == plan
            else:
                break
        assert cuts > 10
        assert await states(store) == [("13:00", "started"), ("14:00", "queued"), ("15:00", "queued")]
        assert len(await executions(store)) == 1


# What was missed.


@pytest.mark.parametrize(
    ("policy", "most", "late", "expected"),
    [
        (CatchUp.SKIP, 100, MINUTE / 2, [("13:00", "skipped"), ("18:00", "started")]),
        (CatchUp.SKIP, 100, 5 * MINUTE, [("13:00", "skipped")]),
        (CatchUp.LATEST, 100, 5 * MINUTE, [("13:00", "skipped"), ("18:00", "started")]),
        (CatchUp.ALL, 100, 5 * MINUTE, [(f"{hour}:00", "started") for hour in range(13, 19)]),
        (CatchUp.ALL, 2, 5 * MINUTE, [("13:00", "skipped"), ("17:00", "started"), ("18:00", "started")]),
    ],
)
async def test_what_is_done_about_missed_times(
    store_url: str, policy: CatchUp, most: int, late: timedelta, expected: list[tuple[str, str]]
) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(catch_up=policy, catch_up_max=most, overlap=Overlap.ALLOW))
        stop_at(store, NOON + 6 * HOUR + late)
        await fired(store)
        assert await states(store) == expected
        assert (await Schedules(store).get("hourly")).next_run_at == NOON + 7 * HOUR
        is_late = late > MINUTE
        causes = {each.cause for each in await recorded(store) if each.state is FiringState.STARTED}
        assert causes <= ({FiringCause.CATCH_UP} if is_late else {FiringCause.TIME})
        for each in await recorded(store):
            if each.state is FiringState.SKIPPED:
                assert each.reason is not None
                assert "it was missed" in each.reason


@pytest.mark.parametrize("policy", list(CatchUp))
async def test_a_time_that_is_a_moment_late_is_not_missed(store_url: str, policy: CatchUp) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(catch_up=policy))
        stop_at(store, NOON + HOUR + timedelta(seconds=59))
        assert (await fired(store)).started == 1
        assert (await recorded(store))[0].cause is FiringCause.TIME


async def test_many_missed_times_are_started_in_parts_and_the_oldest_are_left_out(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(
            hourly(cron="* * * * * *", catch_up=CatchUp.ALL, catch_up_max=50, overlap=Overlap.ALLOW)
        )
        stop_at(store, NOON + 400 * 24 * HOUR)
        first = await turn(store, "hourly")
        assert (first.started, first.skipped, first.more) == (20, 1, True)
        assert (await fired(store)).started == 30
        found = await recorded(store)
        assert [each.nominal_at for each in found[1:]] == [
            NOON + 400 * 24 * HOUR - timedelta(seconds=49 - number) for number in range(50)
        ]


# While the one before has not ended.


async def at_each_hour(store: Store, hours: range) -> None:
    for number in hours:
        stop_at(store, NOON + number * HOUR)
        await fired(store)


async def test_an_overlap_is_skipped(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.SKIP))
        await at_each_hour(store, range(1, 3))
        found = await recorded(store)
        assert [each.state for each in found] == ["started", "skipped"]
        assert "hourly-20260310T130000Z" in (found[1].reason or "")
        known = await Schedules(store).get("hourly")
        assert (known.last_result, known.last_execution) == (ScheduleResult.SKIPPED, found[0].execution)
        await end(store, "hourly-20260310T130000Z")
        await fired(store)
        assert (await Schedules(store).get("hourly")).last_result is ScheduleResult.COMPLETED
        await at_each_hour(store, range(3, 4))
        assert await states(store) == [("13:00", "completed"), ("14:00", "skipped"), ("15:00", "started")]


async def test_an_overlap_is_allowed(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.ALLOW))
        await at_each_hour(store, range(1, 4))
        assert [state for _, state in await states(store)] == ["started"] * 3


async def test_an_overlap_waits_for_the_one_before(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.QUEUE))
        await at_each_hour(store, range(1, 4))
        assert [state for _, state in await states(store)] == ["started", "queued", "queued"]
        assert len(await executions(store)) == 1
        assert (await Scheduler(store)._look()).schedules == []
        await end(store, "hourly-20260310T130000Z", ExecutionStatus.FAILED)
        assert (await Scheduler(store)._look()).schedules == ["hourly"]
        await fired(store)
        assert [state for _, state in await states(store)] == ["failed", "started", "queued"]
        # Set aside, it waits too; and nothing asks about it all the time.
        await Schedules(store).pause("hourly")
        await end(store, "hourly-20260310T140000Z")
        await fired(store)
        assert [state for _, state in await states(store)] == ["failed", "completed", "queued"]
        assert (await Scheduler(store)._look()).schedules == []
        await Schedules(store).resume("hourly")
        await fired(store)
        assert [state for _, state in await states(store)] == ["failed", "completed", "started"]
        assert [each.id[-7:] for each in await executions(store)] == ["130000Z", "140000Z", "150000Z"]


async def test_so_many_wait_and_no_more(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firings, "QUEUED_MAX", 2)
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.QUEUE))
        await at_each_hour(store, range(1, 5))
        assert [state for _, state in await states(store)] == ["started", "queued", "queued", "skipped"]


async def test_an_overlap_cancels_the_one_before(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.CANCEL))
        service = Scheduler(store)
        stop_at(store, NOON + HOUR)
        await service.round()
        stop_at(store, NOON + 2 * HOUR)
        await service.round()
        # Nobody runs it, so that it is cancelled at once, and the next look finds that.
        assert (await store.get_execution("hourly-20260310T130000Z")).status is ExecutionStatus.CANCELLED
        await service.round()
        assert await states(store) == [("13:00", "cancelled"), ("14:00", "started")]
        assert service.report.started == 2


async def test_cancelling_is_asked_for_again_and_the_newest_takes_the_place(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.CANCEL))
        stop_at(store, NOON + HOUR)
        await fired(store)
        stop_at(store, NOON + 2 * HOUR)
        asked = ["hourly-20260310T130000Z"]
        assert (await fired(store)).cancel == asked  # and then the process dies
        assert (await fired(store)).cancel == []
        stop_at(store, NOON + 2 * HOUR + timedelta(seconds=31))
        assert (await Scheduler(store)._look()).schedules == ["hourly"]
        assert (await fired(store)).cancel == asked
        stop_at(store, NOON + 3 * HOUR)
        assert set((await fired(store)).cancel) == set(asked)
        assert [state for _, state in await states(store)] == ["started", "skipped", "queued"]
        await end(store, asked[0], ExecutionStatus.CANCELLED)
        await fired(store)
        assert [state for _, state in await states(store)] == ["cancelled", "skipped", "started"]


# Changes.


async def test_changes_plan_anew(store_url: str) -> None:
    async with opened(store_url) as store:
        schedules = Schedules(store)
        await schedules.create(hourly())
        assert (await schedules.pause("hourly")).next_run_at is None
        stop_at(store, NOON + 5 * HOUR + MINUTE)
        assert await fired(store) == Turn()
        resumed = await schedules.resume("hourly")
        assert resumed.next_run_at == NOON + 6 * HOUR
        assert (await fired(store)).started == 0  # what passed meanwhile is left out
        changed = await schedules.change("hourly", cron="30 8 * * *", zone="Asia/Tokyo")
        assert changed.next_run_at == utc("2026-03-10 23:30")
        changed = await schedules.change("hourly", cron="every 10m")
        assert changed.next_run_at == NOON + 5 * HOUR + 10 * MINUTE
        # A time that has come stays due when something else is changed.
        stop_at(store, NOON + 5 * HOUR + 11 * MINUTE)
        await schedules.change("hourly", description="d")
        assert (await fired(store)).started == 1
        # And does not when the new text does not mean it.
        stop_at(store, NOON + 5 * HOUR + 21 * MINUTE)
        await schedules.change("hourly", cron="59 * * * *")
        assert await fired(store) == Turn()


async def test_a_row_that_was_written_past_the_verbs_is_planned(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.repo(Schedule).create(hourly())
        told: list[str] = []
        service = Scheduler(store, tell=told.append)
        await service.round()
        known = await Schedules(store).get("hourly")
        assert known.next_run_at == NOON + HOUR
        await store.repo(Schedule).update(replace(known, cron="30 * * * *"))
        await service.round()
        known = await Schedules(store).get("hourly")
        assert known.next_run_at == NOON + HOUR / 2
        await store.repo(Schedule).update(replace(known, cron="whenever"))
        await service.round()
        known = await Schedules(store).get("hourly")
        assert known.next_run_at is None
        (line,) = told
        assert "hourly" in line
        assert "whenever" in line
        assert (await service._look()).schedules == []


async def test_changes_count_in_every_process(shared_url: str) -> None:
    """Another process's scheduler acts on what is made, changed and paused here; no process is told of it."""
    async with opened(shared_url) as mine, hand(shared_url) as theirs:
        stop_at(theirs, NOON)
        service, schedules = Scheduler(theirs), Schedules(mine)
        await service.round()
        await schedules.create(hourly())
        for store in (mine, theirs):
            stop_at(store, NOON + HOUR)
        await service.round()
        assert service.report.started == 1
        await schedules.change("hourly", cron="every 1m", overlap=Overlap.ALLOW)
        for store in (mine, theirs):
            stop_at(store, NOON + HOUR + MINUTE)
        await service.round()
        assert service.report.started == 2
        await schedules.pause("hourly")
        for store in (mine, theirs):
            stop_at(store, NOON + 2 * HOUR)
        await service.round()
        assert service.report.started == 2


async def test_it_begins_and_ends_when_it_is_told(store_url: str) -> None:
    async with opened(store_url) as store:
        schedules = Schedules(store)
        window = {"starts_at": NOON + 2 * HOUR, "ends_at": NOON + 4 * HOUR}
        made = await schedules.create(hourly(catch_up=CatchUp.ALL, overlap=Overlap.ALLOW, **window))
        assert made.next_run_at == NOON + 2 * HOUR
        assert await schedules.next("hourly", 9) == [NOON + number * HOUR for number in (2, 3, 4)]
        stop_at(store, NOON + 9 * HOUR)
        await fired(store)
        assert [time for time, _ in await states(store)] == ["14:00", "15:00", "16:00"]
        assert (await schedules.get("hourly")).next_run_at is None
        assert await schedules.next("hourly") == []
        assert (await Scheduler(store)._look()).schedules == []


async def test_jitter_is_the_same_for_everybody_and_differs_from_time_to_time(store_url: str) -> None:
    async with opened(store_url) as store:
        schedules = Schedules(store)
        await schedules.create(hourly(jitter=10 * MINUTE))
        times = await schedules.next("hourly", 20)
        assert times == await schedules.next("hourly", 20)
        late = [each - (NOON + (number + 1) * HOUR) for number, each in enumerate(times)]
        assert all(timedelta(0) <= each < 10 * MINUTE for each in late)
        assert len(set(late)) > 15
        stop_at(store, times[0] - timedelta(microseconds=1))
        assert (await fired(store)).started == 0
        stop_at(store, times[0])
        assert (await fired(store)).started == 1
        (firing,) = await recorded(store)
        assert firing.nominal_at == NOON + HOUR
        assert (await schedules.get("hourly")).next_run_at == times[1]


async def test_jitter_longer_than_the_interval_loses_nothing(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(
            hourly(cron="every 1m", jitter=HOUR, catch_up=CatchUp.ALL, overlap=Overlap.ALLOW)
        )
        for minutes in range(0, 150, 7):
            stop_at(store, NOON + minutes * MINUTE)
            await fired(store)
        found = [each.nominal_at for each in await recorded(store)]
        assert found == [NOON + number * MINUTE for number in range(1, len(found) + 1)]
        assert len(found) > 40


async def test_next_only_reads(store_url: str) -> None:
    async with opened(store_url) as store:
        schedules = Schedules(store)
        made = await schedules.create(hourly(enabled=False))
        assert made.next_run_at is None
        assert await schedules.next("hourly", 2) == [NOON + HOUR, NOON + 2 * HOUR]
        assert await schedules.get("hourly") == made
        with pytest.raises(InvalidArgument):
            await schedules.next("hourly", 0)
        with pytest.raises(ScheduleNotFound):
            await schedules.next("nothing")


async def test_deleting_it_skips_what_waits_and_follows_what_runs(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.QUEUE))
        await at_each_hour(store, range(1, 3))
        await Schedules(store).delete("hourly")
        service = Scheduler(store)
        await service.round()
        assert [state for _, state in await states(store)] == ["started", "skipped"]
        await end(store, "hourly-20260310T130000Z")
        await service.round()
        assert [state for _, state in await states(store)] == ["completed", "skipped"]
        assert (await service._look()).schedules == []
        assert len(await executions(store)) == 1


# What can not be started.


async def test_a_workflow_that_is_missing_is_recorded_and_holds_up_nobody(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(id="bad", workflow="nothing"))
        await Schedules(store).create(hourly())
        stop_at(store, NOON + HOUR)
        told: list[str] = []
        service = Scheduler(store, tell=told.append)
        await service.round()
        assert (service.report.started, service.report.failed) == (1, 1)
        (firing,) = await recorded(store, "bad")
        assert (firing.state, firing.reason and "HF3002" in firing.reason) == (FiringState.FAILED, True)
        assert len(told) == 1
        assert (await Schedules(store).get("bad")).last_result is ScheduleResult.FAILED
        with pytest.raises(WorkflowNotFound):
            await Schedules(store).trigger("bad")


async def test_an_id_that_is_taken_is_recorded(store_url: str) -> None:
    async with opened(store_url) as store:
        await Schedules(store).create(hourly())
        stop_at(store, NOON + HOUR)
        await fired(store)
        text = f"DELETE FROM {prefixed(store, 'schedule_firings')}"
        await store.driver.fetch_text(text)
        known = await Schedules(store).get("hourly")
        back = replace(
            known, next_nominal_at=NOON + HOUR, next_run_at=NOON + HOUR,
            planned_revision=known.revision + 1,
        )  # fmt: skip
        await store.repo(Schedule).update(back)
        assert (await fired(store)).failed == 1
        (firing,) = await recorded(store)
        assert firing.reason == "there is an execution 'hourly-20260310T130000Z' already"
        assert len(await executions(store)) == 1


async def test_the_definition_that_is_meant_checks_the_input(store_url: str) -> None:
    text = (
        "name: typed\ninputs: {properties: {n: {type: integer}}, required: [n]}\n"
        "steps: [{id: a, shell: 'true'}]\n"
    )
    async with opened(store_url) as store:
        await store.register_workflow(yaml_program(parse(text, source="test")).definition)
        await Schedules(store).create(hourly(workflow="typed", inputs={"n": "x"}))
        with pytest.raises(InvalidInput):
            await Schedules(store).trigger("hourly")
        stop_at(store, NOON + HOUR)
        assert (await fired(store)).failed == 1
        await Schedules(store).change("hourly", inputs={"n": 1})
        stop_at(store, NOON + HOUR + MINUTE)
        assert (await Schedules(store).trigger("hourly")).state is FiringState.STARTED


# By hand.


async def test_a_trigger_starts_once_now_and_moves_nothing(store_url: str) -> None:
    async with opened(store_url) as store:
        schedules = Schedules(store)
        before = await schedules.create(hourly())
        stop_at(store, NOON + timedelta(microseconds=1234))
        first = await schedules.trigger("hourly", by="ana")
        assert (first.cause, first.execution) == (FiringCause.TRIGGER, "hourly-20260310T120000.001234Z")
        details = await store.execution_details((await executions(store))[0].key)
        assert (details.trigger, details.started_by) == ("schedule", "ana")
        with pytest.raises(HoldfastError, match="at this very moment"):
            await schedules.trigger("hourly")
        now = await schedules.get("hourly")
        assert (now.next_run_at, now.last_execution) == (before.next_run_at, first.execution)
        await schedules.pause("hourly")
        stop_at(store, NOON + MINUTE)
        await schedules.trigger("hourly")  # also of a paused one, and beside another
        await schedules.resume("hourly")
        assert len(await executions(store)) == 2
        stop_at(store, NOON + HOUR)
        assert (await fired(store)).skipped == 1  # which runs still
        with pytest.raises(ScheduleNotFound):
            await schedules.trigger("nothing")


# Holdfast's own duties.


async def test_duties_are_kept_by_schedules_of_their_own(store_url: str) -> None:
    async with opened(store_url) as store:
        made = await keep_duties(store)
        expected = {f"maintenance-{name}" for name in DUTIES}
        if not is_postgresql(store):
            expected.remove("maintenance-refresh-dashboards")
        assert set(made) == expected
        assert await keep_duties(store) == []
        await Schedules(store).change("maintenance-purge-sessions", cron="0 5 * * *")
        service = Scheduler(store)
        stop_at(store, NOON + 24 * HOUR)
        report = await service.once()
        assert report.maintained == len(expected)
        for id in expected:
            (firing,) = [each for each in await recorded(store, id) if each.state is not FiringState.SKIPPED]
            assert (firing.state, firing.execution) == (FiringState.COMPLETED, None)
            assert (await Schedules(store).get(id)).last_result is ScheduleResult.COMPLETED
        assert await executions(store) == []


async def test_a_duty_that_fails_or_is_left_is_done_again(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    async def fail(store: Store) -> None:
        done.append("failed")
        raise InvalidArgument("it can not be done")

    async def work(store: Store) -> None:
        done.append("done")

    monkeypatch.setattr(maintenance, "DUTIES", {"sweep": Duty("d", "every 1h", fail)})
    async with opened(store_url) as store:
        told: list[str] = []
        service = Scheduler(store, tell=told.append)
        await keep_duties(store)
        stop_at(store, NOON + HOUR)
        await service.once()
        (firing,) = await recorded(store, "maintenance-sweep")
        assert (firing.state, firing.reason) == (FiringState.FAILED, "HF1002: it can not be done")
        assert done == ["failed"]
        assert len(told) == 1
        # A process takes one on and dies.
        monkeypatch.setattr(maintenance, "DUTIES", {"sweep": Duty("d", "every 1h", work)})
        stop_at(store, NOON + 2 * HOUR)
        assert len((await fired(store, "maintenance-sweep")).maintain) == 1
        await service.once()
        assert done == ["failed"]
        stop_at(store, NOON + 2 * HOUR + firings.MAINTENANCE_LIMIT)
        await service.once()
        assert done == ["failed", "done"]
        assert (await recorded(store, "maintenance-sweep"))[1].state is FiringState.COMPLETED
        # One that is asked for by hand is done by the next scheduler that looks.
        await Schedules(store).trigger("maintenance-sweep")
        await service.once()
        assert done == ["failed", "done", "done"]


async def test_old_records_are_removed_and_open_ones_stay(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge = DUTIES["purge-firings"].work
    monkeypatch.setattr(maintenance, "DUTIES", {"purge": Duty("d", "every 1h", purge)})
    async with opened(store_url) as store:
        await Schedules(store).create(hourly(overlap=Overlap.QUEUE))
        await keep_duties(store)
        stop_at(store, NOON + HOUR)
        await Scheduler(store).once()
        await end(store, "hourly-20260310T130000Z")
        await at_each_hour(store, range(2, 4))
        kept = [("13:00", "completed"), ("14:00", "started"), ("15:00", "queued")]
        assert await states(store) == kept
        assert await states(store, "maintenance-purge") == [("13:00", "completed")]
        stop_at(store, NOON + 25 * HOUR - MINUTE)
        await purge(store)
        assert await states(store, "maintenance-purge") == [("13:00", "completed")]
        stop_at(store, NOON + 25 * HOUR)
        await purge(store)
        assert await states(store, "maintenance-purge") == []
        assert await states(store) == kept
        stop_at(store, NOON + 91 * 24 * HOUR)
        await purge(store)
        assert await states(store) == kept[1:]


# The loop.


async def test_it_serves_until_it_is_stopped(store_url: str) -> None:
    """By the real clock: a schedule of every second, made while it runs, is acted on."""
    async with hand(store_url) as store:
        definition = StoredDefinition(
            hash=b"d" * 32, name="report", version="1", kind="python", document={}, created_at=NOON
        )
        await store.register_workflow(definition)
        service = Scheduler(store, scheduler.SchedulerOptions(tick=timedelta(milliseconds=100)))
        running = asyncio.create_task(service.run())
        try:
            await Schedules(store).create(hourly(cron="* * * * * *", overlap=Overlap.ALLOW))

            async def some() -> bool:
                return len(await executions(store)) >= 2

            await until(some, "nothing was started")
        finally:
            service.stop()
            async with asyncio.timeout(30):
                report = await running
        assert report.reason == "stopped"
        assert report.started == len(await executions(store))


async def test_an_idle_scheduler_asks_less_than_once_a_second(store_url: str) -> None:
    """It looks with one statement, and where it hears of changes every fifth tick."""
    async with opened(store_url) as store:
        await Schedules(store).create(hourly())
        service = Scheduler(store)
        await service.round()

        def asked() -> dict[str, int]:
            return {each.name: each.count for each in store.figures().statements}

        before = asked()
        await service.round()
        more = {name: count - before.get(name, 0) for name, count in asked().items()}
        assert {name: count for name, count in more.items() if count} == {"schedules.look": 1}
