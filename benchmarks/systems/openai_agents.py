"""The session of the OpenAI Agents SDK on SQLAlchemy: items are added as its runner does, twice per turn."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.systems import turns
from benchmarks.systems.meter import Request, report, require
from benchmarks.systems.places import engine_url

request = Request.from_arguments()
on_sqlite = request.backend == "sqlite"


async def main() -> None:
    engine = create_async_engine(engine_url(request))
    if on_sqlite:

        @sa.event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.close()

    async with engine.connect() as connection:
        setting = "PRAGMA synchronous" if on_sqlite else "SHOW synchronous_commit"
        settings = require(
            "synchronous" if on_sqlite else "synchronous_commit",
            await connection.scalar(sa.text(setting)), 2, "on",
        )  # fmt: skip
    session = SQLAlchemySession("bench", engine=engine, create_tables=True)
    assert await session.get_items() == []  # makes the tables

    async def turn(user: str, assistant: str) -> None:
        await session.add_items([{"role": "user", "content": user}])
        await session.add_items([{"role": "assistant", "content": assistant}])

    async def size() -> int:
        async with engine.connect() as connection:
            if on_sqlite:
                await connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
                return turns.file_size(request.database)
            return int(await connection.scalar(sa.text(turns.SERVER_SIZE)))

    report(durability=settings, **await turns.converse(request, turn, size))


asyncio.run(main())
