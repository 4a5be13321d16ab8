"""MySQL and MariaDB: a pool for reads and transactions, and one dedicated connection for the journal.

READ COMMITTED is set on every session: under REPEATABLE READ, the servers' default, a locking read locks the
gaps between rows as well. After any error there is a ROLLBACK, since the server keeps what a transaction did
before the statement that failed. A statement that is given up, by its caller or because its time is up,
costs the connection, and the session that goes on with it is killed from another one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from holdfast.errors import (
    HoldfastError,
    ReadOnlyServer,
    RetryLater,
    StoreUnavailable,
    TransactionConflict,
    UnknownOutcome,
)
from holdfast.records.executions import ExecutionKey
from holdfast.store.drivers.base import Batch, Heartbeat, Isolation, Reply, Row, Transaction
from holdfast.store.drivers.hosts import Hosts
from holdfast.store.drivers.mysql_connection import MysqlConnection, MysqlOptions, connect
from holdfast.store.drivers.mysql_errors import (
    DEADLOCK,
    FAILURES,
    is_connection_lost,
    number_of,
    translate,
    translated,
)
from holdfast.store.drivers.mysql_flush import MysqlFlush
from holdfast.store.drivers.mysql_heartbeat import MysqlHeartbeat
from holdfast.store.drivers.mysql_migrations import MysqlMigrations
from holdfast.store.drivers.mysql_pool import MysqlPool
from holdfast.store.drivers.mysql_text import Script, Scripts
from holdfast.store.drivers.mysql_transaction import MysqlTransaction
from holdfast.store.drivers.tls import Encryption
from holdfast.store.figures import PoolFigures
from holdfast.store.hints import HintSource
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.sql import Statements

__all__ = ["MysqlDriver", "MysqlOptions"]

_DEADLOCKS_MAX = 5
_DEADLOCK_PAUSE_S = 0.01
_KILLS_WAIT_S = 2.0
_OURS = b"SELECT 1 FROM information_schema.processlist WHERE db = DATABASE() AND command = 'Query'"


class MysqlDriver:
    """A store in one database of a MySQL or MariaDB server."""

    dialect: Literal["sqlite", "postgresql", "mysql"] = "mysql"
    flushes_here = False
    shared = True
    schema = ""
    path: Path | None = None

    def __init__(self, options: MysqlOptions, *, clock_shift: timedelta = timedelta(0)) -> None:
        self.options = options
        shift_us = clock_shift // timedelta(microseconds=1)
        now = "UTC_TIMESTAMP(6)"
        self.now = f"({now} + INTERVAL {shift_us} MICROSECOND)" if shift_us else now
        self._sql = Statements("mysql", now=self.now)
        self._scripts = Scripts(self._sql)
        self._timeout_s = options.statement_timeout.total_seconds()
        patience_s = options.connect_timeout.total_seconds()
        self._hosts = Hosts(options.each(), patience_s, moved=self._moved)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: MysqlPool | None = None
        self._figures = MysqlPool(self._connect, options).figures()
        self._journal: MysqlFlush | None = None
        self._journal_left = False
        self._kills = set[asyncio.Task[None]]()

    async def open(self) -> None:
        """Connect once; see `Driver.open`. Raises `UnsupportedStorage` for a server that may lose commits."""
        self._loop = asyncio.get_running_loop()
        pool = MysqlPool(self._connect, self.options, self._notice)
        await pool.fill()
        self._pool = pool

    async def settle(self) -> None:
        """Nothing; see `Driver.settle`."""

    async def close(self) -> None:
        """Close the journal's connection and the pool."""
        journal, pool, self._journal, self._pool = self._journal, self._pool, None, None
        if journal is not None:
            await journal.connection.close()
        if pool is not None:
            await pool.close()
            self._figures = pool.figures()
        if self._kills:
            _, late = await asyncio.wait(self._kills, timeout=_KILLS_WAIT_S)
            for kill in late:
                kill.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.sleep(0)  # in which the sockets are closed

    async def connect(self) -> MysqlConnection:
        """A connection of its own, outside the pool and for any loop."""
        return await self._hosts.connect(connect)

    async def _connect(self) -> MysqlConnection:
        return await self._hosts.connect(partial(connect, abandoned=self._kill_soon))

    async def encryption(self) -> list[Encryption]:
        """See `Driver.encryption`."""
        async with self._lender().lend() as connection:
            return [connection.encryption]

    def _notice(self, connection: MysqlConnection, error: ReadOnlyServer) -> None:
        """Give up a server that takes no writes any more, as one that was demoted."""
        if self._hosts.leave(connection.options, error):
            self._drain()

    def _is_left(self, connection: MysqlConnection) -> bool:
        """Whether a connection of its own leads to a server that is no longer in use."""
        return connection.options is not self._hosts.used

    def _moved(self) -> None:
        # The thread of the lease may have been the first to see it.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Let go of every connection to a server that is no longer in use; what runs on them ends first."""
        self._journal_left = True
        if self._pool is not None:
            self._pool.expire()

    def _kill_soon(self, session: int, options: MysqlOptions) -> None:
        kill = asyncio.get_running_loop().create_task(self._kill(session, options), name="holdfast kill")
        self._kills.add(kill)
        kill.add_done_callback(self._kills.discard)

    async def _kill(self, session: int, options: MysqlOptions) -> None:
        """End a session that was left in the middle of a statement, and with it the locks it holds."""
        with suppress(HoldfastError, *FAILURES):  # it may have ended by itself
            killer = await connect(options, options.connect_timeout.total_seconds())
            try:
                # Another server may have taken over meanwhile, and have given the number to somebody else.
                ours = b"%b AND id = %d" % (_OURS, session)
                if (await killer.run([ours], self._timeout_s))[0]:
                    await killer.run([b"KILL %d" % session], self._timeout_s)
            finally:
                killer.terminate()

    def _lender(self) -> MysqlPool:
        if self._pool is None:
            raise StoreUnavailable("the store is not open", fix="open it first: `async with …`")
        return self._pool

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`. A script is one transaction."""
        async with self._lender().lend() as connection:
            return await self._run(connection, self._scripts.named(name, connection.server.binary), args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        async with self._lender().lend() as connection:
            return await self._run(connection, self._scripts.of(text, connection.server.binary), args)

    async def _run(self, connection: MysqlConnection, script: Script, args: tuple[Any, ...]) -> list[Row]:
        """Run a script; one that lost against another in a deadlock has done nothing, and runs again."""
        attempt = 0
        while True:
            try:
                with translated("statement"):
                    return await connection.fetch(script, args, self._timeout_s)
            except TransactionConflict as error:
                attempt += 1
                cause = error.__cause__
                if attempt > _DEADLOCKS_MAX or cause is None or number_of(cause) != DEADLOCK:
                    raise
            await asyncio.sleep(random.uniform(0, _DEADLOCK_PAUSE_S * 2**attempt))

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[Transaction]:
        """See `Driver.transaction`."""
        async with self._lender().lend() as connection:
            transaction = MysqlTransaction(connection, self._scripts, self._timeout_s, isolation)
            try:
                yield transaction
                await transaction.commit()
            except BaseException:
                await transaction.roll_back()
                raise

    async def flush(self, batch: Batch) -> list[Reply]:
        """See `Driver.flush`. After an error that is not the data's the next call opens a new connection."""
        journal = await self._open_journal()
        try:
            return await journal.write(batch, self._timeout_s)
        except FAILURES as error:
            failure: HoldfastError
            if not is_connection_lost(error):
                failure = translate(error, "journal flush")  # rolled back
            elif journal.committing:
                failure = UnknownOutcome("the connection was lost during a flush", where=self.options.place)
            else:
                failure = StoreUnavailable("the connection was lost before a flush", where=self.options.place)
            if isinstance(failure, ReadOnlyServer):
                self._notice(journal.connection, failure)
            if isinstance(failure, RetryLater):
                # The next try may find another server behind the name, such as the one that took over.
                self._drop_journal()
            raise failure from error
        except asyncio.CancelledError:
            self._drop_journal()
            raise

    async def _open_journal(self) -> MysqlFlush:
        self._lender()
        journal = self._journal
        if journal is not None and (
            self._journal_left or journal.connection.is_broken or journal.connection.is_stale
        ):
            self._drop_journal()
            journal = None
        if journal is None:
            self._journal_left = False
            journal = self._journal = MysqlFlush(await self._connect(), self._scripts)
        return journal

    def _drop_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.connection.terminate()

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        """See `Driver.put_payload`."""
        await self.fetch("journal.put_payload", execution, digest, tenant, body)

    @asynccontextmanager
    async def migrations(self) -> AsyncIterator[MigrationSession]:
        """A connection of its own, without a statement timeout."""
        connection = await self._hosts.connect(partial(connect, limited=False))
        try:
            yield MysqlMigrations(connection, self.options.database)
        finally:
            await connection.close()

    def heartbeat(self) -> Heartbeat | None:
        """A connection on a loop of its own in the lease thread."""
        return MysqlHeartbeat(self.connect, self._is_left, Scripts(self._sql), self._timeout_s)

    def pool_figures(self) -> PoolFigures:
        """See `Driver.pool_figures`."""
        return self._figures if self._pool is None else self._pool.figures()

    def hints(self) -> HintSource | None:
        """None: the server has no way to tell, so work of other processes is noticed by polling."""
        return None
