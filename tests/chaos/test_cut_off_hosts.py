"""Workers on three hosts, each of which loses its way to the database for a while, in one direction or both.

A host is a proxy here, so any user can run this; `test_partitions` drops the packets of real ones.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from tests.chaos.program import Settings
from tests.chaos.proxy import Proxy
from tests.chaos.seeds import Seeded
from tests.chaos.team import DRAIN_S, Client, Fault, Team, finish, kill_an_owner, kill_one, storm, team
from tests.crash.harness import Tally

pytestmark = pytest.mark.chaos

HOSTS = 3
FAULTS = {"short": 6, "long": 300}
LEASE_S = 2.0
LONGEST_S = {"short": 2.5, "long": 10.0}
IN_FLIGHT = {"short": 8, "long": 30}


class Hosts:
    """Faults of the way from one host to the database; each heals by itself, in the end after `longest_s`."""

    def __init__(self, proxies: list[Proxy], longest_s: float) -> None:
        self._proxies = proxies
        self._longest_s = longest_s
        self._away: set[Proxy] = set()
        self._healing: set[asyncio.Task[None]] = set()

    async def deaf(self, team: Team, chance: random.Random) -> None:
        """What the database says does not arrive; what the host says does."""
        await self._lose(chance, "down")

    async def mute(self, team: Team, chance: random.Random) -> None:
        """What the host says does not arrive."""
        await self._lose(chance, "up")

    async def apart(self, team: Team, chance: random.Random) -> None:
        """Nothing arrives, and the connections are lost."""
        await self._lose(chance, "up", "down")

    async def late(self, team: Team, chance: random.Random) -> None:
        """Nothing arrives, and then all of it: what was lost was sent again."""
        await self._lose(chance)

    async def _lose(self, chance: random.Random, *directions: str) -> None:
        while len(self._proxies) - len(self._away) < 2:  # one host has to be left that can take over
            await asyncio.wait(self._healing, return_when=asyncio.FIRST_COMPLETED)
        here = [proxy for proxy in self._proxies if proxy not in self._away]
        proxy, lasts_s = chance.choice(here), chance.uniform(0.1, self._longest_s)
        self._away.add(proxy)

        async def heal() -> None:
            with ExitStack() as broken:
                for direction in directions:
                    broken.enter_context(proxy.black_hole(direction))
                if not directions:
                    broken.enter_context(proxy.pause())
                await asyncio.sleep(lasts_s)
            self._away.discard(proxy)

        task = asyncio.create_task(heal())
        self._healing.add(task)
        task.add_done_callback(self._healing.discard)

    async def healed(self) -> None:
        """Wait until every host reaches the database."""
        while self._healing:
            await asyncio.gather(*self._healing)


async def cut_off(
    url: str, folder: Path, tally: Tally, chance: random.Random, scope: str, slowness: float
) -> None:
    proxies = [Proxy(url) for _ in range(HOSTS)]
    history = str(folder / "history.jsonl")
    settings = Settings(url=url, history=history, locks=False, lease_s=LEASE_S * slowness)
    hosts = Hosts(proxies, LONGEST_S[scope] * slowness)
    plan: dict[str, tuple[float, Fault]] = {
        "deaf_hosts": (1.0, hosts.deaf),
        "mute_hosts": (1.0, hosts.mute),
        "hosts_apart": (2.0, hosts.apart),
        "late_hosts": (1.0, hosts.late),
        "kills": (1.0, kill_one),
    }
    async with AsyncExitStack() as stack:
        for proxy in proxies:
            await stack.enter_async_context(proxy.running())
        ways = tuple(proxy.url_for(url) for proxy in proxies)
        client = await stack.enter_async_context(Client(settings, tally))
        workers = await stack.enter_async_context(team(settings, folder, tally, HOSTS, urls=ways))
        over = asyncio.Event()
        supply = asyncio.create_task(client.keep_in_flight(IN_FLIGHT[scope], chance, over))
        await workers.at_work()
        await storm(workers, plan, FAULTS[scope], chance, (0.3 * slowness, 1.0 * slowness))
        await hosts.healed()
        await kill_an_owner(client, workers, chance)
        over.set()
        await supply
        await finish(client, workers, patience_s=DRAIN_S * slowness)
    for proxy in proxies:
        tally.add(**proxy.counts)


def test_a_host_that_is_cut_off_loses_nothing(
    server_url: str, folder: Path, chaos_scope: str, tally: Tally, seeded: Seeded, slowness: float
) -> None:
    with seeded() as chance:
        asyncio.run(cut_off(server_url, folder, tally, chance, chaos_scope, slowness))
    tally.require("black_holes_up", "black_holes_down", "pauses", "takeovers", "executions_checked")
