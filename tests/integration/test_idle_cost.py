"""What workers cost that have nothing to do."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import holdfast as hf
from holdfast.store.hints import Hints
from holdfast.store.store import Store
from scripts import postgres
from tests.conformance.fleets import hired
from tests.conformance.hands import hand

pytestmark = pytest.mark.anyio

PROCESSES, WORKERS_EACH, QUEUES = 5, 10, 100
SETTLING_S = 3.0
WINDOW_S = 10.0
MOST_QUERIES_PER_S = 50
ROOT = Path(__file__).parents[2]


class Server:
    """A server that nobody else asks anything, and that writes down every statement."""

    def __init__(self, cluster: postgres.Cluster) -> None:
        self.url = cluster.url
        self._log = Path(cluster.directory, "log")

    async def write_everything_down(self) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()

    async def statements(self, seconds: float) -> Counter[str]:
        """What it is asked in this time, by the first words. Its own counters are up to ten seconds late."""
        with self._log.open() as log:
            log.seek(0, os.SEEK_END)
            await asyncio.sleep(seconds)
            return Counter(found[1] for found in _STATEMENT.finditer(log.read()))


_STATEMENT = re.compile(r"LOG:  (?:statement|execute \S+): (\S+ \S+)")


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of our own; it takes the connections of fifty workers."""
    programs = postgres.programs()
    assert programs is not None, "initdb and pg_ctl are needed: apt-get install postgresql"
    cluster, record = postgres.start_private(programs, keep=False)
    try:
        yield Server(cluster)
    finally:
        postgres.release(cluster, record)


@asynccontextmanager
async def idle_processes(url: str, folder: Path) -> AsyncIterator[None]:
    """Fifty workers. `folder` is for their lock files: those of other processes here are looked after too."""
    environ = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.idle_workers", url, str(WORKERS_EACH), str(QUEUES),
            cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert (await asyncio.wait_for(process.stdout.readline(), 60)).strip() == b"idle"
        yield
    finally:
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
        await asyncio.wait_for(asyncio.gather(*(process.wait() for process in processes)), 60)


async def test_fifty_idle_workers_cost_under_fifty_queries_a_second(
    own_server: Server, tmp_path: Path
) -> None:
    async with hand(own_server.url) as store:  # makes the tables
        await own_server.write_everything_down()
        async with idle_processes(own_server.url, tmp_path):
            await asyncio.sleep(SETTLING_S)
            asked = await own_server.statements(WINDOW_S)
            workers = (await store.driver.fetch_text("SELECT count(*) FROM holdfast.workers"))[0][0]
            sessions = (await store.driver.fetch_text(_SESSIONS))[0][0]
    rate = asked.total() / WINDOW_S
    parts = ", ".join(f"{words} {count / WINDOW_S:.1f}" for words, count in asked.most_common())
    print(
        f"\n{workers} idle workers, {QUEUES} queues: {rate:.1f} queries/s ({parts}), {sessions} connections"
    )
    assert workers == PROCESSES * WORKERS_EACH
    # Counted at all: every worker looks about every two seconds.
    assert workers / 4 < rate < MOST_QUERIES_PER_S


async def test_an_open_store_that_nobody_uses_costs_under_a_query_a_second(own_server: Server) -> None:
    async with hand(own_server.url) as store:
        await own_server.write_everything_down()
        await store.counts()
        # Counted at all: a statement a second would be seen.
        pulse = asyncio.create_task(_ask_every_second(store))
        assert (await own_server.statements(SETTLING_S)).total() >= SETTLING_S - 1
        pulse.cancel()
        before = sum(each.count for each in store.figures().statements)
        asked = await own_server.statements(WINDOW_S)
        after = sum(each.count for each in store.figures().statements)
    print(f"\nan idle store: {asked.total() / WINDOW_S:.2f} queries/s")
    assert asked.total() / WINDOW_S < 1
    assert after - before == 0


async def _ask_every_second(store: Store) -> None:
    while True:
        await store.counts()
        await asyncio.sleep(0.9)


_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"


def greeting(url: str) -> tuple[hf.App, Any]:
    app = hf.App(url)

    @app.workflow
    async def greet(name: str) -> str:
        return f"hello {name}"

    return app, greet


async def test_work_is_done_with_no_listen_at_all(fresh_postgres: str) -> None:
    """Hints off on both sides: the poll finds the work."""
    theirs, _ = greeting(fresh_postgres)
    ours, greet = greeting(fresh_postgres)
    async with ours, hired(fresh_postgres, theirs) as worker, asyncio.timeout(30):
        await worker.store.hints.close()
        ours.store.hints = Hints(None)
        handle = await greet.options(id="x").enqueue("you")
        assert await handle == "hello you"
        beside = await asyncpg.connect(fresh_postgres)
        assert await beside.fetchval(_LISTENERS) == 0
        await beside.close()


_LISTENERS = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'LISTEN%'"""
