"""Workers on three hosts, and a network that loses all packets of one of them for a while. Long form only."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.network import Hosts, NoNetwork, hosts
from tests.chaos.program import Settings
from tests.chaos.seeds import Seeded
from tests.chaos.servers import KINDS, Server, server_of_our_own
from tests.chaos.team import DRAIN_S, Client, Fault, Team, finish, kill_one, storm, team
from tests.crash.harness import Tally, Wrong

pytestmark = pytest.mark.chaos

HOSTS = 3
PARTITIONS = 60
LASTS_S = (0.1, 30.0)
NOTICED_WITHIN_S = 15.0
LEASE_S = 2.0
IN_FLIGHT = 30


@pytest.fixture
def three() -> Iterator[Hosts]:
    """Three hosts."""
    try:
        with hosts(HOSTS) as made:
            yield made
    except NoNetwork as problem:
        pytest.fail(str(problem), pytrace=False)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, three: Hosts) -> Iterator[Server]:
    """A server that listens on the bridge and nowhere else."""
    with server_of_our_own(request.param, address=three.address, network=three.subnet) as made:
        yield made


class Partitions:
    """Faults of the network; each heals by itself."""

    def __init__(self, network: Hosts, tally: Tally) -> None:
        self._network = network
        self._tally = tally
        self._healing: set[asyncio.Task[None]] = set()
        self._cut: set[int] = set()

    async def partition(self, team: Team, chance: random.Random) -> None:
        """One host loses its packets: all of them, or those of one direction."""
        standing = [number for number in range(HOSTS) if number not in self._cut]
        if len(standing) < 2:
            return  # one host has to be left that can take over
        number, ways = chance.choice(standing), chance.choice(((True, True), (True, False), (False, True)))
        self._cut.add(number)
        await asyncio.to_thread(self._network.cut, number, inward=ways[0], outward=ways[1])
        team.history.note("partitioned", host=number)
        self._tally.add(one_way_partitions=int(ways != (True, True)))

        async def heal() -> None:
            await asyncio.sleep(
                chance.uniform(*LASTS_S) if chance.random() < 0.3 else chance.uniform(0.1, 6.0)
            )
            await asyncio.to_thread(self._network.join, number)
            team.history.note("joined", host=number)
            self._cut.discard(number)

        task = asyncio.create_task(heal())
        self._healing.add(task)
        task.add_done_callback(self._healing.discard)

    async def healed(self) -> None:
        """Wait until the network is whole."""
        while self._healing:
            await asyncio.gather(*self._healing)


def settings_for(server: Server, folder: Path, slowness: float) -> Settings:
    # Between the hosts of one machine there is nobody who could listen.
    history = str(folder / "history.jsonl")
    plain = {f"storage.{server.kind}.ssl.mode": "disable"}
    return Settings(url=server.url, history=history, locks=False, extra=plain, lease_s=LEASE_S * slowness)


async def break_the_network(
    network: Hosts, settings: Settings, folder: Path, tally: Tally, chance: random.Random
) -> None:
    faults = Partitions(network, tally)
    plan: dict[str, tuple[float, Fault]] = {"partitions": (3.0, faults.partition), "kills": (1.0, kill_one)}
    asking, working = (
        Client(settings, tally),
        team(settings, folder, tally, 2 * HOSTS, prefixes=network.prefixes),
    )
    async with asking as client, working as workers:
        over = asyncio.Event()
        supply = asyncio.create_task(client.keep_in_flight(IN_FLIGHT, chance, over))
        await workers.at_work()
        await storm(workers, plan, PARTITIONS, chance, (0.5, 4.0))
        over.set()
        await supply
        await faults.healed()
        await finish(client, workers, patience_s=DRAIN_S * settings.lease_s / LEASE_S)


def test_partitions_lose_nothing(
    three: Hosts, server: Server, folder: Path, tally: Tally, seeded: Seeded, slowness: float
) -> None:
    with seeded() as chance:
        asyncio.run(break_the_network(three, settings_for(server, folder, slowness), folder, tally, chance))
    tally.require("partitions", "one_way_partitions", "kills", "takeovers", "executions_checked")


async def notice(
    network: Hosts, settings: Settings, folder: Path, tally: Tally, chance: random.Random
) -> None:
    asking, working = Client(settings, tally), team(settings, folder, tally, HOSTS, prefixes=network.prefixes)
    async with asking as client, working as workers:
        for _ in range(12):
            await client.start(chance)
        await workers.at_work()
        await asyncio.sleep(2.0)  # they are in the middle of it
        had = len(network.connections(0))
        network.cut(0)
        began = time.monotonic()
        while left := network.connections(0):
            if time.monotonic() - began > NOTICED_WITHIN_S:
                held = "; ".join(left)
                raise Wrong(f"of {had} dead connections these are held on to: {held}")
            await asyncio.sleep(0.2)
        tally.add(half_open_noticed_ms=round((time.monotonic() - began) * 1000), half_open=had)
        network.join(0)
        await finish(client, workers, patience_s=DRAIN_S * settings.lease_s / LEASE_S)


def test_half_open_connections_are_noticed(
    three: Hosts, server: Server, folder: Path, tally: Tally, seeded: Seeded, slowness: float
) -> None:
    with seeded() as chance:
        asyncio.run(notice(three, settings_for(server, folder, slowness), folder, tally, chance))
    tally.require("half_open", "executions_checked")
