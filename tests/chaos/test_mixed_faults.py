"""Everything at once: kills, frozen workers, broken connections and restarts of the database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scripts import postgres
from tests.chaos.faults import Breaker
from tests.chaos.program import Settings
from tests.chaos.proxy import Proxy
from tests.chaos.seeds import Seeded
from tests.chaos.team import Client, Fault, finish, kill_one, storm, team
from tests.crash.harness import Tally

pytestmark = pytest.mark.chaos

FAULTS = {"short": 45, "long": 3_000}
IN_FLIGHT = 30


@pytest.fixture
def cluster() -> Iterator[postgres.Cluster]:
    """A server of our own, so that it can be restarted."""
    programs = postgres.programs()
    assert programs is not None, "initdb and pg_ctl are needed: apt-get install postgresql"
    made, record = postgres.start_private(programs, keep=False)
    yield made
    postgres.release(made, record)


async def break_everything(
    cluster: postgres.Cluster, folder: Path, tally: Tally, chance: random.Random, faults: int
) -> None:
    server = urlsplit(cluster.url)
    proxy = Proxy(str(server.hostname), int(server.port or 0))
    async with proxy.running():
        settings = Settings(url=proxy.url_for(cluster.url), history=str(folder / "history.jsonl"))
        breaker = Breaker(url=cluster.url, proxy=proxy, cluster=cluster)
        plan: dict[str, tuple[float, Fault]] = {
            "kills": (5.0, kill_one),
            "freezes": (2.0, breaker.freeze),
            "session_ends": (3.0, breaker.end_sessions),
            "commit_cuts_planned": (5.0, breaker.cut_commits),
            "black_holes": (1.0, breaker.black_hole),
            "pauses": (1.0, breaker.pause),
            "cuts_of_everything": (1.0, breaker.cut_all),
            "fast_restarts": (0.7, breaker.restart_fast),
            "immediate_restarts": (0.7, breaker.restart_immediate),
        }
        async with Client(settings, tally) as client, team(settings, folder, tally) as workers:
            over = asyncio.Event()
            supply = asyncio.create_task(client.keep_in_flight(IN_FLIGHT, chance, over))
            await storm(workers, plan, faults, chance, (0.2, 1.0))
            over.set()
            await supply
            await breaker.healed()
            proxy.forget_plans()
            await finish(client, workers, watched=cluster.url)
    tally.add(busiest_second_of_connections=proxy.busiest_second(), **proxy.counts)


def test_everything_breaks(
    cluster: postgres.Cluster, folder: Path, chaos_scope: str, tally: Tally, seeded: Seeded
) -> None:
    with seeded() as chance:
        asyncio.run(break_everything(cluster, folder, tally, chance, FAULTS[chaos_scope]))
    tally.require("kills", "zombies_woken", "sessions_ended", "executions_checked", "takeovers")
    tally.require("cuts_before", "cuts_sent", "cuts_replied", "fast_restarts", "immediate_restarts")
