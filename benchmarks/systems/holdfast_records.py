"""Holdfast's repositories: one declared record with a migration of its own, default settings."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import holdfast as hf
from benchmarks.systems import tickets
from benchmarks.systems.meter import Meter, Request, measure, report, require
from benchmarks.systems.places import store_url
from holdfast.config.loader import load
from holdfast.store.repository import Repository
from holdfast.store.store import Store
from holdfast.stores import build_store

request = Request.from_arguments()
meter = Meter(request)


@hf.record(table=tickets.TABLE)
class BenchTicket(hf.Record):
    """One row of the table that all systems share."""

    title: str
    body: str
    status: str
    priority: int
    done: bool
    due_at: datetime | None = None
    tags: tuple[str, ...] = ()


def migration(folder: Path) -> None:
    """Write the migration that makes the table."""
    schema = "{schema}." if request.backend == "postgresql" else ""
    statements = ";\n".join(tickets.ddl(request.backend, schema))
    place = folder / request.backend
    place.mkdir()
    (place / "10001_bench_tickets.sql").write_text(
        f"-- +migrate Up\n{statements};\n-- +migrate Down\nDROP TABLE {schema}{tickets.TABLE};\n"
    )


@asynccontextmanager
async def opened() -> Any:
    """An open store with the table."""
    with tempfile.TemporaryDirectory() as folder:
        migration(Path(folder))
        flags = {"storage.url": store_url(request), "storage.migrations.dir": folder}
        store = build_store(load(environ={}, cwd=Path(folder), flags=flags).config, create=True)
        await store.open(migrate=True)
        yield store


async def durability(store: Store) -> str:
    """The setting that makes a commit durable, read from the store's own connections."""
    if request.backend == "sqlite":
        rows = await store.driver.fetch_text("SELECT synchronous FROM pragma_synchronous")
        return require("synchronous", rows[0][0], 2, 3)
    rows = await store.driver.fetch_text("SELECT current_setting('synchronous_commit')")
    return require("synchronous_commit", rows[0][0], "on")


def record_of(given: tickets.Ticket) -> BenchTicket:
    return BenchTicket(
        id=given.id, title=given.title, body=given.body, status=given.status, priority=given.priority,
        done=given.done, tags=given.tags,
    )  # fmt: skip


def operation(repo: Repository[BenchTicket]) -> Callable[[], Awaitable[object]]:
    """What one call of the scenario is."""
    choice = tickets.Choice()

    async def get() -> object:
        return await repo.get(choice.id())

    async def create() -> object:
        return await repo.create(record_of(choice.new()))

    async def find() -> object:
        page = await repo.find(f"status:{choice.status()}", limit=tickets.PAGE)
        assert len(page.items) == tickets.PAGE
        return page

    return {"get": get, "create": create, "find": find}[request.scenario]


async def main() -> None:
    async with opened() as store:
        repo = store.repo(BenchTicket)

        async def write(given: Sequence[tickets.Ticket]) -> None:
            await repo.create_many(map(record_of, given))

        settings = await durability(store)
        if request.scenario == "bulk":
            report(durability=settings, **await tickets.load(request, write))
        await write([tickets.ticket(number) for number in range(tickets.STOCK)])
        perform = operation(repo)

        async def once() -> None:
            began = time.perf_counter()
            await perform()
            meter.ack(began)

        report(durability=settings, **tickets.told(await measure(meter, once)))


asyncio.run(main())
