"""Connections that break where something becomes durable: before, while, and after it does."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.chaos.faults import PLACES
from tests.chaos.judge import read_history
from tests.chaos.program import Settings
from tests.chaos.proxy import Proxy
from tests.chaos.seeds import Seeded
from tests.chaos.team import Client, finish, team
from tests.crash.harness import Tally, Wrong

pytestmark = pytest.mark.chaos

CUTS = {"short": 100, "long": 10_000}
MYSQL_SHORT = 30
STATEMENT_TIMEOUT_S = 5
NOTICED_WITHIN_S = 15.0


async def cut_commits(url: str, folder: Path, tally: Tally, chance: random.Random, cuts: int) -> None:
    proxy = Proxy(url)
    async with proxy.running():
        settings = Settings(url=proxy.url_for(url), history=str(folder / "history.jsonl"))
        async with Client(settings, tally) as client, team(settings, folder, tally, 2) as workers:
            while sum(proxy.counts[f"cuts_{place}"] for place in PLACES) < cuts:
                proxy.cut_next(chance.choice(PLACES))
                await client.start(chance)
                # A connection that was cut takes a moment to come back: otherwise only starts would be cut.
                await asyncio.sleep(chance.uniform(0.0, 0.2))
            proxy.forget_plans()
            await finish(client, workers, watched=url)
    tally.add(**proxy.counts)


def test_a_commit_that_is_cut_off_counts_once(
    server_url: str, folder: Path, chaos_scope: str, tally: Tally, seeded: Seeded
) -> None:
    cuts = MYSQL_SHORT if chaos_scope == "short" and server_url.startswith("mysql") else CUTS[chaos_scope]
    with seeded() as chance:
        asyncio.run(cut_commits(server_url, folder, tally, chance, cuts))
    tally.require("cuts_before", "cuts_sent", "cuts_replied", "cuts_at_flush", "executions_checked")


async def go_silent(url: str, folder: Path, tally: Tally, chance: random.Random) -> None:
    """Every connection becomes half-open: nothing arrives on it, and nobody says so."""
    proxy = Proxy(url)
    async with proxy.running():
        history = str(folder / "history.jsonl")
        hurried = {"storage.statement_timeout": f"{STATEMENT_TIMEOUT_S}s"}
        settings = Settings(url=proxy.url_for(url), history=history, extra=hurried)
        direct = Settings(url=url, history=history)
        async with Client(direct, tally) as client, team(settings, folder, tally, 2) as workers:
            for _ in range(8):
                await client.start(chance)
            await asyncio.sleep(1.0)  # they are in the middle of it
            tally.add(half_open_connections=proxy.go_silent())
            await finish(client, workers, watched=url, patience_s=STATEMENT_TIMEOUT_S + NOTICED_WITHIN_S)


def test_half_open_connections_hold_nothing_up(
    server_url: str, folder: Path, tally: Tally, seeded: Seeded
) -> None:
    with seeded() as chance:
        asyncio.run(go_silent(server_url, folder, tally, chance))
    tally.require("half_open_connections", "executions_checked")


async def refuse(url: str, folder: Path, tally: Tally, chance: random.Random) -> None:
    """All connections break at once and none is accepted for a while; then everybody comes back."""
    proxy, workers_at_all, budget = Proxy(url), 4, 40
    async with proxy.running():
        settings = Settings(url=proxy.url_for(url), history=str(folder / "history.jsonl"))
        direct = Settings(url=url, history=settings.history)
        async with Client(direct, tally) as client, team(settings, folder, tally, workers_at_all) as workers:
            for _ in range(20):
                await client.start(chance)
            await asyncio.sleep(1.0)
            began = time.monotonic()
            with proxy.refuse():
                proxy.cut_all()
                await asyncio.sleep(5.0)
            await finish(client, workers, watched=url)
            attempts = proxy.busiest_second(began)
    tally.add(attempts_in_the_busiest_second=attempts, **proxy.counts)
    if attempts > budget:
        raise Wrong(
            f"{workers_at_all} workers asked for {attempts} connections in one second, {budget} may be"
        )
    ended = [
        line for line in read_history(Path(settings.history)) if line["kind"] == "died" and line["status"]
    ]
    if ended:
        raise Wrong(f"workers ended because the database was away: {ended}")


def test_coming_back_is_no_stampede(server_url: str, folder: Path, tally: Tally, seeded: Seeded) -> None:
    with seeded() as chance:
        asyncio.run(refuse(server_url, folder, tally, chance))
    tally.require("refused", "executions_checked")
