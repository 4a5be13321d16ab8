"""Executions with children are cancelled at random from another process's point of view, while they run.

Whatever the moment, what the caller was told is what the store says, and nothing is left behind as running:
not the execution, and no child of it.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import holdfast as hf
from holdfast.errors import ExecutionCancelled, ExecutionFailed, NotResumable
from holdfast.records.executions import ExecutionStatus
from tests.crash.harness import PATIENCE_S, Tally, rerun, seed_of_today
from tests.databases import empty_store

pytestmark = pytest.mark.crash

EXECUTIONS = {"sample": 80, "all": 600}
AT_ONCE = 80


def program(url: str, chance: random.Random) -> tuple[hf.App, Any]:
    app = hf.App(url)

    @app.step(max_attempts=3, backoff="1ms")
    async def work(n: int) -> int:
        await asyncio.sleep(chance.uniform(0, 0.02))
        if chance.random() < 0.1:
            raise ConnectionError("try again")
        return n

    @app.workflow
    async def inner(n: int) -> int:
        return await work(n) + await work(n)

    @app.workflow
    async def outer(n: int) -> int:
        parts = await hf.gather(work(1), work(2), inner(n))
        await hf.sleep("5ms")
        return sum(parts) + await inner(4) + await work(5)

    return app, outer


async def cancel_at_random(url: str, count: int, chance: random.Random, tally: Tally) -> list[str]:
    """Run `count` executions by one app, cancel half of them by another; what was wrong."""
    (mine, outer), (theirs, _outer) = program(url, chance), program(url, chance)
    wrong: list[str] = []
    limit = asyncio.Semaphore(AT_ONCE)

    async def cancel(id: str) -> None:
        await asyncio.sleep(chance.uniform(0, 0.2))
        try:
            await (await theirs.handle(id)).cancel("at random")
        except NotResumable:
            tally.add(cancellations_too_late=1)

    async def one(number: int) -> None:
        id = f"x{number}"
        async with limit:
            handle = await outer.options(id=id).start(number)
            canceller = asyncio.ensure_future(cancel(id)) if number % 2 else None
            told = ExecutionStatus.COMPLETED
            try:
                await handle
            except ExecutionCancelled:
                told = ExecutionStatus.CANCELLED
                tally.add(cancellations=1)
            except ExecutionFailed:
                told = ExecutionStatus.FAILED
            if canceller is not None:
                await canceller
            if (stands := await handle.status()) is not told:
                wrong.append(f"{id}: its caller was told {told}, the store says {stands}")

    async with mine, theirs, asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*[one(number) for number in range(count)])
        for check in ("events.gaps", "events.orphans", "events.ends"):
            wrong += [
                f"{check}: {tuple(row)}" for row in await mine.store.driver.fetch(check, mine.store.tenant)
            ]
    async with mine:
        left = {
            status: n
            for status, n in (await mine.store.counts()).items()
            if not ExecutionStatus(status).is_final
        }
    return [*wrong, *[f"{n} executions were left behind as {status}" for status, n in left.items()]]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store that two apps can open."""
    return empty_store(request, tmp_path, is_made=True)


def test_random_cancellations_leave_nothing_behind(url: str, crash_scope: str, tally: Tally) -> None:
    kind = urlsplit(url).scheme
    seed = seed_of_today()
    chance = random.Random(f"{seed}{kind}")
    wrong = asyncio.run(cancel_at_random(url, EXECUTIONS[crash_scope], chance, tally))
    if wrong:
        again = rerun(f"random_cancellations and {kind}", seed=seed, scope=crash_scope)
        pytest.fail("\n".join([*wrong, f"again: {again}"]), pytrace=False)
    tally.require("cancellations")
