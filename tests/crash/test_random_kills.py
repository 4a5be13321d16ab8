"""Processes that share a store are killed at random while a hundred executions run, until all are done."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from holdfast.stores import config_for, open_store
from scripts import mariadb
from tests.conformance.hands import take_over
from tests.crash.harness import (
    Tally,
    Wrong,
    await_state,
    command,
    database_of,
    finish,
    go_on,
    judge,
    make_store,
    read_ledger,
    rerun,
    seed_of_today,
    start,
)
from tests.databases import empty_store

pytestmark = pytest.mark.crash

EXECUTIONS = 100
PROCESSES = {"sqlite": 3, "postgresql": 3, "mysql": 3, "file": 1}  # the file backend is for one process
KILLS = {"sample": 8, "all": 60}
DRAIN_S = 60.0


def made(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found = empty_store(request, tmp_path, is_made=True)
    make_store(found, tmp_path / "none.jsonl")
    return found


@pytest.fixture(params=[*PROCESSES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store."""
    return made(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store that another process can open while one stands still."""
    return made(request, tmp_path)


def work(url: str, ledger: Path, rest_s: float) -> subprocess.Popen[bytes]:
    """One process that starts or goes on with every execution, in an order of its own, 12 at a time."""
    return start(command(url, ledger, f"x*{EXECUTIONS}", rest=rest_s, at_once=12))


def kill_at_random(url: str, ledger: Path, kills: int, chance: random.Random, tally: Tally) -> None:
    """Kill one of the processes every now and then and start another; return when all have ended well."""
    rest_s = 0.02 * kills / KILLS["sample"]  # long enough for every kill to find something running
    team = [work(url, ledger, rest_s) for _ in range(PROCESSES[urlsplit(url).scheme])]
    try:
        for _ in range(kills):
            if len(team) == 1:
                await_work(team[0], ledger)  # nobody else does any while it starts
            pause_s = chance.uniform(0.2, 0.8)
            with contextlib.suppress(subprocess.TimeoutExpired):
                team[-1].wait(pause_s)  # or for as long as it takes it to end
            place = chance.randrange(len(team))
            victim = team[place]
            if victim.poll() is None:
                victim.send_signal(signal.SIGKILL)
                tally.add(kills=1)
            elif victim.returncode:
                finish(victim)
            victim.communicate()
            team[place] = work(url, ledger, rest_s)
        deadline = time.monotonic() + DRAIN_S
        for process in team:
            finish(process)
        if time.monotonic() > deadline:
            raise Wrong("the executions did not drain within a minute")
    finally:
        for process in team:
            if process.poll() is None:
                process.kill()
                process.communicate()


def await_work(process: subprocess.Popen[bytes], ledger: Path) -> None:
    """Wait until a process has begun to work, or has ended."""
    before, deadline = len(read_ledger(ledger)), time.monotonic() + DRAIN_S
    while process.poll() is None and len(read_ledger(ledger)) == before:
        if time.monotonic() > deadline:
            raise Wrong("the process does not begin to work")
        time.sleep(0.01)


def test_random_kills_lose_nothing(
    url: str, ledgers: Path, crash_scope: str, tally: Tally, request: pytest.FixtureRequest
) -> None:
    seed = seed_of_today()
    ledger = ledgers / "ledger.jsonl"
    ids = [f"x{n}" for n in range(EXECUTIONS)]
    try:
        kill_at_random(url, ledger, KILLS[crash_scope], random.Random(f"{seed}{url[:6]}"), tally)
        tally.add(acknowledged_results_checked=judge(url, ledger, ids, finished=True))
    except Wrong as wrong:
        again = rerun("random_kills", seed=seed, scope=crash_scope)
        pytest.fail(f"{request.node.name}: {wrong}\nagain: {again}", pytrace=False)
    bodies = sum(kind == "body" for kind, *_ in read_ledger(ledger))
    tally.add(bodies_interrupted=bodies - 11 * EXECUTIONS)  # one body of each execution fails by design
    tally.require("kills", "acknowledged_results_checked", "bodies_interrupted")


# A process that was taken for dead and was not.


def overtake(url: str, ledger: Path, tally: Tally, *, moment: str, **options: object) -> None:
    """Stop a process inside a step, let its lease run out, take its execution over, and let it go on.

    It goes on when the takeover is committed and nothing more, or when its work was finished elsewhere. A
    body may still run before the late process notices; but nothing it does is acknowledged to its caller or
    to be seen in the store. Raises `Wrong` otherwise.
    """
    late = start(command(url, ledger, "x", stop_at="fan2", **options))
    try:
        await_state(late.pid, "T")
        end_leases(url)
        if moment == "finished":
            go_on(url, ledger, "x")
        else:
            asyncio.run(take(url, "x"))
        before, lines = store_digest(url), len(read_ledger(ledger))
        tally.add(owners_overtaken=1)
        late.send_signal(signal.SIGCONT)
        late.communicate(timeout=30)
        if not late.returncode:
            raise Wrong("the overtaken process ended as if nothing had happened")
        if told := [line for line in read_ledger(ledger)[lines:] if line[0] != "body"]:
            raise Wrong(f"the overtaken process was told {told}")
        if store_digest(url) != before:
            raise Wrong("the overtaken process wrote into the log")
        if moment == "taken":
            go_on(url, ledger, "x")
        checked = judge(url, ledger, ["x"], finished=True, lines=lines if moment == "finished" else None)
        tally.add(acknowledged_results_checked=checked)
    except subprocess.TimeoutExpired:
        raise Wrong("the overtaken process did not stop") from None
    finally:
        if late.poll() is None:
            late.kill()
            late.communicate()


async def take(url: str, id: str) -> None:
    """Take an execution over and die before anything else is written."""
    async with open_store(config_for(url)) as store:
        await take_over(store, (await store.get_execution(id)).key)


def end_leases(url: str) -> None:
    """What time does to the lease of a process that stands still."""
    query(url, f"UPDATE {schema_of(url)}workers SET lease_until = {PAST[urlsplit(url).scheme]}")


def store_digest(url: str) -> list[tuple[object, ...]]:
    """The whole log."""
    return query(url, f"SELECT execution, seq, epoch, type, path FROM {schema_of(url)}events ORDER BY 1, 2")


PAST = {
    "sqlite": "1",
    "postgresql": "now() - interval '1 s'",
    "mysql": "UTC_TIMESTAMP(6) - INTERVAL 1 SECOND",
}


def schema_of(url: str) -> str:
    return "holdfast." if url.startswith("postgresql") else ""


def query(url: str, text: str) -> list[tuple[object, ...]]:
    """Ask the database without the library."""
    if (path := database_of(url)) is not None:
        import apsw

        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(5000)
        found = connection.execute(text).fetchall()
        connection.close()
        return list(found)
    return asyncio.run(query_mysql(url, text) if url.startswith("mysql") else query_postgresql(url, text))


async def query_postgresql(url: str, text: str) -> list[tuple[object, ...]]:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(text)]
    finally:
        await connection.close()


async def query_mysql(url: str, text: str) -> list[tuple[object, ...]]:
    async def run(cursor: Any) -> list[tuple[object, ...]]:
        await cursor.execute(text)
        return list(await cursor.fetchall())

    return await mariadb.asking(url, run)


@pytest.mark.parametrize("moment", ["taken", "finished"])
def test_an_overtaken_process_changes_nothing(shared: str, ledgers: Path, tally: Tally, moment: str) -> None:
    overtake(shared, ledgers / "ledger.jsonl", tally, moment=moment)
    tally.require("owners_overtaken", "acknowledged_results_checked")


@pytest.mark.parametrize("plant", ["epoch-not-compared", "fence-removed"])
def test_an_overtaken_process_without_a_fence_is_caught(
    shared: str, ledgers: Path, tally: Tally, plant: str
) -> None:
    with pytest.raises(Wrong, match="overtaken process"):
        overtake(shared, ledgers / "ledger.jsonl", tally, moment="taken", plant=plant)
    tally.add(plants_caught=1)
