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
from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.queueing import Dispatches, Drain, ask, copies, drain, produce
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


class Filling:
    """Copies, made by SQL of this benchmark on a connection of its own."""

    def __init__(self) -> None:
        self.is_server = request.backend == "postgresql"
        self.schema = "holdfast." if self.is_server else ""

    async def run(self, statements: list[str]) -> list[Any]:
        """The first column of the last statement's rows."""
        if self.is_server:
            import asyncpg

            connection = await asyncpg.connect(request.database)
            for statement in statements[:-1]:
                await connection.execute(statement)
            found = [row[0] for row in await connection.fetch(statements[-1])]
            await connection.close()
            return found
        import apsw

        file = apsw.Connection(request.database)
        file.set_busy_timeout(30_000)
        for statement in statements[:-1]:
            file.execute(statement)
        return [row[0] for row in file.execute(statements[-1])]

    async def columns(self, table: str) -> list[str]:
        question = f"SELECT name FROM pragma_table_info('{table}') WHERE name <> 'position'"
        if self.is_server:
            question = (
                "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'holdfast' "
                f"AND table_name = '{table}' AND column_name <> 'xid'"
            )
        return await self.run([question])

    async def copy(self, id: str, count: int, mark: int) -> None:
        """`count` copies of execution `id`; `mark` keeps the keys of two templates apart."""
        numbers = f"generate_series(1, {count}) AS n"
        key = f"substring(t.{{}} FROM 1 FOR 6) || int8send(n) || int2send({mark}::int2)"
        text, random = "encode({}, 'hex')", "decode(md5(n::text), 'hex')"
        template = f"'\\x{id.replace('-', '')}'"
        if not self.is_server:
            numbers = (
                f"(WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) "
                f"SELECT n FROM c WHERE n <= {count})"
            )
            key = f"unhex(hex(substr(t.{{}}, 1, 6)) || printf('%016x%04x', n, {mark}))"
            text, random = "lower(hex({}))", "randomblob(16)"
            template = f"x'{id.replace('-', '')}'"
        if count < 1:
            return
        statements = []
        for table, column in (
            ("executions", "key"),
            ("execution_details", "execution"),
            ("events", "execution"),
        ):
            made = key.format(column)
            changed = {column: made}
            if table == "executions":
                changed |= {"id": text.format(made), "fingerprint": random}
            names = await self.columns(table)
            statements.append(
                copies(f"{self.schema}{table}", names, changed, numbers, f"t.{column} = {template}")
            )
        # One transaction, as a start is one: what is written by several looks like something touched since.
        await self.run(["BEGIN", *statements, "COMMIT", "SELECT 1"])

    async def settle(self) -> None:
        """What a server does by itself in time, done before the measurement: statistics and visibility."""
        if not self.is_server:
            await self.run(["ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"])
            return
        for table in ("executions", "execution_details", "events"):
            await self.run([f"VACUUM ANALYZE {self.schema}{table}", "SELECT 1"])

    async def finished(self) -> int:
        """How many there are; without any behind, the template does not count."""
        [count] = await self.run([f"SELECT count(*) FROM {self.schema}executions WHERE status = 'completed'"])
        return int(count) - (0 if request.finished else 1)


async def queue() -> dict[str, Any]:
    filling = Filling()
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
            **await drain(counter, serve(), lambda: ask(filling.finished)),
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
