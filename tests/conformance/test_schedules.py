"""Schedules as records: what is stored of them, what is refused, and what stays when they go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain.schedules import Schedules, check
from holdfast.errors import InvalidArgument, InvalidSchedule, RecordExists, ScheduleNotFound
from holdfast.records.schedules import CatchUp, Overlap, Schedule, ScheduleResult
from tests.conformance.hands import hand, rows
from tests.conformance.test_store import put

pytestmark = pytest.mark.anyio


def nightly(**fields: Any) -> Schedule:
    return Schedule(**{"id": "nightly", "workflow": "report", "cron": "0 2 * * 1-5", **fields})


async def test_a_schedule_reads_back_as_it_was_stored(store_url: str) -> None:
    async with hand(store_url) as store:
        schedules = Schedules(store)
        made = await schedules.create(
            nightly(
                version="2", zone="Europe/Berlin", inputs={"n": 2**70, "deep": [None]},
                catch_up=CatchUp.ALL, overlap=Overlap.CANCEL, queue="slow", description="ß", tags=("a", "b"),
                starts_at=datetime(2126, 3, 29, 2, 0, 0, 1, tzinfo=UTC), last_result=ScheduleResult.SKIPPED,
                ends_at=datetime(2126, 4, 9, tzinfo=UTC), jitter=timedelta(minutes=5), catch_up_max=7,
            )
        )  # fmt: skip
        assert await schedules.get("nightly") == made
        assert (await schedules.find("workflow:report enabled:true tag:b has:next")).items == [made]
        with pytest.raises(RecordExists):
            await schedules.create(nightly())


async def test_it_is_paused_changed_and_deleted(store_url: str) -> None:
    async with hand(store_url) as store:
        schedules = Schedules(store)
        await schedules.create(nightly())
        assert not (await schedules.pause("nightly")).enabled
        assert (await schedules.resume("nightly")).enabled
        changed = await schedules.change("nightly", cron="@hourly", inputs={"n": 1})
        assert (changed.cron, changed.inputs, changed.revision) == ("@hourly", {"n": 1}, 4)
        with pytest.raises(InvalidSchedule):
            await schedules.change("nightly", cron="often")
        for name in ("id", "revision", "nothing"):
            with pytest.raises(InvalidArgument, match="no field"):
                await schedules.change("nightly", **{name: "x"})
        await schedules.delete("nightly")
        for gone in (schedules.get("nightly"), schedules.delete("nightly"), schedules.pause("nightly")):
            with pytest.raises(ScheduleNotFound):
                await gone


async def test_deleting_it_keeps_what_it_started(store_url: str) -> None:
    async with hand(store_url) as store:
        await Schedules(store).create(nightly())
        await put(store, "ran", workflow="report", status="completed")
        table = "executions" if not store.driver.schema else f"{store.driver.schema}.executions"
        await store.driver.fetch_text(f"UPDATE {table} SET schedule = 'nightly'")
        await Schedules(store).delete("nightly")
        assert (await store.get_execution("ran")).workflow == "report"
        ((told,),) = await rows(store, "SELECT schedule FROM {executions}")
        assert told == "nightly"


@pytest.mark.parametrize(
    "cron",
    [
        "* * * * *",
        "0 2 * * 1-5",
        "*/5 0-6/2 1,15 JAN-MAR MON#2",
        "0 0 L * ?",
        "30 0 2 * * *",
        "@daily",
        "every 6h",
    ],
)
def test_what_a_time_can_look_like(cron: str) -> None:
    check(nightly(cron=cron))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"cron": "0 0 31 2 *"}, "bad day-of-month"),
        ({"cron": "every day"}, "not a duration"),
        ({"cron": "every 1ms"}, "whole seconds"),
        ({"queue": "local"}, "no worker serves"),
        ({"queue": ""}, "no worker serves"),
        ({"id": "has space"}, "can not be the id"),
        ({"id": "@last"}, "can not be the id"),
        ({"id": "x" * 231}, "can not be the id"),
        ({"jitter": timedelta(days=2)}, "jitter"),
        ({"catch_up_max": 0}, "not 1 to 1000"),
        ({"starts_at": datetime(2026, 1, 1)}, "without a zone"),
        (
            {"starts_at": datetime(2026, 1, 2, tzinfo=UTC), "ends_at": datetime(2026, 1, 1, tzinfo=UTC)},
            "before",
        ),
        ({"cron": ""}, "0 fields"),
        ({"cron": "* * * *"}, "4 fields"),
        ({"cron": "* * * * * * *"}, "7 fields"),
        ({"cron": "@often"}, "1 fields"),
        ({"cron": "* * * * ;"}, "field 5"),
        ({"cron": "1,,2 * * * *"}, "field 1"),
        ({"cron": "*/ * * * *"}, "field 1"),
        ({"cron": "* * * * 'x'"}, "field 5"),
        ({"zone": "Berlin"}, "no time zone"),
        ({"zone": ""}, "no time zone"),
        ({"zone": "../etc/passwd"}, "no time zone"),
        ({"zone": "/etc/localtime"}, "no time zone"),
    ],
)
async def test_what_is_no_time_is_refused(fields: dict[str, str], words: str) -> None:
    async with hand("memory://") as store:
        with pytest.raises(InvalidSchedule, match=words):
            await Schedules(store).create(nightly(**fields))
        assert (await Schedules(store).find()).items == []


async def test_changes_at_once_all_count(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs, asyncio.timeout(30):
        await Schedules(mine).create(nightly())
        await asyncio.gather(
            Schedules(mine).pause("nightly"),
            Schedules(theirs).change("nightly", zone="Asia/Tokyo"),
            Schedules(mine).change("nightly", queue="slow"),
        )
        now = await Schedules(theirs).get("nightly")
        assert (now.enabled, now.zone, now.queue, now.revision) == (False, "Asia/Tokyo", "slow", 4)
