"""PGQueuer on PostgreSQL: its queue manager on its asyncpg driver, under uvloop as its command line runs it.

`batch_size` is what its documentation names for throughput; the mode says which one was fastest here. A
finished job is a deleted row and a line in its log.
"""

from __future__ import annotations

import asyncio
import time

import asyncpg
import uvloop
from pgqueuer import QueueManager
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.queueing import Dispatches, Drain, ask, copies, drain, produce

request = Request.from_arguments()
COUNT = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
LOG = ("created", "job_id", "status", "priority", "entrypoint", "aggregated")
JOB = ("priority", "status", "entrypoint", "payload", "headers")


async def fill(pool: asyncpg.Pool, queries: Queries) -> None:
    """Rows as they are left: a job and its line `queued`; three lines for a finished one."""
    await queries.enqueue("noop", b"0")
    count = request.waiting + request.jobs - 1
    await pool.execute(copies("pgqueuer", JOB, {}, f"generate_series(1, {count}) AS n", "t.id = 1"))
    await pool.execute(
        "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint) "
        "SELECT id, 'queued', priority, entrypoint FROM pgqueuer WHERE id > 1"
    )
    for status in ("queued", "picked", "successful"):
        changed = {"job_id": "-n", "status": f"'{status}'", "aggregated": "true"}
        numbers = f"generate_series(1, {request.finished}) AS n"
        await pool.execute(copies("pgqueuer_log", LOG, changed, numbers, "t.id = 1"))
    await pool.execute("VACUUM ANALYZE pgqueuer")
    await pool.execute("VACUUM ANALYZE pgqueuer_log")


async def queue(pool: asyncpg.Pool, manager: QueueManager, durability: str) -> None:
    counter = Drain(request)

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        counter.ran()

    await fill(pool, manager.queries)
    worker = manager.run(batch_size=int(request.options.get("batch", "10")))
    figures = await drain(counter, worker, lambda: ask(count_finished))
    report(durability=durability, **figures)


async def count_finished() -> int:
    connection = await asyncpg.connect(request.database)
    count: int = await connection.fetchval(COUNT)
    return count


async def dispatch(manager: QueueManager, durability: str) -> None:
    dispatches = Dispatches(request, __spec__.name)

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        dispatches.began((job.payload or b"").decode())

    worker = asyncio.ensure_future(manager.run(batch_size=int(request.options.get("batch", "10"))))
    dispatches.start()
    figures = await asyncio.to_thread(dispatches.wait)
    worker.cancel()
    report(durability=durability, **figures)


async def main() -> None:
    size = int(request.options.get("connections", "10"))
    pool = await asyncpg.create_pool(request.database, min_size=2, max_size=size)
    durability = require("synchronous_commit", await pool.fetchval("SHOW synchronous_commit"), "on")
    queries = Queries(AsyncpgPoolDriver(pool))
    if request.scenario == "produce":
        await produce(lambda sent: queries.enqueue("noop", sent.encode()))
        return
    await queries.install()
    if request.scenario == "enqueue":
        meter = Meter(request)

        async def one() -> None:
            since = time.perf_counter()
            await queries.enqueue("noop", b"0")
            meter.ack(since)

        report(durability=durability, **await measure(meter, one))
    elif request.scenario == "dispatch":
        await dispatch(QueueManager(queries), durability)
    else:
        await queue(pool, QueueManager(queries), durability)


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main())
