"""The raw limit of a queue: claim a batch with SKIP LOCKED, finish it with one UPDATE, on a narrow table.

No engine, no history, no lease: a job is a row with a status. On PostgreSQL one connection claims the next
batch while another finishes the last one; on SQLite both are one transaction, since there is one writer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.queueing import Drain, ask, drain

request = Request.from_arguments()
BATCH = 1000
READY, RUNNING, FINISHED = 0, 1, 2
NEXT = f"FROM jobs WHERE queue = 'bench' AND status = {READY} ORDER BY priority DESC, id LIMIT {BATCH}"
CLAIM_POSTGRESQL = (
    f"UPDATE jobs SET status = {RUNNING} "
    f"WHERE ctid = ANY (ARRAY(SELECT ctid {NEXT} FOR UPDATE SKIP LOCKED)) RETURNING id, payload"
)
CLAIM_SQLITE = f"UPDATE jobs SET status = {RUNNING} WHERE id IN (SELECT id {NEXT}) RETURNING id, payload"
COUNT = f"SELECT count(*) FROM jobs WHERE status = {FINISHED}"


async def body(_: object) -> None:
    counter.ran()


counter = Drain(request)


async def postgresql() -> None:
    import asyncpg

    claimer, finisher = [await asyncpg.connect(request.database) for _ in range(2)]
    facts = require("synchronous_commit", await claimer.fetchval("SHOW synchronous_commit"), "on")
    await claimer.execute(
        "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text NOT NULL, "
        "status smallint NOT NULL, priority smallint NOT NULL DEFAULT 0, payload bytea, "
        "finished_at timestamptz) WITH (fillfactor = 80)"
    )
    await claimer.execute(
        f"CREATE INDEX jobs_ready ON jobs (queue, priority DESC, id) WHERE status = {READY}"
    )
    if request.scenario == "enqueue":
        await enqueue_postgresql(claimer, facts)
    for status, count in ((FINISHED, request.finished), (READY, request.waiting + request.jobs)):
        await claimer.execute(
            f"INSERT INTO jobs (queue, status, payload) SELECT 'bench', {status}, '\\x00' "
            f"FROM generate_series(1, {count})"
        )
    await claimer.execute("VACUUM ANALYZE jobs")
    claim = await claimer.prepare(CLAIM_POSTGRESQL)
    finish = await finisher.prepare(
        f"UPDATE jobs SET status = {FINISHED}, finished_at = now() WHERE id = ANY($1::bigint[])"
    )

    async def work() -> None:
        finishing: asyncio.Future[Any] | None = None
        while True:
            rows = await claim.fetch()
            for row in rows:
                await body(row["payload"])
            if finishing is not None:
                await finishing
            finishing = asyncio.ensure_future(finish.fetch([row["id"] for row in rows]))
            if not rows:
                await asyncio.sleep(0.01)

    async def finished() -> int:
        connection = await asyncpg.connect(request.database)
        number: int = await connection.fetchval(COUNT)
        return number

    report(durability=facts, **await drain(counter, work(), lambda: ask(finished)))


async def enqueue_postgresql(connection: Any, facts: str) -> None:
    insert = await connection.prepare(
        f"INSERT INTO jobs (queue, status, payload) SELECT 'bench', {READY}, p FROM unnest($1::bytea[]) AS p"
    )
    await enqueue(insert.fetch, facts)


async def enqueue(insert: Callable[[list[bytes]], Awaitable[Any]], facts: str) -> None:
    """Callers hand their rows to one flusher that inserts all that wait in one transaction."""
    waiting: list[asyncio.Future[None]] = []
    arrived = asyncio.Event()

    async def flush() -> None:
        nonlocal waiting
        while True:
            await arrived.wait()
            arrived.clear()
            batch, waiting = waiting, []
            await insert([b"\0"] * len(batch))
            for future in batch:
                future.set_result(None)

    flusher = asyncio.ensure_future(flush())
    meter = Meter(request)

    async def one() -> None:
        since = time.perf_counter()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        arrived.set()
        await future
        meter.ack(since)

    figures = await measure(meter, one)
    flusher.cancel()
    report(durability=facts, **figures)


def sqlite() -> None:
    import apsw

    connection = apsw.Connection(request.database)
    connection.set_busy_timeout(5000)
    facts = [require("journal_mode", connection.pragma("journal_mode", "wal"), "wal")]
    connection.pragma("synchronous", "full")
    facts.append(require("synchronous", connection.pragma("synchronous"), 2))
    connection.execute(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, queue TEXT NOT NULL, status INTEGER NOT NULL, "
        "priority INTEGER NOT NULL DEFAULT 0, payload BLOB, finished_at INTEGER)"
    )
    connection.execute(f"CREATE INDEX jobs_ready ON jobs (queue, priority DESC, id) WHERE status = {READY}")

    async def insert(payloads: list[bytes]) -> None:
        with connection:
            connection.executemany(
                f"INSERT INTO jobs (queue, status, payload) VALUES ('bench', {READY}, ?)",
                [(payload,) for payload in payloads],
            )

    if request.scenario == "enqueue":
        asyncio.run(enqueue(insert, " ".join(facts)))
        return
    for status, count in ((FINISHED, request.finished), (READY, request.waiting + request.jobs)):
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count) "
            "INSERT INTO jobs (queue, status, payload) SELECT 'bench', :status, x'00' FROM numbers "
            "WHERE n <= :count",
            {"status": status, "count": count},
        )
    connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finish = f"UPDATE jobs SET status = {FINISHED}, finished_at = unixepoch() WHERE id = ?"

    async def work() -> None:
        done: list[tuple[int]] = []
        while True:
            with connection:
                connection.executemany(finish, done)
                rows = connection.execute(CLAIM_SQLITE).fetchall()
            for _, payload in rows:
                await body(payload)
            done = [(identity,) for identity, _ in rows]
            await asyncio.sleep(0 if rows else 0.01)

    def finished() -> int:
        count: int = apsw.Connection(request.database).execute(COUNT).get
        return count

    async def main() -> None:
        report(durability=" ".join(facts), **await drain(counter, work(), finished))

    asyncio.run(main())


if __name__ == "__main__":
    if request.backend == "postgresql":
        asyncio.run(postgresql())
    else:
        sqlite()
