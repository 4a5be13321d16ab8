"""Workers inside a test: real ones, on connections of their own, with the code that the test gives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from holdfast.fleet.claims import Lane, claim_lane, read_claimed
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.offers import Offers
from holdfast.fleet.ownership import Registration
from holdfast.fleet.service import WorkerOptions
from holdfast.fleet.worker import WAITS_HERE_S, Worker
from holdfast.programs import find_program
from holdfast.records.executions import BootId
from holdfast.store.store import Store
from tests.conformance.hands import hand, mark, moment_text, prefixed

POLL = timedelta(milliseconds=50)
NEWEST = 2**31 - 1
"""A schema that no store is ahead of, for claims that are not about that."""


class Hired:
    """A worker at work, its store, and what it returned once it has left."""

    def __init__(self, worker: Worker, launcher: Launcher, task: asyncio.Task[Any]) -> None:
        self.worker = worker
        self.launcher = launcher
        self.store = launcher.store
        self.task = task

    async def leave(self) -> Any:
        """Drain it and wait for its report."""
        self.worker.drain()
        async with asyncio.timeout(20):
            return await self.task


@asynccontextmanager
async def hired(
    url: str,
    *apps: Any,
    lease: timedelta = timedelta(seconds=30),
    waits_here_s: float = WAITS_HERE_S,
    **options: Any,
) -> AsyncIterator[Hired]:
    """A worker with the code of `apps`; `options` are those of `WorkerOptions`."""
    async with (
        hand(url) as store,
        on_store(store, *apps, lease=lease, waits_here_s=waits_here_s, **options) as worker,
    ):
        yield worker


@asynccontextmanager
async def on_store(
    store: Store, *apps: Any, lease: timedelta, waits_here_s: float, **options: Any
) -> AsyncIterator[Hired]:
    """The same on a store that is open already."""
    offers = Offers(apps)

    async def find(name: str, version: str | None, asking: Any) -> Any:
        return offers.find(name, version) or await find_program(store, name, version, asking)

    launcher = Launcher(
        store, load=offers.load, find=find, lease=lease, sleep_max_s=waits_here_s, program="worker"
    )
    await launcher.open()
    worker = Worker(launcher, WorkerOptions(**{"poll": POLL, **options}), offers)
    task = asyncio.get_running_loop().create_task(worker.run())
    try:
        yield Hired(worker, launcher, task)
    finally:
        worker.drain()
        task.cancel()
        await asyncio.wait([task])
        await launcher.close()


async def present(store: Store, boot: BootId) -> None:
    """Register an owner that nobody renews, for a year: some tests shift the clock."""
    lease: Any = timedelta(days=365)
    if store.driver.dialect != "postgresql":
        lease = round(lease / timedelta(microseconds=1))
    await store.driver.fetch("workers.register", boot, "worker", "here", 1, lease)


class Ghost:
    """An owner on another host that has stopped renewing: no lock file tells of it."""

    def __init__(self, store: Store, lease: timedelta) -> None:
        self.store = store
        self.registration = Registration(store, lease=lease, program="worker")
        self.registration._folder = None

    async def appear(self) -> None:
        await self.registration.start()
        self.registration._stopping.set()

    async def claim(self, queue: str = "default", limit: int = 100) -> list[Any]:
        lane = Lane(queue, "io", self.store.tenant)
        rows = await claim_lane(self.store, self.registration.boot, lane, limit, schema=NEWEST)
        return await read_claimed(self.store, rows)

    async def vanish(self) -> None:
        """Let its lease be over by the database's clock."""
        boot = self.registration.boot
        past, workers = moment_text(self.store, 1), prefixed(self.store, "workers")
        text = f"UPDATE {workers} SET lease_until = {past} WHERE boot_id = {mark(self.store, 1)}"
        await self.store.driver.fetch_text(text, boot)
