"""Database servers of our own: a test may restart them, and end the sessions of everybody."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import asyncpg
from asyncmy.errors import MySQLError

from scripts import mariadb, postgres
from tests.databases import MysqlAdministrator

KINDS = ("postgresql", "mysql")
_CONNECT_S = 5.0


class Restartable(Protocol):
    """A private server, of either kind."""

    def restart(self, mode: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Server:
    """A private server and the database on it that the store is in."""

    kind: str
    private: Restartable
    url: str

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        """End all sessions and start again; or die at once and recover from the log. Blocks."""
        self.private.restart(mode)


@contextmanager
def server_of_our_own(
    kind: str, *, address: str = "127.0.0.1", network: str | None = None
) -> Iterator[Server]:
    """A server for the block. It listens on `address`, and lets clients of `network` in as well."""
    maker: Any = {"postgresql": postgres, "mysql": mariadb}[kind]
    programs = maker.programs()
    assert programs is not None, f"{maker.PROGRAMS}: not found; apt-get install {maker.PACKAGE}"
    private, record = maker.start_private(programs, keep=False, address=address, network=network)
    try:
        # The database that MariaDB starts with is its own.
        url = MysqlAdministrator(private.url).create() if kind == "mysql" else private.url
        yield Server(kind, private, url)
    finally:
        maker.release(private, record)


async def end_sessions(url: str, chance: random.Random, most: int) -> int:
    """End one to `most` sessions in the database at `url`, whoever has them; how many were ended."""
    count = chance.randint(1, most)
    return await (_kill if url.startswith("mysql") else _terminate)(url, chance, count)


async def _terminate(url: str, chance: random.Random, count: int) -> int:
    ended = 0
    with suppress(asyncpg.PostgresError, OSError):
        connection = await asyncpg.connect(url, timeout=_CONNECT_S)
        try:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for row in chance.sample(rows, k=min(len(rows), count)):
                await connection.execute("SELECT pg_terminate_backend($1)", row["pid"])
                ended += 1
        finally:
            await connection.close(timeout=_CONNECT_S)
    return ended


async def _kill(url: str, chance: random.Random, count: int) -> int:
    ended = 0

    async def kill(cursor: Any) -> None:
        nonlocal ended
        await cursor.execute(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID() ORDER BY id"
        )
        rows = list(await cursor.fetchall())
        for (session,) in chance.sample(rows, k=min(len(rows), count)):
            with suppress(MySQLError):  # it may have ended by itself
                await cursor.execute(f"KILL CONNECTION {session}")
                ended += 1

    with suppress(MySQLError, OSError):
        await mariadb.asking(url, kill)
    return ended
