"""The migration session of PostgreSQL: a direct connection and a session-level advisory lock."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import asyncpg

from holdfast.errors import MigrationLocked, UnknownOutcome
from holdfast.store.drivers.postgresql_errors import is_connection_lost, translate, translated

_RETRY_S = 0.1
_LOCK_TIMEOUT = "10s"


class PostgresqlMigrations:
    """See `MigrationSession`."""

    dialect = "postgresql"
    binary: str | None = None
    undoes_ddl = True

    def __init__(self, connection: asyncpg.Connection[Any], schema: str) -> None:
        self._connection = connection
        self.schema: str | None = schema
        digest = hashlib.blake2b(f"holdfast migrations {schema}".encode(), digest_size=8).digest()
        self._lock_id = int.from_bytes(digest, "big", signed=True)

    @asynccontextmanager
    async def exclusive(self, timeout: timedelta) -> AsyncIterator[None]:
        """See `MigrationSession.exclusive`."""
        deadline = time.monotonic() + timeout.total_seconds()
        while not await self._try_lock():
            if time.monotonic() >= deadline:
                raise MigrationLocked(f"another process is migrating schema {self.schema}")
            await asyncio.sleep(_RETRY_S)
        try:
            # Bounds how long a statement queues for a table others use, and with it how long it makes
            # everybody behind it wait.
            await self.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            yield
        finally:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await self._connection.execute("SELECT pg_advisory_unlock($1)", self._lock_id)

    async def _try_lock(self) -> bool:
        with translated("migration lock"):
            return bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", self._lock_id))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """See `MigrationSession.transaction`."""
        transaction = self._connection.transaction(isolation="read_committed")
        with translated("begin"):
            await transaction.start()
        try:
            yield
        except BaseException:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await asyncio.shield(transaction.rollback())
            raise
        try:
            await transaction.commit()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if is_connection_lost(error):
                raise UnknownOutcome("the connection was lost while a migration committed") from error
            raise translate(error, "commit") from error

    async def execute(self, statement: str, *args: object) -> None:
        """See `MigrationSession.execute`."""
        with translated("migration"):
            await self._connection.execute(statement, *args)

    async def fetch(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        """See `MigrationSession.fetch`."""
        with translated("migration"):
            return [tuple(row) for row in await self._connection.fetch(statement, *args)]
