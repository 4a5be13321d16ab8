"""Behind a pooler in transaction mode: every statement runs inside an explicit transaction of ours.

Such a pooler lends a server's session for one transaction. Nothing may outlive it: no session setting, no
named statement, no advisory lock, no LISTEN. The transaction asks for READ COMMITTED, which the session can
not be told, and keeps one session for the two round trips in which a statement's types are read and it runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any

import asyncpg

POOLED = MappingProxyType({"statement_cache_size": 0})
"""What asyncpg is told so that it names no statement."""

_IDENTITY = "SELECT system_identifier, current_database() FROM pg_control_system()"


@asynccontextmanager
async def transaction_of(
    connection: Any, timeout_s: float | None, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[None]:
    """A transaction for a statement or two, with `settings` that end with it.

    An error of COMMIT is raised as it is: the outcome may be unknown.
    """
    begin = ["BEGIN ISOLATION LEVEL READ COMMITTED"]
    begin += [f"SET LOCAL {name} = {value}" for name, value in settings.items()]
    try:
        await connection.execute("; ".join(begin), timeout=timeout_s)
        yield
    except BaseException:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await connection.execute("ROLLBACK", timeout=timeout_s)
        raise
    await connection.execute("COMMIT", timeout=timeout_s)


async def same_database(pooled: Any, direct: Any, timeout_s: float) -> bool:
    """Whether two connections lead to one database; True as well where the user may not find out."""
    try:
        async with transaction_of(pooled, timeout_s):
            behind = await pooled.fetchrow(_IDENTITY, timeout=timeout_s)
        return bool(tuple(behind) == tuple(await direct.fetchrow(_IDENTITY, timeout=timeout_s)))
    except asyncpg.InsufficientPrivilegeError:
        return True


class PooledSession:
    """What the journal's flush needs of a connection, each statement in a transaction of its own."""

    def __init__(self, connection: Any, settings: Mapping[str, str]) -> None:
        self._connection = connection
        self._settings = settings
        self.options = connection.options

    async def prepare(self, text: str) -> PooledStatement:
        """Nothing is prepared: a statement that only looks so."""
        return PooledStatement(self, text)

    async def fetch(self, text: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Run `text` and commit."""
        async with transaction_of(self._connection, timeout, self._settings):
            rows: list[Any] = await self._connection.fetch(text, *args, timeout=timeout)
        return rows

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection."""
        await self._connection.close(timeout=timeout)

    def terminate(self) -> None:
        """Drop the connection."""
        self._connection.terminate()


class PooledStatement:
    """A text that is run as a prepared statement would be."""

    def __init__(self, session: PooledSession, text: str) -> None:
        self._session = session
        self._text = text

    async def fetchrow(self, *args: Any, timeout: float | None = None) -> Any:
        """The first row."""
        rows = await self._session.fetch(self._text, *args, timeout=timeout)
        return rows[0] if rows else None
