"""What can be done to a team and its database. Each fault heals by itself; `healed` waits for that."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Coroutine
from typing import Any, Literal

from tests.chaos.proxy import Place, Proxy
from tests.chaos.servers import Server, end_sessions
from tests.chaos.team import Team

PLACES = (Place.BEFORE, Place.SENT, Place.REPLIED)
_SESSIONS = 6
_CUT_WITHIN_S = 60.0


class Breaker:
    """Faults that need a database, a proxy or time; each method is a `Fault`."""

    def __init__(self, *, proxy: Proxy | None = None, server: Server | None = None) -> None:
        self._proxy = proxy
        self._server = server
        self._healing: set[asyncio.Task[None]] = set()
        self._restarting = asyncio.Lock()

    async def healed(self) -> None:
        """Wait until everything that was broken works again."""
        while self._healing:
            await asyncio.gather(*self._healing)

    async def cut_as_planned(self) -> None:
        """Wait until every cut that is planned was made; somebody has to go on writing."""
        assert self._proxy is not None
        async with asyncio.timeout(_CUT_WITHIN_S):
            while self._proxy.pending:  # noqa: ASYNC110 - the proxy does not tell
                await asyncio.sleep(0.02)

    def _later(self, healing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(healing)
        self._healing.add(task)
        task.add_done_callback(self._healing.discard)

    # Processes.

    async def freeze(self, team: Team, chance: random.Random) -> None:
        """Stop a worker for longer than its lease, and let it go on as if nothing had happened."""
        standing = [member for member in team.members if not member.stopped]
        if len(standing) < 2:
            return  # somebody has to be left who can take over
        member = chance.choice(standing)
        pid = member.pid
        if not team.kill(member, signal.SIGSTOP):
            return

        async def wake() -> None:
            await asyncio.sleep(team.settings.lease_s * chance.uniform(1.2, 2.0))
            if member.pid == pid and team.kill(member, signal.SIGCONT):
                team.tally.add(zombies_woken=1)

        self._later(wake())

    # Connections.

    async def end_sessions(self, team: Team, chance: random.Random) -> None:
        """The server ends some of the workers' sessions, whatever they are in the middle of."""
        assert self._server is not None
        team.tally.add(sessions_ended=await end_sessions(self._server.url, chance, _SESSIONS))

    async def cut_commits(self, team: Team, chance: random.Random) -> None:
        """Cut the next connections that make something durable: before, while, or after they do."""
        assert self._proxy is not None
        for place in chance.sample(PLACES, k=len(PLACES)):
            self._proxy.cut_next(place)

    async def black_hole(self, team: Team, chance: random.Random) -> None:
        """One direction swallows everything for a while."""
        assert self._proxy is not None
        proxy = self._proxy
        direction = chance.choice(("up", "down"))

        async def swallow() -> None:
            with proxy.black_hole(direction):
                await asyncio.sleep(chance.uniform(0.2, 1.5 * team.settings.lease_s))

        self._later(swallow())

    async def pause(self, team: Team, chance: random.Random) -> None:
        """Nothing moves for a while, and then all of it."""
        assert self._proxy is not None
        proxy = self._proxy

        async def hold() -> None:
            with proxy.pause():
                await asyncio.sleep(chance.uniform(0.2, 1.5 * team.settings.lease_s))

        self._later(hold())

    async def cut_all(self, team: Team, chance: random.Random) -> None:
        """Every connection breaks at once, and none is accepted for a moment."""
        assert self._proxy is not None
        with self._proxy.refuse():
            self._proxy.cut_all()
            await asyncio.sleep(chance.uniform(0.0, 0.5))

    # The server.

    async def restart_fast(self, team: Team, chance: random.Random) -> None:
        """The server ends all sessions and starts again."""
        await self._restart("fast")

    async def restart_immediate(self, team: Team, chance: random.Random) -> None:
        """The server dies at once and recovers from its log."""
        await self._restart("immediate")

    async def _restart(self, mode: Literal["fast", "immediate"]) -> None:
        assert self._server is not None
        async with self._restarting:
            await asyncio.to_thread(self._server.restart, mode)
