"""The migration session of SQLite: the writer's connection, and a lock file beside the database.

The lock is the operating system's, so it ends with the process that holds it; every migration still runs in
`BEGIN IMMEDIATE`, so even two processes that could not see each other's lock file would not mix.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw

from holdfast.errors import MigrationLocked
from holdfast.store.drivers.sqlite_errors import translated
from holdfast.store.drivers.sqlite_threads import ConnectionThread

_RETRY_S = 0.05


class SqliteMigrations:
    """See `MigrationSession`."""

    dialect = "sqlite"
    binary: str | None = None
    undoes_ddl = True
    schema: str | None = None

    def __init__(self, thread: ConnectionThread, path: Path | None) -> None:
        self._thread = thread
        self._path = path

    @asynccontextmanager
    async def exclusive(self, timeout: timedelta) -> AsyncIterator[None]:
        """See `MigrationSession.exclusive`."""
        if self._path is None:
            yield
            return
        lock_path = self._path.with_name(self._path.name + ".migrate-lock")
        descriptor = os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + timeout.total_seconds()
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise MigrationLocked(f"another process is migrating {self._path}")
                await asyncio.sleep(_RETRY_S)
            yield
        finally:
            os.close(descriptor)  # releases the lock; the file stays, or a waiter would hold a dead one

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """See `MigrationSession.transaction`."""
        await self.execute("BEGIN IMMEDIATE")
        try:
            yield
            await self.execute("COMMIT")
        except BaseException:
            await asyncio.shield(self._thread.submit(_rollback))
            raise

    async def execute(self, statement: str, *args: object) -> None:
        """See `MigrationSession.execute`."""
        await self._thread.submit(_execute, statement, args)

    async def fetch(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        """See `MigrationSession.fetch`."""
        return await self._thread.submit(_execute, statement, args)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _execute(connection: apsw.Connection, statement: str, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    with translated("migration"):
        return connection.execute(statement, args or None).fetchall()


def _rollback(connection: apsw.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
