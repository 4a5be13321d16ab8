"""Absurd on PostgreSQL: stored procedures driven by its Python kit, the schema from its `absurdctl` package.

The callers spread over a few connections (the kit gives a client one, and one connection does one thing at a
time); each caller spawns a task and works off one task, so that nobody polls and the queue is never long.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd, AsyncTaskContext
from absurdctl import BUNDLED_SCHEMA_SQL

from benchmarks.systems.meter import Meter, Request, measure, report, require

request = Request.from_arguments()
meter = Meter(request)


async def step() -> int:
    return 1


async def workflow(params: Any, context: AsyncTaskContext) -> int:
    now = time.perf_counter()
    for number in range(request.steps):
        await context.step(f"step-{number}", step)
        now = meter.ack(now)
    return request.steps


async def prepare() -> str:
    async with await psycopg.AsyncConnection.connect(request.database, autocommit=True) as connection:
        await connection.execute(BUNDLED_SCHEMA_SQL)
        cursor = await connection.execute("SHOW synchronous_commit")
        row = await cursor.fetchone()
    assert row is not None
    return require("synchronous_commit", row[0], "on")


async def client() -> AsyncAbsurd:
    connection = await psycopg.AsyncConnection.connect(request.database, autocommit=True)
    absurd = AsyncAbsurd(connection, queue_name="bench")
    absurd.register_task(name="workflow")(workflow)
    return absurd


async def main() -> None:
    durability = await prepare()
    connections = min(int(request.options.get("connections", "1")), request.concurrency)
    clients = [await client() for _ in range(connections)]
    await clients[0].create_queue()
    turn = itertools.cycle(clients)

    async def call() -> None:
        absurd = next(turn)
        await absurd.spawn("workflow", {})
        await absurd.work_batch(batch_size=1)

    report(durability=durability, **await measure(meter, call))


if __name__ == "__main__":
    asyncio.run(main())
