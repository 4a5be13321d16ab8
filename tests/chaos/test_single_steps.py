"""Steps that are hard on their worker: one kills it every time, one keeps its event loop for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from holdfast.records.executions import ExecutionStatus
from tests.chaos.judge import read_history, read_record
from tests.chaos.program import Settings
from tests.chaos.team import DRAIN_S, Client, finish, team
from tests.conformance.hands import rows, until
from tests.crash.harness import Tally, Wrong

pytestmark = pytest.mark.chaos

MAX_RECOVERIES = 10


async def patiently(condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Look for up to a minute."""
    deadline = time.monotonic() + DRAIN_S
    while not await condition():
        if time.monotonic() > deadline:
            raise Wrong(otherwise)
        await asyncio.sleep(0.05)


async def poison(settings: Settings, folder: Path, tally: Tally) -> None:
    async with (
        Client(settings, tally, signals_within_s=0.0) as client,
        team(settings, folder, tally, 3) as workers,
    ):
        await client.poison("bad")

        async def has_ended() -> bool:
            return (await client.store.get_execution("bad")).status.is_final

        async def all_alive() -> bool:
            return all(workers.is_alive(member) for member in workers.members)

        await patiently(has_ended, "the step still kills workers")
        execution = await client.store.get_execution("bad")
        assert execution.status is ExecutionStatus.FAILED
        record = await read_record(client.store, Path(settings.history), lease_s=settings.lease_s)
        end = record.events["bad"][-1]
        assert end.type == "execution.failed" and "taken over" in str(end.value), end
        deaths = sum(line["kind"] == "died" for line in record.history)
        assert deaths == MAX_RECOVERIES + 1, f"{deaths} workers died of it"
        # All three live, have nothing to do, and do what comes next.
        await until(all_alive, "not all of them live")
        assert not await rows(client.store, "SELECT 1 FROM {executions} WHERE owner IS NOT NULL")
        tally.add(workers_poisoned=deaths, dead_letters=1)
        await client.start_plain()
        await finish(client, workers)


def test_a_step_that_kills_its_worker_is_dead_lettered(url: str, folder: Path, tally: Tally) -> None:
    settings = Settings(url=url, history=str(folder / "history.jsonl"))
    asyncio.run(poison(settings, folder, tally))
    tally.require("workers_poisoned", "dead_letters", "executions_checked")


async def block(settings: Settings, folder: Path, tally: Tally) -> None:
    async with (
        Client(settings, tally, signals_within_s=0.0) as client,
        team(settings, folder, tally, 2) as workers,
    ):
        for _ in range(6):
            await client.start_plain()
        await client.block("slow", 3 * settings.lease_s)

        async def has_ended() -> bool:
            return (await client.store.get_execution("slow")).status is ExecutionStatus.COMPLETED

        await patiently(has_ended, "the step still holds its worker")
        await finish(client, workers)
        lines = [line for line in read_history(Path(settings.history)) if line.get("execution") == "slow"]
        runs = sum(line["kind"] == "body" for line in lines)
        # The lease is renewed from a thread of its own: being busy is not being dead.
        assert runs == 1, f"the body ran {runs} times"
        tally.add(loops_blocked=1)


def test_a_step_that_blocks_the_event_loop_loses_nothing(url: str, folder: Path, tally: Tally) -> None:
    settings = Settings(url=url, history=str(folder / "history.jsonl"))
    asyncio.run(block(settings, folder, tally))
    tally.require("loops_blocked", "executions_checked")
