"""The pool of a MySQL or MariaDB store: bounded, first come first served, and it lends only what works."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from holdfast.errors import ReadOnlyServer
from holdfast.store.drivers.mysql_connection import MysqlConnection, MysqlOptions
from holdfast.store.figures import PoolFigures, Waits

_TRUSTED_S = 5.0
"""A connection that was used within this time is lent without asking the server."""


_CLOSE_WAIT_S = 5.0


class MysqlPool:
    """Connections that are made when they are needed; `pool_min` of them stay open while nobody needs any."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[MysqlConnection]],
        options: MysqlOptions,
        refused: Callable[[MysqlConnection, ReadOnlyServer], None] = lambda connection, error: None,
    ) -> None:
        """`refused` hears of a connection whose server takes no writes."""
        self._connect = connect
        self._refused = refused
        self._options = options
        self._free = asyncio.Semaphore(options.pool_max)
        self._idle: deque[MysqlConnection] = deque()  # used last at the right
        self._trimming: asyncio.TimerHandle | None = None
        self._closed = False
        self._places_taken = 0
        self._lent = set[MysqlConnection]()
        self._all_back = asyncio.Event()
        self._waits = Waits()
        self._expired_at = 0.0

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[MysqlConnection]:
        """A connection for the block, outside of any transaction; left inside one it is closed.

        Raises `PoolTimeout` and what connecting raises.
        """
        connection = await self._take()
        try:
            yield connection
        except ReadOnlyServer as error:
            self._refused(connection, error)
            raise
        finally:
            self._take_back(connection)
            self._give_place_back()

    def expire(self) -> None:
        """Lend none of the present connections again: idle ones are closed, others when they come back."""
        self._expired_at = time.monotonic()
        idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.terminate()

    def figures(self) -> PoolFigures:
        """See `Driver.pool_figures`."""
        return self._waits.figures(
            size=self._places_taken + len(self._idle), idle=len(self._idle), most=self._options.pool_max
        )

    async def _take(self) -> MysqlConnection:
        began = self._waits.begin()
        try:
            await self._take_place()
            try:
                connection = await self._fit()
                self._lent.add(connection)
                return connection
            except BaseException:
                self._give_place_back()
                raise
        finally:
            self._waits.end(began)

    async def _take_place(self) -> None:
        timeout_s = self._options.acquire_timeout.total_seconds()
        try:
            async with asyncio.timeout(timeout_s):
                await self._free.acquire()
        except TimeoutError as error:
            fix = "raise storage.mysql.pool.max or lower the concurrency"
            most, place = self._options.pool_max, self._options.place
            raise self._waits.too_long(timeout_s, most, place, fix) from error
        self._places_taken += 1

    def _give_place_back(self) -> None:
        self._places_taken -= 1
        self._free.release()

    async def fill(self) -> None:
        """Connect once, so that what is wrong with the address shows at once."""
        async with self.lend():
            pass

    async def close(self) -> None:
        """Close what is idle now, the rest when it comes back, or in a few seconds."""
        self._closed = True
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
        idle, self._idle = self._idle, deque()
        await asyncio.gather(*(connection.close() for connection in idle))
        if self._lent:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_WAIT_S):
                    await self._all_back.wait()
            for connection in self._lent:
                connection.terminate()

    async def _fit(self) -> MysqlConnection:
        """The connection that was used last, if it is in order; else another one, else a new one."""
        while self._idle:
            connection = self._idle.pop()
            if self._is_worn(connection):
                connection.terminate()
            elif time.monotonic() - connection.last_used < _TRUSTED_S or await connection.is_alive():
                return connection
        return await self._connect()

    def _is_worn(self, connection: MysqlConnection) -> bool:
        age_s = time.monotonic() - connection.born
        return (
            connection.is_broken
            or connection.is_stale
            or connection.born <= self._expired_at
            or age_s > self._options.max_lifetime.total_seconds()
        )

    def _take_back(self, connection: MysqlConnection) -> None:
        self._lent.discard(connection)
        if self._closed and not self._lent:
            self._all_back.set()
        if self._closed or self._is_worn(connection) or connection.in_transaction:
            connection.terminate()
            return
        self._idle.append(connection)
        if self._trimming is None:
            self._trim_later()

    def _trim_later(self) -> None:
        delay_s = max(1.0, self._options.idle_timeout.total_seconds() / 4)
        self._trimming = asyncio.get_running_loop().call_later(delay_s, self._trim)

    def _trim(self) -> None:
        """Close what nobody used for long, but keep `pool_min`; those that the server ended do not count."""
        self._trimming = None
        enough_s = self._options.idle_timeout.total_seconds()
        now = time.monotonic()
        kept = deque[MysqlConnection]()
        for connection in reversed(self._idle):
            is_wanted = len(kept) < self._options.pool_min or now - connection.last_used < enough_s
            if is_wanted and not self._is_worn(connection):
                kept.appendleft(connection)
            else:
                connection.terminate()
        self._idle = kept
        if kept:
            self._trim_later()
