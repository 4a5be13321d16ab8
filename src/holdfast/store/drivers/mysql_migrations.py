"""The migration session of MySQL and MariaDB: a direct connection and a lock by name.

The lock is the server's and ends with the session: also with a killed process, and not before the statement
that it left behind, so nobody goes on with a migration while a part of it still runs. It holds on one
server; on a cluster of several that take writes, the notes of the steps stop a second one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from holdfast.errors import MigrationLocked, UnknownOutcome
from holdfast.store.drivers.base import Row
from holdfast.store.drivers.mysql_connection import COMMIT, START, MysqlConnection
from holdfast.store.drivers.mysql_errors import FAILURES, is_connection_lost, translate, translated
from holdfast.store.drivers.mysql_text import compiled

_RETRY_S = 0.1
_LOCK_S = 10.0


class MysqlMigrations:
    """See `MigrationSession`."""

    dialect = "mysql"
    schema: str | None = None
    undoes_ddl = False

    def __init__(self, connection: MysqlConnection, database: str) -> None:
        self._connection = connection
        self._database = database
        self.binary: str | None = connection.server.binary
        # The names of locks are the whole server's, and short.
        self._lock = f"holdfast migrations {hashlib.blake2b(database.encode(), digest_size=8).hexdigest()}"

    @asynccontextmanager
    async def exclusive(self, timeout: timedelta) -> AsyncIterator[None]:
        """See `MigrationSession.exclusive`."""
        deadline = time.monotonic() + timeout.total_seconds()
        while not await self._try_lock():
            if time.monotonic() >= deadline:
                raise MigrationLocked(f"another process is migrating database {self._database}")
            await asyncio.sleep(_RETRY_S)
        try:
            yield
        finally:
            with suppress(*FAILURES):
                await self._run("SELECT release_lock(?1)", (self._lock,), timeout_s=_LOCK_S)

    async def _try_lock(self) -> bool:
        with translated("migration lock"):
            rows = await self._run("SELECT get_lock(?1, 0)", (self._lock,), timeout_s=_LOCK_S)
        return bool(rows[0][0] == 1)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """See `MigrationSession.transaction`."""
        with translated("begin"):
            await self._connection.run([START], _LOCK_S)
        try:
            yield
        except BaseException:
            await asyncio.shield(self._connection.roll_back())
            raise
        try:
            await self._connection.run([COMMIT], None)
        except FAILURES as error:
            if is_connection_lost(error):
                raise UnknownOutcome("the connection was lost while a migration committed") from error
            await self._connection.roll_back()
            raise translate(error, "commit") from error

    async def execute(self, statement: str, *args: object) -> None:
        """See `MigrationSession.execute`."""
        with translated("migration"):
            await self._run(statement, args)

    async def fetch(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        """See `MigrationSession.fetch`."""
        with translated("migration"):
            return [tuple(row) for row in await self._run(statement, args)]

    async def _run(
        self, statement: str, args: Sequence[object], *, timeout_s: float | None = None
    ) -> list[Row]:
        # A file's statement is sent as it is written: a question mark in it is no placeholder.
        texts = compiled(statement).render(args) if args else [statement.encode()]
        return (await self._connection.run(texts, timeout_s))[0]
