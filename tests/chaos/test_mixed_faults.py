"""Everything at once: kills, frozen workers, broken connections and restarts of the database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chaos.faults import Breaker
from tests.chaos.program import Settings
from tests.chaos.proxy import Proxy
from tests.chaos.seeds import Seeded
from tests.chaos.servers import KINDS, Server, server_of_our_own
from tests.chaos.team import DRAIN_S, Client, Fault, Team, finish, kill_an_owner, kill_one, storm, team
from tests.crash.harness import Tally

pytestmark = pytest.mark.chaos


class Size(NamedTuple):
    """How much there is of what."""

    faults: int
    in_flight: int


SIZES = {"short": Size(45, 30), "long": Size(3_000, 30)}
MYSQL_SHORT = Size(14, 12)
LEASE_S = 2.0


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of our own, so that it can be restarted."""
    with server_of_our_own(request.param) as made:
        yield made


async def break_everything(
    server: Server, folder: Path, tally: Tally, chance: random.Random, size: Size, slowness: float
) -> None:
    proxy = Proxy(server.url)
    async with proxy.running():
        history = str(folder / "history.jsonl")
        settings = Settings(url=proxy.url_for(server.url), history=history, lease_s=LEASE_S * slowness)
        breaker = Breaker(proxy=proxy, server=server)
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
            supply = asyncio.create_task(client.keep_in_flight(size.in_flight, chance, over))
            await workers.at_work()
            await storm(workers, plan, size.faults, chance, (0.2 * slowness, 1.0 * slowness))
            await breaker.healed()
            await make_up(breaker, client, workers, chance)
            over.set()
            await supply
            await finish(client, workers, watched=server.url, patience_s=DRAIN_S * slowness)
    tally.add(busiest_second_of_connections=proxy.busiest_second(), **proxy.counts)


async def make_up(breaker: Breaker, client: Client, workers: Team, chance: random.Random) -> None:
    """What a short storm may have kept from having any effect comes once more, undisturbed."""
    await kill_an_owner(client, workers, chance)
    if not workers.tally.counts["zombies_woken"]:
        await breaker.freeze(workers, chance)
        await breaker.healed()
    if not workers.tally.counts["sessions_ended"]:
        await breaker.end_sessions(workers, chance)
    await breaker.cut_as_planned()


def test_everything_breaks(
    server: Server, folder: Path, chaos_scope: str, tally: Tally, seeded: Seeded, slowness: float
) -> None:
    is_few = chaos_scope == "short" and server.kind == "mysql"
    size = MYSQL_SHORT if is_few else SIZES[chaos_scope]
    with seeded() as chance:
        asyncio.run(break_everything(server, folder, tally, chance, size, slowness))
    tally.require("kills", "zombies_woken", "sessions_ended", "executions_checked", "takeovers")
    tally.require("cuts_before", "cuts_sent", "cuts_replied", "fast_restarts", "immediate_restarts")
