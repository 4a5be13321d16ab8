"""Private, empty databases for one measurement each: made before it, dropped after it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PREFIX = "hf_bench_"


def server_url() -> str:
    """The PostgreSQL server to measure on: `HOLDFAST_TEST_POSTGRES_URL`, or one on this machine."""
    return os.environ.get("HOLDFAST_TEST_POSTGRES_URL", "postgresql://127.0.0.1:5432/postgres")


@contextmanager
def private_database(backend: str, folder: Path) -> Iterator[str]:
    """Yield the path (sqlite) or URL (postgresql) of an empty database that is gone afterwards."""
    if backend == "sqlite":
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as place:
            yield str(Path(place) / "bench.db")
        return
    name = f"{PREFIX}{os.getpid()}_{os.urandom(3).hex()}"
    asyncio.run(_execute(f"CREATE DATABASE {name}"))
    try:
        # What the last system left dirty is written now, and not during this one's measurement.
        with suppress(PermissionError):
            asyncio.run(_execute("CHECKPOINT"))
        yield urlsplit(server_url())._replace(path=f"/{name}").geturl()
    finally:
        asyncio.run(_execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def server_facts() -> dict[str, str]:
    """Version and durability settings of the server; refuses one that acknowledges before its disk has."""
    facts: dict[str, str] = asyncio.run(_settings())
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        if facts[setting] != "on":
            raise RuntimeError(
                f"PostgreSQL runs with {setting} = {facts[setting]}: nothing it says is durable"
            )
    return facts


async def _settings() -> dict[str, str]:
    connection = await _connect()
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}
    finally:
        await connection.close()


async def _execute(statement: str) -> None:
    import asyncpg

    connection = await _connect()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise PermissionError(str(error)) from error
    finally:
        await connection.close()


async def _connect() -> Any:
    import asyncpg

    return await asyncpg.connect(server_url())
