"""The pool of a PostgreSQL store: every connection of it leads to the server that is in use.

When the store leaves a server its pool is emptied and the next statement makes a new one. What runs on the
old one ends first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg

from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.store.drivers.base import Row
from holdfast.store.drivers.postgresql_connection import (
    Connection,
    PostgresqlOptions,
    close_quietly,
    end_if_silent,
)
from holdfast.store.drivers.postgresql_errors import FAILURES, translate, translated
from holdfast.store.drivers.postgresql_spares import Spares
from holdfast.store.figures import PoolFigures, Waits

_CALM_S = 10.0
_FAREWELL_S = 5.0


class PostgresqlPool:
    """Connections for reads and transactions, made when first needed and again after `empty`."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        options: PostgresqlOptions,
        refused: Callable[[Any, HoldfastError], None],
    ) -> None:
        """`refused` hears of every error of ours on a connection."""
        self._connect = connect
        self._options = options
        self._refused = refused
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()
        self._spares = Spares(partial(self._give_back, None))
        self._waits = Waits()
        self._calm_from = 0.0
        self._timeout_s = options.statement_timeout.total_seconds()
        self._lifetime_s = options.max_lifetime.total_seconds()
        self._emptying: set[asyncio.Future[None]] = set()
        self._opened = False

    async def open(self) -> None:
        """Connect once to see that a server answers. Raises what connecting raises."""
        self._opened = True
        await self._acquire()

    async def close(self) -> None:
        """Close every connection; what still runs gets a few seconds."""
        self._opened = False
        for emptying in self._emptying:
            emptying.cancel()
        await asyncio.gather(*self._emptying, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            await _empty(pool, self._spares, _FAREWELL_S)

    def empty(self) -> None:
        """Let go of all connections there are now; what comes next gets new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            emptying = asyncio.ensure_future(_empty(pool, self._spares, self._timeout_s))
            self._emptying.add(emptying)
            emptying.add_done_callback(self._emptying.discard)

    def figures(self) -> PoolFigures:
        """See `Driver.pool_figures`."""
        pool = self._pool
        size, idle = (0, 0) if pool is None else (pool.get_size(), pool.get_idle_size())
        return self._waits.figures(size=size, idle=idle + len(self._spares), most=self._options.pool_max)

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Any]:
        """A connection for the block. Raises `PoolTimeout` and what connecting raises."""
        pool = self._pool or await self._acquire()
        connection = await self._take(pool)
        try:
            yield connection
        except HoldfastError as error:
            end_if_silent(connection, error.__cause__)
            self._refused(connection, error)
            raise
        finally:
            await asyncio.shield(self._give_back(pool, connection))

    async def fetch(self, text: str, *args: Any) -> list[Row]:
        """Run one statement: `lend` written out, since this is the path of every small read."""
        pool, is_kept = self._pool or await self._acquire(), False
        connection = await self._take(pool)
        try:
            if self._options.direct is None:  # a pooler's session keeps no plans of ours
                await connection.plan_anew(self._timeout_s)
            rows: list[Row] = await connection.fetch(text, *args, timeout=self._timeout_s)
            is_calm = time.monotonic() >= self._calm_from and not self._waits.waiting
            if pool is self._pool and is_calm and not self._is_old(connection):
                self._spares.keep(connection)
                is_kept = True
            return rows
        except FAILURES as error:
            end_if_silent(connection, error)
            failure = translate(error, "statement")
            self._refused(connection, failure)
            raise failure from error
        finally:
            if not is_kept:
                await asyncio.shield(self._give_back(pool, connection))

    async def _acquire(self) -> asyncpg.Pool[Any]:
        if not self._opened:
            raise StoreUnavailable("the store is not open", fix="open it first: `async with …`")
        timeout_s = self._options.acquire_timeout.total_seconds()
        try:
            # One at a time looks for a server; who waited for that long enough is told so.
            async with asyncio.timeout(timeout_s):
                await self._opening.acquire()
        except TimeoutError as error:
            raise self._waits.too_long(timeout_s, self._options.pool_max, self._options.place) from error
        try:
            if self._pool is None:
                pool = await self._make()
                self._spares = Spares(partial(self._give_back, pool))
                self._pool = pool
            return self._pool
        finally:
            self._opening.release()

    async def _make(self) -> asyncpg.Pool[Any]:
        async def connect(*_: Any, **__: Any) -> Connection:
            return await self._connect()

        options = self._options
        with translated(options.place):
            return await asyncpg.create_pool(
                connect=connect,
                connection_class=Connection,
                min_size=min(options.pool_min, options.pool_max),
                max_size=options.pool_max,
                max_inactive_connection_lifetime=options.idle_timeout.total_seconds(),
            )

    async def _take(self, pool: asyncpg.Pool[Any]) -> Any:
        if (spare := self._spares.take()) is not None:
            self._waits.acquired += 1
            return spare
        options = self._options
        timeout_s = options.acquire_timeout.total_seconds()
        began = self._waits.begin()
        try:
            return await pool.acquire(timeout=timeout_s)
        except TimeoutError as error:
            raise self._waits.too_long(timeout_s, options.pool_max, options.place) from error
        except (*FAILURES, HoldfastError) as error:
            # Who comes back to a server shares connections by the pool, and opens fewer at once.
            self._calm_from = time.monotonic() + _CALM_S
            if isinstance(error, HoldfastError):
                raise
            raise translate(error, options.place) from error
        finally:
            self._waits.end(began)

    async def _give_back(self, pool: asyncpg.Pool[Any] | None, connection: Any) -> None:
        # A connection that broke has left the pool by itself, and refuses every question about it.
        with suppress(*FAILURES):
            if not connection.is_closed() and self._is_old(connection):
                await close_quietly(connection)
            if pool is not None:
                await pool.release(connection)

    def _is_old(self, connection: Any) -> bool:
        return bool(time.monotonic() - connection.born > self._lifetime_s)


async def _empty(pool: asyncpg.Pool[Any], spares: Spares, patience_s: float) -> None:
    """Close a pool when what runs on it has ended, or when its time is up."""
    try:
        await spares.close()
        await asyncio.wait_for(pool.close(), patience_s)
    except (*FAILURES, asyncio.CancelledError) as error:
        pool.terminate()
        if isinstance(error, asyncio.CancelledError):
            raise
