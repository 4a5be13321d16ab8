"""SQLAlchemy 2, asynchronous: Core, statements made once, autocommit, a pool that resets nothing.

That is faster than its ORM and than its defaults: there is no BEGIN or ROLLBACK around a read. Of each row
that is read a plain dataclass is made, since typed records are what a repository gives.
The page and the new row are one statement each, as everywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.systems import tickets
from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.places import engine_url

request = Request.from_arguments()
meter = Meter(request)
on_sqlite = request.backend == "sqlite"

Moment: Any = sa.BigInteger() if on_sqlite else sa.DateTime(timezone=True)
table = sa.Table(
    tickets.TABLE,
    sa.MetaData(),
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger),
    sa.Column("created_at", Moment),
    sa.Column("updated_at", Moment),
    sa.Column("title", sa.Text),
    sa.Column("body", sa.Text),
    sa.Column("status", sa.Text),
    sa.Column("priority", sa.BigInteger),
    sa.Column("done", sa.Boolean),
    sa.Column("due_at", Moment, nullable=True),
    sa.Column("tags", sa.JSON() if on_sqlite else ARRAY(sa.Text)),
)
shown = [column for column in table.c if column.name != "tenant_id"]
GET = sa.select(*shown).where(
    table.c.tenant_id == sa.bindparam("tenant"), table.c.id == sa.bindparam("wanted")
)
FIND = (
    sa.select(*shown)
    .where(table.c.tenant_id == sa.bindparam("tenant"), table.c.status == sa.bindparam("wanted"))
    .order_by(table.c.created_at.desc(), table.c.id.desc())
    .limit(tickets.PAGE)
)
CREATE = sa.insert(table).returning(table.c.created_at, table.c.updated_at)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Record:
    """What an application gets."""

    id: str
    revision: int
    created_at: datetime
    updated_at: datetime
    title: str
    body: str
    status: str
    priority: int
    done: bool
    due_at: datetime | None
    tags: list[str]


def record_of(row: Any) -> Record:
    record = Record(*row)
    if on_sqlite:
        record.created_at = EPOCH + timedelta(microseconds=row[2])
        record.updated_at = EPOCH + timedelta(microseconds=row[3])
    return record


def made_engine() -> AsyncEngine:
    """An engine at its fastest; SQLite as durable as the others have it."""
    engine = create_async_engine(
        engine_url(request), pool_size=20, pool_reset_on_return=None, isolation_level="AUTOCOMMIT"
    )
    if on_sqlite:

        @sa.event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.close()

    return engine


async def durability(engine: AsyncEngine) -> str:
    async with engine.connect() as connection:
        if on_sqlite:
            return require("synchronous", await connection.scalar(sa.text("PRAGMA synchronous")), 2)
        setting = await connection.scalar(sa.text("SHOW synchronous_commit"))
        return require("synchronous_commit", setting, "on")


def values(given: tickets.Ticket, now: Any) -> dict[str, Any]:
    return {
        "tenant_id": tickets.TENANT, "id": given.id, "revision": 1, "created_at": now, "updated_at": now,
        "title": given.title, "body": given.body, "status": given.status, "priority": given.priority,
        "done": given.done, "due_at": None, "tags": list(given.tags),
    }  # fmt: skip


def clock() -> Any:
    return time.time_ns() // 1000 if on_sqlite else datetime.now(UTC)


def operation(engine: AsyncEngine) -> Callable[[], Awaitable[object]]:
    """What one call of the scenario is."""
    choice = tickets.Choice()

    async def get() -> object:
        async with engine.connect() as connection:
            found = await connection.execute(GET, {"tenant": tickets.TENANT, "wanted": choice.id()})
            return record_of(found.one())

    async def create() -> object:
        async with engine.connect() as connection:
            return (await connection.execute(CREATE, values(choice.new(), clock()))).one()

    async def find() -> object:
        async with engine.connect() as connection:
            rows = await connection.execute(FIND, {"tenant": tickets.TENANT, "wanted": choice.status()})
            page = [record_of(row) for row in rows]
            assert len(page) == tickets.PAGE
            return page

    return {"get": get, "create": create, "find": find}[request.scenario]


async def main() -> None:
    engine = made_engine()
    settings = await durability(engine)
    async with engine.connect() as connection:
        for statement in tickets.ddl(request.backend):
            await connection.execute(sa.text(statement))

    async def write(given: Sequence[tickets.Ticket]) -> None:
        now = clock()
        async with engine.execution_options(
            isolation_level="SERIALIZABLE" if on_sqlite else "READ COMMITTED"
        ).begin() as connection:
            await connection.execute(sa.insert(table), [values(each, now) for each in given])

    if request.scenario == "bulk":
        report(durability=settings, **await tickets.load(request, write))
    await write([tickets.ticket(number) for number in range(tickets.STOCK)])
    perform = operation(engine)

    async def once() -> None:
        began = time.perf_counter()
        await perform()
        meter.ack(began)

    report(durability=settings, **tickets.told(await measure(meter, once)))


asyncio.run(main())
