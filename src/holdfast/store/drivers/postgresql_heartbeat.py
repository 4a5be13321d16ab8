"""The lease thread's connection: asyncpg on an event loop that only this thread runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from holdfast.errors import HoldfastError
from holdfast.records.executions import BootId
from holdfast.store.drivers.postgresql_connection import Connection
from holdfast.store.drivers.postgresql_errors import translated
from holdfast.store.sql import Statements


class PostgresqlHeartbeat:
    """See `Heartbeat`. Connects when first used, and again after an error."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        is_left: Callable[[Connection], bool],
        sql: Statements,
        timeout_s: float,
    ) -> None:
        self._connect = connect
        self._is_left = is_left
        self._sql = sql
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None

    def renew(self, boot: BootId, lease: timedelta) -> bool:
        """See `Heartbeat.renew`."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(self._renew(boot, lease))

    async def _renew(self, boot: BootId, lease: timedelta) -> bool:
        if self._connection is not None and self._is_left(self._connection):
            self._connection.terminate()
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        # An answer that comes behind the next renewal is worth nothing, and a connection that does not answer
        # may be half-open: the next try gets a new one.
        patience_s = min(self._timeout_s, lease.total_seconds() / 3)
        try:
            with translated("renewing the lease"):
                rows = await self._connection.fetch(
                    self._sql["workers.renew"], boot, lease, timeout=patience_s
                )
        except HoldfastError:
            self._connection.terminate()
            self._connection = None
            raise
        return bool(rows)

    def close(self) -> None:
        """See `Heartbeat.close`."""
        if self._connection is not None:
            self._connection.terminate()
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))  # lets the transport's last callback run
            self._loop.close()
        self._connection = self._loop = None
