"""The bare drivers: prepared statements on held connections, rows as they come; `COPY` and `executemany`.

PostgreSQL is asyncpg with one connection per caller, up to 20. SQLite is apsw, called where the caller
stands: one connection per caller, no event loop and no other thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.systems import tickets
from benchmarks.systems.meter import Meter, Request, measure, measure_threads, report, require

request = Request.from_arguments()
meter = Meter(request)

_NAMES = ", ".join(tickets.COLUMNS)
_READ = ", ".join(name for name in tickets.COLUMNS if name != "tenant_id")


def statements(mark: str, now: str) -> dict[str, str]:
    """What each scenario sends."""
    own = ", ".join(f"{mark}{number}" for number in range(3, 3 + len(tickets.OWN)))
    return {
        "get": f"SELECT {_READ} FROM {tickets.TABLE} WHERE tenant_id = {mark}1 AND id = {mark}2",
        "create": f"INSERT INTO {tickets.TABLE} ({_NAMES}) VALUES ({mark}1, {mark}2, 1, {now}, {now}, {own}) "
        "RETURNING created_at, updated_at",
        "find": f"SELECT {_READ} FROM {tickets.TABLE} WHERE tenant_id = {mark}1 AND status = {mark}2 "
        f"ORDER BY created_at DESC, id DESC LIMIT {tickets.PAGE}",
    }


def own(given: tickets.Ticket, *, tags: Any, done: Any) -> tuple[Any, ...]:
    """The values of a row's own columns."""
    return given.title, given.body, given.status, given.priority, done, None, tags


def arguments(choice: tickets.Choice, bind: Callable[[tickets.Ticket], tuple[Any, ...]]) -> tuple[Any, ...]:
    """What the next call of the scenario binds."""
    if request.scenario == "get":
        return tickets.TENANT, choice.id()
    if request.scenario == "find":
        return tickets.TENANT, choice.status()
    made = choice.new()
    return tickets.TENANT, made.id, *bind(made)


# PostgreSQL.


def bound_postgresql(given: tickets.Ticket) -> tuple[Any, ...]:
    return own(given, tags=list(given.tags), done=given.done)


async def copy_in(connection: Any, given: Sequence[tickets.Ticket]) -> None:
    now = datetime.now(UTC)
    rows = [(tickets.TENANT, each.id, 1, now, now, *bound_postgresql(each)) for each in given]
    await connection.copy_records_to_table(tickets.TABLE, columns=tickets.COLUMNS, records=rows)


async def postgresql() -> None:
    import asyncpg

    held: asyncio.LifoQueue[tuple[Any, Any]] = asyncio.LifoQueue()
    first = await asyncpg.connect(request.database)
    settings = require("synchronous_commit", await first.fetchval("SHOW synchronous_commit"), "on")
    for statement in tickets.ddl("postgresql"):
        await first.execute(statement)
    if request.scenario == "bulk":
        report(durability=settings, **await tickets.load(request, lambda given: copy_in(first, given)))
    await copy_in(first, [tickets.ticket(number) for number in range(tickets.STOCK)])
    text = statements("$", "now()")[request.scenario]
    for number in range(min(request.concurrency, 20)):
        connection = await asyncpg.connect(request.database) if number else first
        held.put_nowait((connection, await connection.prepare(text)))
    choice = tickets.Choice()
    is_page = request.scenario == "find"

    async def once() -> None:
        began = time.perf_counter()
        values = arguments(choice, bound_postgresql)
        connection, prepared = held.get_nowait() if not held.empty() else await held.get()
        rows = await prepared.fetch(*values) if is_page else await prepared.fetchrow(*values)
        held.put_nowait((connection, prepared))
        assert rows is not None
        meter.ack(began)

    report(durability=settings, **tickets.told(await measure(meter, once)))


# SQLite.


def bound_sqlite(given: tickets.Ticket) -> tuple[Any, ...]:
    return own(given, tags=json.dumps(given.tags), done=int(given.done))


def connected() -> Any:
    import apsw

    connection = apsw.Connection(request.database)
    connection.set_busy_timeout(5000)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def insert_many(connection: Any, given: Sequence[tickets.Ticket]) -> None:
    now = time.time_ns() // 1000
    rows = [(tickets.TENANT, each.id, 1, now, now, *bound_sqlite(each)) for each in given]
    marks = ", ".join("?" * len(tickets.COLUMNS))
    with connection:
        connection.executemany(f"INSERT INTO {tickets.TABLE} ({_NAMES}) VALUES ({marks})", rows)


def sqlite() -> None:
    first = connected()
    settings = require("synchronous", first.pragma("synchronous"), 2)
    for statement in tickets.ddl("sqlite"):
        first.execute(statement)

    async def write(given: list[tickets.Ticket]) -> None:
        insert_many(first, given)

    if request.scenario == "bulk":
        report(durability=settings, **asyncio.run(tickets.load(request, write)))
    insert_many(first, [tickets.ticket(number) for number in range(tickets.STOCK)])
    text = statements("?", f"{time.time_ns() // 1000}")[request.scenario]
    choice = tickets.Choice()
    own_connection = threading.local()

    def once() -> None:
        if not hasattr(own_connection, "it"):
            own_connection.it = connected()
        began = time.perf_counter()
        rows = own_connection.it.execute(text, arguments(choice, bound_sqlite)).fetchall()
        assert rows
        meter.ack(began)

    report(durability=settings, **tickets.told(measure_threads(meter, once)))


if __name__ == "__main__":
    sqlite() if request.backend == "sqlite" else asyncio.run(postgresql())
