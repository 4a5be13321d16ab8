"""Three schedulers with wrong clocks cross changes of the clocks both ways, and are killed and paused."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from holdfast.domain.schedules import Schedules
from holdfast.domain.timetables import read
from holdfast.records.schedules import CatchUp, FiringState, Overlap, Schedule, ScheduleFiring
from holdfast.records.workflows import StoredDefinition
from holdfast.store.store import Store
from tests.conformance.clocks import stop_at, utc
from tests.conformance.hands import hand, until
from tests.conformance.scheduler_process import Orders, Start, serve

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]

FIRST, LAST = utc("2026-03-28 12:00"), utc("2026-04-06 12:00")
"""Clocks go forward in Europe on March 29, and back in Australia, New Zealand and Chile on April 5."""
TIMES = (
    ("30 2 * * *", "Europe/Berlin"), ("0 30 2 * * *", "Europe/Berlin"), ("15 */3 * * *", "Europe/Berlin"),
    ("30 2 * * *", "Australia/Sydney"), ("*/20 2 * * *", "Australia/Sydney"),
    ("45 2,3 * * *", "Pacific/Chatham"), ("30 23 * * *", "America/Santiago"), ("every 3h", "UTC"),
)  # fmt: skip
SCHEDULERS = 3
SKEWS = (timedelta(0), timedelta(minutes=20), -timedelta(minutes=20), -timedelta(hours=2))
PATIENCE_S = 600.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.conformance.scheduler_process"])


def expected(text: str, zone: str) -> list[datetime]:
    """Every time of a schedule from the first moment to the last."""
    timetable, found = read(text, zone), list[datetime]()
    at = timetable.after(FIRST)
    while at is not None and at <= LAST:
        found.append(at)
        at = timetable.after(at)
    return found


class Team:
    """The schedulers that are alive, and what is done to them."""

    def __init__(self, url: str, speed: float, chance: random.Random) -> None:
        self._url, self._speed, self._chance = url, speed, chance
        self._start = Start(_FORKS.Semaphore(0), _FORKS.Event(), _FORKS.Value("d", 0.0))
        self._alive: list[multiprocessing.process.BaseProcess] = []
        self.did: Counter[str] = Counter()

    def hire(self) -> None:
        skew = self._chance.choice(SKEWS)
        orders = Orders(self._url, FIRST + skew, self._speed)
        process = _FORKS.Process(target=serve, args=(orders, self._start))
        process.start()
        self._alive.append(process)

    def begin(self) -> None:
        """Let the clocks run, once all have come to their places."""
        for _ in self._alive:
            assert self._start.ready.acquire(timeout=PATIENCE_S)
        self._start.since.value = time.time()
        self._start.go.set()

    async def harm(self) -> None:
        """Kill one and hire another, whose clock is off by something else; or have one stand still."""
        victim = self._chance.choice(self._alive)
        assert victim.pid is not None
        if self.did.total() % 2:
            os.kill(victim.pid, signal.SIGSTOP)
            await asyncio.sleep(self._chance.uniform(0.05, 0.4))
            os.kill(victim.pid, signal.SIGCONT)
            self.did["paused"] += 1
        else:
            victim.kill()
            victim.join()
            self._alive.remove(victim)
            self.hire()
            self.did["killed"] += 1

    def dismiss(self) -> None:
        for process in self._alive:
            with suppress(ProcessLookupError):
                process.kill()
            process.join()


async def is_done(store: Store) -> bool:
    """Whether nothing is to come any more: every schedule ends at the last moment."""
    page = await store.repo(Schedule).find("has:next", limit=1)
    return not page.items


async def progress(store: Store, more: int) -> bool:
    """Wait until so many times more are recorded; whether anything is left to come."""
    before = (await store.repo(ScheduleFiring).count()).rows

    async def went_on() -> bool:
        return (await store.repo(ScheduleFiring).count()).rows >= before + more or await is_done(store)

    await until(went_on, "nothing is recorded any more")
    return not await is_done(store)


async def test_every_time_is_started_once(shared_url: str, chaos_scope: str) -> None:
    seconds = 3.0 if chaos_scope == "short" else 60.0
    seed = random.SystemRandom().randrange(2**32)
    print(f"\nseed {seed}")
    async with hand(shared_url) as store, asyncio.timeout(PATIENCE_S + 2 * seconds):
        stop_at(store, FIRST)
        definition = StoredDefinition(
            hash=b"d" * 32, name="report", version="1", kind="python", document={}, created_at=FIRST
        )
        await store.register_workflow(definition)
        for number, (text, zone) in enumerate(TIMES):
            await Schedules(store).create(
                Schedule(
                    id=f"s{number}", workflow="report", cron=text, zone=zone, ends_at=LAST,
                    catch_up=CatchUp.ALL, catch_up_max=1000, overlap=Overlap.ALLOW,
                )
            )  # fmt: skip
        team = Team(shared_url, (LAST - FIRST).total_seconds() / seconds, random.Random(seed))
        try:
            for _ in range(SCHEDULERS):
                team.hire()
            team.begin()
            while await progress(store, random.randint(1, 20)):
                await team.harm()
        finally:
            team.dismiss()
        for number, (text, zone) in enumerate(TIMES):
            found = await all_firings(store, f"s{number}")
            assert sorted(each.nominal_at for each in found) == expected(text, zone), (text, zone)
            assert {each.state for each in found} == {FiringState.STARTED}
            for each in found:
                assert each.execution is not None
                assert await store.find_execution(each.execution) is not None
        total = sum(len(expected(*each)) for each in TIMES)
        assert await store.count_executions() == total
        print(f"{total} times of {len(TIMES)} schedules, {dict(team.did)}")
        assert team.did["killed"] > 0


async def all_firings(store: Store, id: str) -> list[ScheduleFiring]:
    return [each async for each in store.repo(ScheduleFiring).stream(f"schedule:{id}")]
