"""The raw limit: the rows and the fence of the write path, in a bare group-commit loop on the same driver.

No engine, no codec, no decisions: callers hand ready-made entries to one flusher and await its commit. An
execution of 10 steps is 12 awaited entries: its row with `execution.started`, ten results, and
`execution.completed` with the row's new status. The tables are those of the first migration.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.systems.meter import Meter, Request, measure, report, require

request = Request.from_arguments()
meter = Meter(request)

MIGRATIONS = Path(__file__).parents[2] / "src" / "holdfast" / "store" / "migrations"
SCHEMA = "holdfast"
BATCH = 1000
TENANT, OWNER, EPOCH = "default", os.urandom(16), 1
DIGEST, PAYLOAD = bytes(16), b"\x00\x00\x0042"
EVENT_COLUMNS = (
    "execution, seq, epoch, type, path, generation, ordinal, attempt, result, duration_us, input_digest, "
    "input, payload, payload_ref"
)
EXECUTION_COLUMNS = (
    "key, tenant_id, id, workflow, version, definition, fingerprint, status, queue, priority, owner, epoch"
)

Event = tuple[Any, ...]
Execution = tuple[Any, ...]
Entry = tuple[Event, Execution | None, bool]  # the event; the row it creates; whether it ends its execution
Writer = Callable[[list[Entry]], Awaitable[None]]


def migration(dialect: str) -> str:
    """The text that makes the tables, as far as the line that begins the way back."""
    [file] = (MIGRATIONS / dialect).glob("0001_*.sql")
    up, _, _ = file.read_text().partition("\n-- +migrate Down")
    return up.replace("{schema}", SCHEMA)


class GroupCommit:
    """Writes all that waits in one transaction, then answers; a busy flush gathers the next batch."""

    def __init__(self, write: Writer) -> None:
        self._write = write
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()

    def durable(self, entry: Entry) -> asyncio.Future[None]:
        """A future that is done when `entry` is on disk."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        self._arrived.set()
        return future

    async def run(self) -> None:
        """Flush for ever; an error ends the process, since no figure would mean anything."""
        while True:
            await self._arrived.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._arrived.clear()
            await self._write([entry for entry, _ in batch])
            for _, future in batch:
                if not future.done():
                    future.set_result(None)


_numbers = itertools.count(1)


def new_key() -> bytes:
    """A key in the order of time, as a UUIDv7 is: milliseconds first."""
    return int(time.time() * 1000).to_bytes(6) + next(_numbers).to_bytes(10)


def event(key: bytes, seq: int, kind: str, path: str | None) -> Event:
    result = path is not None
    ordinal = seq - 2 if result else None
    return (key, seq, EPOCH, kind, path, 0, ordinal, 1 if result else 0, result, 5 if result else None,
            DIGEST if result else None, None if seq > 1 else PAYLOAD, PAYLOAD, None)  # fmt: skip


async def workflow(commit: GroupCommit) -> None:
    key = new_key()
    row = (key, TENANT, key.hex(), "bench", "1", DIGEST, DIGEST, "running", "default", 0, OWNER, EPOCH)
    now = time.perf_counter()
    await commit.durable((event(key, 1, "execution.started", None), row, False))
    for number in range(request.steps):
        await commit.durable((event(key, number + 2, "step.completed", f"step[{number}]"), None, False))
        now = meter.ack(now)
    await commit.durable((event(key, request.steps + 2, "execution.completed", None), None, True))


class SqliteWriter:
    """One thread that owns the connection; an asyncio caller awaits its commit."""

    CHUNKS = (64, 16, 4, 1)

    def __init__(self, path: str) -> None:
        import apsw

        self._connection = connection = apsw.Connection(path)
        connection.set_busy_timeout(5000)
        facts = [require("journal_mode", connection.pragma("journal_mode", "wal"), "wal")]
        connection.pragma("synchronous", "full")
        facts.append(require("synchronous", connection.pragma("synchronous"), 2))
        self.facts = " ".join(facts)
        connection.execute(migration("sqlite"))
        self._work: queue.SimpleQueue[tuple[list[Entry], asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        row = f"({','.join('?' * 16)})"
        insert = f"INSERT INTO events ({EVENT_COLUMNS}, tenant_id, at) VALUES "
        self._inserts = {size: insert + ",".join([row] * size) for size in self.CHUNKS}
        fence = "SELECT count(*) FROM executions WHERE epoch = 1 AND key IN "
        self._fences = {size: f"{fence}({','.join('?' * size)})" for size in self.CHUNKS}
        self._create = (
            f"INSERT INTO executions ({EXECUTION_COLUMNS}, created_at) VALUES ({','.join('?' * 13)})"
        )
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, entries: list[Entry]) -> Awaitable[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._work.put((entries, future))
        return future

    def _serve(self) -> None:
        while True:
            entries, future = self._work.get()
            try:
                self._write(entries)
            except Exception as error:
                self._loop.call_soon_threadsafe(future.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(future.set_result, None)

    def _write(self, entries: list[Entry]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        now = time.time_ns() // 1000
        held = [row[0] for row, created, _ in entries if created is None]
        locked = sum(execute(self._fences[size], part).get for size, part in self._chunks(held))
        if locked != len(set(held)):
            raise RuntimeError("fenced")
        for _, created, _ in entries:
            if created is not None:
                execute(self._create, (*created, now))
        rows = [(*row, TENANT, now) for row, _, _ in entries]
        for size, part in self._chunks(rows):
            execute(self._inserts[size], tuple(itertools.chain.from_iterable(part)))
        for row, _, ends in entries:
            if ends:
                execute(
                    "UPDATE executions SET status = 'completed', owner = NULL, finished_at = ? WHERE key = ?",
                    (now, row[0]),
                )
        execute("COMMIT")

    def _chunks(self, items: list[Any]) -> Any:
        position = 0
        for size in self.CHUNKS:
            while len(items) - position >= size:
                yield size, items[position : position + size]
                position += size


class PostgresqlWriter:
    """One dedicated connection, one statement per flush."""

    _EVENT_TYPES = (
        "bytea", "bigint", "bigint", "text", "text", "integer", "integer", "integer", "boolean", "bigint",
        "bytea", "bytea", "bytea", "bytea",
    )  # fmt: skip
    _EXECUTION_TYPES = (
        "bytea", "text", "text", "text", "text", "bytea", "bytea", "text", "text", "smallint", "bytea",
        "bigint",
    )  # fmt: skip

    def __init__(self, append: Any, flush: Any, facts: str) -> None:
        self._append, self._flush, self.facts = append, flush, facts

    @classmethod
    async def open(cls, url: str) -> PostgresqlWriter:
        import asyncpg

        connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
        facts = require("synchronous_commit", await connection.fetchval("SHOW synchronous_commit"), "on")
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await connection.execute(migration("postgresql"))
        append, flush = [await connection.prepare(cls._statement(full)) for full in (False, True)]
        return cls(append, flush, facts)

    async def __call__(self, entries: list[Entry]) -> None:
        held = [row[0] for row, created, _ in entries if created is None]
        creates = [created for _, created, _ in entries if created is not None]
        ends = [row[0] for row, _, ends in entries if ends]
        events = zip(*(row for row, _, _ in entries), strict=True)
        if creates or ends:
            opened = zip(*creates, strict=True) if creates else [()] * len(self._EXECUTION_TYPES)
            written = await self._flush.fetchval(held, [EPOCH] * len(held), *events, ends, *opened)
        else:
            written = await self._append.fetchval(held, [EPOCH] * len(held), *events)
        if written != len(entries):
            raise RuntimeError("fenced")

    @classmethod
    def _statement(cls, full: bool) -> str:
        numbers = itertools.count(3)
        events = ", ".join(f"${next(numbers)}::{kind}[]" for kind in cls._EVENT_TYPES)
        fence = (
            "WITH locked AS (SELECT e.key, e.tenant_id "
            "FROM unnest($1::bytea[], $2::bigint[]) AS f(key, epoch) "
            "JOIN executions AS e ON e.key = f.key AND e.epoch = f.epoch "
            "FOR NO KEY UPDATE OF e SKIP LOCKED)"
        )
        allowed = "locked"
        if full:
            ends = f"${next(numbers)}::bytea[]"
            creates = ", ".join(f"${next(numbers)}::{kind}[]" for kind in cls._EXECUTION_TYPES)
            fence += (
                f", opened AS (INSERT INTO executions ({EXECUTION_COLUMNS}, created_at) "
                f"SELECT n.*, statement_timestamp() FROM unnest({creates}) AS n RETURNING key, tenant_id)"
                ", allowed AS (SELECT * FROM locked UNION ALL SELECT * FROM opened)"
                ", closed AS (UPDATE executions AS e SET status = 'completed', owner = NULL, "
                f"finished_at = statement_timestamp() FROM unnest({ends}) AS d(key) JOIN locked USING (key) "
                "WHERE e.key = d.key)"
            )
            allowed = "allowed"
        return (
            f"{fence}, written AS (INSERT INTO events ({EVENT_COLUMNS}, tenant_id, at) "
            f"SELECT w.*, a.tenant_id, statement_timestamp() FROM unnest({events}) AS w({EVENT_COLUMNS}) "
            f"JOIN {allowed} AS a ON a.key = w.execution ON CONFLICT DO NOTHING RETURNING 1) "
            "SELECT count(*) FROM written"
        )


async def main() -> None:
    writer: SqliteWriter | PostgresqlWriter
    if request.backend == "sqlite":
        writer = SqliteWriter(request.database)
    else:
        writer = await PostgresqlWriter.open(request.database)
    commit = GroupCommit(writer)
    flusher = asyncio.ensure_future(commit.run())
    flusher.add_done_callback(lambda done: os._exit(_say(done)))
    figures = await measure(meter, lambda: workflow(commit))
    report(durability=writer.facts, **figures)


def _say(done: asyncio.Future[None]) -> int:
    import sys

    print(f"the flusher stopped: {done.exception()!r}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    asyncio.run(main())
