"""Procrastinate on PostgreSQL: one asynchronous worker, as many jobs at once as its `concurrency` says.

Notifications are on, as they are by default; finished jobs stay, as they do by default.
"""

from __future__ import annotations

import asyncio
import logging
import time

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.queueing import Dispatches, Drain, ask, copies, drain, produce

request = Request.from_arguments()
counter = Drain(request)
dispatches = Dispatches(request, "benchmarks.systems.procrastinate")
app = App(
    connector=PsycopgConnector(
        conninfo=request.database, min_size=2, max_size=int(request.options.get("connections", "10"))
    )
)
JOB = ("queue_name", "task_name", "priority", "args", "status", "attempts")


@app.task(name="noop")
async def noop(sent: str) -> None:
    if request.scenario == "dispatch":
        dispatches.began(sent)
    else:
        counter.ran()


async def fill() -> None:
    """Copies of a deferred job with the events its triggers write, without a notification for each."""
    await noop.defer_async(sent="0")
    async with await psycopg.AsyncConnection.connect(request.database, autocommit=True) as connection:
        await connection.execute("SET session_replication_role = replica")  # triggers rest
        more = request.waiting + request.jobs - 1
        for status, count in (("succeeded", request.finished), ("todo", more)):
            changed = {"status": f"'{status}'", "attempts": "1" if status == "succeeded" else "0"}
            numbers = f"generate_series(1, {count}) AS n"
            await connection.execute(copies("procrastinate_jobs", JOB, changed, numbers, "t.id = 1"))
        await connection.execute(
            "INSERT INTO procrastinate_events (job_id, type) "
            "SELECT j.id, e.type::procrastinate_job_event_type FROM procrastinate_jobs AS j "
            "CROSS JOIN (VALUES ('deferred'), ('started'), ('succeeded')) AS e (type) "
            "WHERE j.id > 1 AND (j.status = 'succeeded' OR e.type = 'deferred')"
        )
        for table in ("procrastinate_jobs", "procrastinate_events"):
            await connection.execute(f"VACUUM ANALYZE {table}")


async def finished() -> int:
    async with await psycopg.AsyncConnection.connect(request.database) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def durability() -> str:
    rows = await app.connector.execute_query_all_async("SHOW synchronous_commit")
    return require("synchronous_commit", rows[0]["synchronous_commit"], "on")


async def main() -> None:
    async with app.open_async():
        if request.scenario == "produce":
            await produce(lambda sent: noop.defer_async(sent=sent))
            return
        await app.schema_manager.apply_schema_async()
        facts = await durability()
        concurrency = int(request.options.get("concurrency", "1"))
        worker = app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
        if request.scenario == "enqueue":
            meter = Meter(request)

            async def one() -> None:
                since = time.perf_counter()
                await noop.defer_async(sent="0")
                meter.ack(since)

            worker.close()
            report(durability=facts, **await measure(meter, one))
        elif request.scenario == "dispatch":
            running = asyncio.ensure_future(worker)
            dispatches.start()
            report(durability=facts, **await asyncio.to_thread(dispatches.wait))
            running.cancel()
        else:
            await fill()
            report(durability=facts, **await drain(counter, worker, lambda: ask(finished)))


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main())
