"""Workers are killed at random and replaced at once while sixty executions are in flight."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.chaos.faults import Breaker
from tests.chaos.judge import percentile, takeover_times
from tests.chaos.program import Settings
from tests.chaos.seeds import Seeded
from tests.chaos.team import POLL_S, Client, Fault, finish, kill_one, storm, team
from tests.crash.harness import Tally, Wrong
from tests.databases import empty_store

pytestmark = pytest.mark.chaos

KILLS = {"short": 60, "long": 2_500}  # long: for each of the two ways on each of the stores
MYSQL_SHORT = 20
IN_FLIGHT = 60


async def kill_for_a_while(
    settings: Settings, folder: Path, tally: Tally, chance: random.Random, kills: int
) -> None:
    breaker = Breaker()
    plan: dict[str, tuple[float, Fault]] = {"kills": (9.0, kill_one), "freezes": (1.0, breaker.freeze)}
    async with Client(settings, tally) as client, team(settings, folder, tally) as workers:
        over = asyncio.Event()
        supply = asyncio.create_task(client.keep_in_flight(IN_FLIGHT, chance, over))
        await storm(workers, plan, kills, chance, (0.2, 1.0))
        await breaker.healed()
        if not tally.counts[
            "zombies_woken"
        ]:  # all that were stopped have been killed before they were let go on
            await breaker.freeze(workers, chance)
            await breaker.healed()
        over.set()
        await supply
        record = await finish(client, workers)
    times = takeover_times(record)
    tally.add(takeover_times_measured=len(times), takeover_p99_ms=round(percentile(times, 0.99) * 1000))
    limit_s = settings.lease_s + 2 * POLL_S
    if percentile(times, 0.99) > limit_s:
        raise Wrong(
            f"takeovers took {percentile(times, 0.99):.1f} s at the 99th percentile, {limit_s} s may be"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A death is known by lock files, or by the lease alone: the short form takes one way for each store."""
    if "shared" in metafunc.fixturenames:
        short = [("sqlite", True), ("postgresql", False), ("mysql", False)]
        is_long = metafunc.config.getoption("--chaos") == "long"
        chosen = [*short, *((store, not locks) for store, locks in short)] if is_long else short
        ids = [f"{store}-{'same-host' if locks else 'other-hosts'}" for store, locks in chosen]
        metafunc.parametrize(("shared", "locks"), chosen, indirect=["shared"], ids=ids)


@pytest.fixture
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of the kind that is asked for."""
    return empty_store(request, tmp_path, is_made=True)


def test_workers_are_killed_at_random(
    shared: str, folder: Path, chaos_scope: str, tally: Tally, seeded: Seeded, locks: bool
) -> None:
    settings = Settings(url=shared, history=str(folder / "history.jsonl"), locks=locks)
    kills = MYSQL_SHORT if chaos_scope == "short" and shared.startswith("mysql") else KILLS[chaos_scope]
    with seeded() as chance:
        asyncio.run(kill_for_a_while(settings, folder, tally, chance, kills))
    tally.require(
        "kills",
        "zombies_woken",
        "executions_checked",
        "signals_checked",
        "takeovers",
        "takeover_times_measured",
    )
