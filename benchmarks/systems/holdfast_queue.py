"""Holdfast's queues: executions of a workflow without steps, enqueued by an app, run by one worker.

What only has to be there is copied from two executions that Holdfast wrote itself, one that waits and one
that a worker finished: the row, its details and its events, with keys, ids and fingerprints of their own.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import holdfast as hf
from benchmarks.systems.filling import Filling
from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.queueing import Dispatches, Drain, ask, drain, produce
from holdfast.errors import WorkflowNotFound
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.offers import Offers
from holdfast.fleet.service import WorkerOptions, spare_the_collector
from holdfast.fleet.worker import WAITS_HERE_S, Worker
from holdfast.store.store import Store
from holdfast.workflows.program import Program

request = Request.from_arguments()
counter = Drain(request)
dispatches = Dispatches(request, "benchmarks.systems.holdfast_queue")
TEMPLATE, COUNTED = "template", "counted"
LEASE = timedelta(seconds=30)


def store_url(request: Request) -> str:
    """The store's URL; a server's own default for a URL without a user is the name of the system's user."""
    if request.backend == "sqlite":
        return f"sqlite:///{request.database}"
    parts = urlsplit(request.database)
    netloc = parts.netloc if "@" in parts.netloc else f"{getpass.getuser()}@{parts.netloc}"
    return urlunsplit(parts._replace(netloc=netloc))


app = hf.App(store_url(request))


@app.workflow
async def noop(sent: str) -> None:
    if sent == COUNTED:
        counter.ran()
    elif sent != TEMPLATE:
        dispatches.began(sent)


async def durability_of(app: hf.App, request: Request) -> str:
    """The setting that makes a commit durable, read from the store's own connections."""
    if request.backend == "sqlite":
        rows = await app.store.driver.fetch_text("SELECT synchronous FROM pragma_synchronous")
        journal = await app.store.driver.fetch_text("SELECT journal_mode FROM pragma_journal_mode")
        return " ".join(
            (require("journal_mode", journal[0][0], "wal"), require("synchronous", rows[0][0], 2, 3))
        )
    rows = await app.store.driver.fetch_text("SELECT current_setting('synchronous_commit')")
    return require("synchronous_commit", rows[0][0], "on")


async def _no_children(name: str, version: str | None, asking: object) -> Program:
    raise WorkflowNotFound(f"{name} is not offered here")


@asynccontextmanager
async def worker(
    app: hf.App, *, store: Store | None = None, lease: timedelta = LEASE, **options: Any
) -> AsyncIterator[Worker]:
    """A worker with what `app` offers, on `store` or the app's own."""
    offers = Offers([app])
    launcher = Launcher(
        store or app.store,
        load=offers.load,
        find=_no_children,
        lease=lease,
        sleep_max_s=WAITS_HERE_S,
        program="worker",
    )
    await launcher.open()
    spare_the_collector()  # as `holdfast worker` does
    try:
        yield Worker(launcher, WorkerOptions(**options), offers)
    finally:
        await launcher.close()


async def queue() -> dict[str, Any]:
    filling = Filling(request.backend, request.database)

    async def finished() -> int:
        # Without any behind, the template does not count.
        return await filling.finished() - (0 if request.finished else 1)

    done = await noop.enqueue(TEMPLATE)
    async with worker(app) as first:
        running = asyncio.ensure_future(first.run())
        await done
        first.drain()
        await running
    next_one = await noop.enqueue(COUNTED)
    await filling.copy(done.id, request.finished - 1, 1)
    await filling.copy(next_one.id, request.waiting + request.jobs - 1, 2)
    await filling.settle()
    async with worker(app, concurrency=int(request.options.get("concurrency", "10"))) as second:

        async def serve() -> None:
            await second.run()

        report(
            durability=await durability_of(app, request),
            **await drain(counter, serve(), lambda: ask(finished)),
        )


async def enqueue() -> dict[str, Any]:
    meter = Meter(request)

    async def one() -> None:
        since = time.perf_counter()
        await noop.enqueue(TEMPLATE)
        meter.ack(since)

    return await measure(meter, one)


async def dispatch() -> dict[str, Any]:
    async with worker(app) as idle:
        running = asyncio.ensure_future(idle.run())
        dispatches.start()
        try:
            return await asyncio.to_thread(dispatches.wait)
        finally:
            running.cancel()


async def main() -> None:
    async with app:
        if request.scenario == "produce":
            await produce(noop.enqueue)
        else:
            measured = {"queue": queue, "enqueue": enqueue, "dispatch": dispatch}[request.scenario]
            report(durability=await durability_of(app, request), **await measured())


if __name__ == "__main__":
    asyncio.run(main())
