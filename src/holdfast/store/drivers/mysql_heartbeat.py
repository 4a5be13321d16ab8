"""The lease thread's connection: asyncmy on an event loop that only this thread runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from holdfast.errors import HoldfastError
from holdfast.records.executions import BootId
from holdfast.store.drivers.mysql_connection import MysqlConnection
from holdfast.store.drivers.mysql_errors import translated
from holdfast.store.drivers.mysql_text import Scripts

_MICROSECOND = timedelta(microseconds=1)


class MysqlHeartbeat:
    """See `Heartbeat`. Connects when first used, and again after an error; `scripts` are its own."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[MysqlConnection]],
        is_left: Callable[[MysqlConnection], bool],
        scripts: Scripts,
        timeout_s: float,
    ) -> None:
        self._connect = connect
        self._is_left = is_left
        self._scripts = scripts
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: MysqlConnection | None = None

    def renew(self, boot: BootId, lease: timedelta) -> bool:
        """See `Heartbeat.renew`."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(self._renew(boot, lease))

    async def _renew(self, boot: BootId, lease: timedelta) -> bool:
        # An answer that comes behind the next renewal is worth nothing, and a connection that does not answer
        # may be half-open: the next try gets a new one.
        patience_s = min(self._timeout_s, lease.total_seconds() / 3)
        connection = self._connection
        if connection is None or connection.is_broken or connection.is_stale or self._is_left(connection):
            self._drop()
            connection = self._connection = await self._connect()
        script = self._scripts.named("workers.renew", connection.server.binary)
        try:
            with translated("renewing the lease"):
                async with asyncio.timeout(patience_s):
                    rows = await connection.fetch(script, (boot, round(lease / _MICROSECOND)), patience_s)
        except HoldfastError:
            self._drop()
            raise
        return bool(rows)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None

    def close(self) -> None:
        """See `Heartbeat.close`."""
        self._drop()
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))  # lets the transport's last callback run
            self._loop.close()
        self._loop = None
