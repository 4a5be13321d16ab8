"""PostgreSQL: a pool for reads and transactions, and one dedicated connection for the journal.

Behind a pooler in transaction mode (`options.direct` is set) both go by the pooler, and what needs a session
of its own (migrations, the lease, notifications) goes to the server itself.

READ COMMITTED is asked for explicitly. Every setting of ours is local to a transaction, so a connection goes
back to the pool without a reset query, and nothing leaks behind a pooler. Statements name their schema, so
the search path does not matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from holdfast.errors import (
    DirectUrlElsewhere,
    HoldfastError,
    ReadOnlyServer,
    RetryLater,
    StoreUnavailable,
    UnknownOutcome,
)
from holdfast.records.executions import ExecutionKey
from holdfast.store.drivers.base import Batch, Heartbeat, Isolation, Reply, Row, Transaction
from holdfast.store.drivers.hosts import Hosts
from holdfast.store.drivers.postgresql_connection import (
    Connection,
    PostgresqlOptions,
    close_quietly,
    connect,
    encryption,
)
from holdfast.store.drivers.postgresql_errors import (
    FAILURES,
    detecting_poolers,
    is_connection_lost,
    translate,
    translated,
)
from holdfast.store.drivers.postgresql_flush import PostgresqlFlush
from holdfast.store.drivers.postgresql_heartbeat import PostgresqlHeartbeat
from holdfast.store.drivers.postgresql_hints import PostgresqlHints
from holdfast.store.drivers.postgresql_migrations import PostgresqlMigrations
from holdfast.store.drivers.postgresql_pool import PostgresqlPool
from holdfast.store.drivers.postgresql_pooler import POOLED, PooledSession, same_database, transaction_of
from holdfast.store.drivers.postgresql_transaction import PostgresqlTransaction
from holdfast.store.drivers.tls import Encryption
from holdfast.store.figures import PoolFigures
from holdfast.store.hints import HintSource
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.sql import Statements

__all__ = ["PostgresqlDriver", "PostgresqlOptions"]

_ISOLATION = {
    Isolation.READ_COMMITTED: "read_committed",
    Isolation.REPEATABLE_READ: "repeatable_read",
    Isolation.SERIALIZABLE: "serializable",
}

# Planning the flush takes longer than running it, and a plan made for few rows reads the whole table: one
# plan is made for good, and it goes by primary key.
_JOURNAL_SETTINGS = MappingProxyType({"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"})


_NAME = "holdfast"
PARTITIONS_AHEAD = 3
_SESSION_SETTINGS = MappingProxyType(
    {
        # The fence is a row lock followed by reads of the newest row: true at this level only.
        "default_transaction_isolation": "read committed",
        # A JIT compiler pays for queries of seconds; ours take microseconds.
        "jit": "off",
        # A transaction whose client fell silent keeps its row locks, and a takeover passes locked rows
        # over. By default the server notices a lost host after hours, and a stopped process never.
        "tcp_keepalives_idle": "3",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "6000",
        "idle_in_transaction_session_timeout": "30000",
    }
)


class PostgresqlDriver:
    """A store in one schema of a PostgreSQL database."""

    dialect: Literal["sqlite", "postgresql", "mysql"] = "postgresql"
    flushes_here = False
    shared = True
    path: Path | None = None

    def __init__(self, options: PostgresqlOptions, *, clock_shift: timedelta = timedelta(0)) -> None:
        self.options = options
        self.now = "now()" if not clock_shift else f"(now() + interval '{clock_shift.total_seconds()} s')"
        quoted = '"' + options.schema.replace('"', '""') + '"'
        self.schema = quoted
        self._pooled = options.direct is not None
        self._sql = Statements("postgresql", schema=quoted, now=self.now)
        self._timeout_s = options.statement_timeout.total_seconds()
        self._journal: PostgresqlFlush | None = None
        self._journal_left = False
        self._listening: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        patience_s = options.connect_timeout.total_seconds()
        self._hosts = Hosts(options.each(), patience_s, moved=self._moved)
        self._direct = self._hosts
        if options.direct is not None:
            self._direct = Hosts(options.direct.each(), patience_s, moved=self._moved)
        self._pool = PostgresqlPool(self._connect, options, self._notice)

    async def open(self) -> None:
        """Connect once to see that the server answers.

        Raises `PoolerDetected` and `DirectUrlElsewhere`, which are about `options.direct`.
        """
        self._loop = asyncio.get_running_loop()
        with detecting_poolers(self.options.place):
            await self._pool.open()
        if self._pooled:
            await self._compare()

    async def _compare(self) -> None:
        direct = await self.connect()
        try:
            with translated("comparing the pooler with the server"):
                async with self._pool.lend() as pooled:
                    same = await same_database(pooled, direct, self._timeout_s)
        finally:
            await close_quietly(direct)
        if not same:
            places = f"{self.options.place} and {self.options.direct.place}"  # type: ignore[union-attr]
            raise DirectUrlElsewhere("two databases are named as one", where=places)

    async def settle(self) -> None:
        """The partitions of this month and of the next ones; see `Driver.settle`."""
        await self.fetch("store.ensure_partitions", PARTITIONS_AHEAD)

    async def close(self) -> None:
        """Close the journal's connection and the pool."""
        self._loop = None
        journal, self._journal = self._journal, None
        if journal is not None:
            await close_quietly(journal.connection)
        await self._pool.close()

    async def connect(self, settings: Mapping[str, str] = MappingProxyType({})) -> Connection:
        """A connection of its own to the server itself, outside the pool, with further server settings."""
        arguments = _session({**_SESSION_SETTINGS, **settings})
        return await self._direct.connect(lambda options, patience_s: connect(options, patience_s, arguments))

    async def _connect(self) -> Connection:
        """A connection to the address, which may be a pooler's: that refuses settings it does not know."""
        arguments = _session({}) | POOLED if self._pooled else _session(_SESSION_SETTINGS)
        return await self._hosts.connect(lambda options, patience_s: connect(options, patience_s, arguments))

    async def _listen(self) -> Connection:
        self._listening = await self.connect()
        return self._listening

    async def encryption(self) -> list[Encryption]:
        """See `Driver.encryption`."""
        async with self._pool.lend() as connection:
            found = [encryption(connection)]
        if self._pooled:
            direct = await self.connect()
            found.append(encryption(direct))
            await close_quietly(direct)
        return found

    # Leaving a server.

    def _notice(self, connection: Any, error: HoldfastError) -> None:
        """Give up a server that takes no writes any more, as one that was demoted."""
        if isinstance(error, ReadOnlyServer) and self._hosts.leave(connection.options, error):
            self._drain()

    def _is_left(self, connection: Connection) -> bool:
        """Whether a connection of its own leads to a server that is no longer in use."""
        return connection.options is not self._direct.used

    def _moved(self) -> None:
        # The thread of the lease may have been the first to see it.
        if (loop := self._loop) is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Let go of every connection to a server that is no longer in use; what runs on them ends first."""
        self._journal_left = True
        if self._listening is not None:
            self._listening.terminate()
        self._pool.empty()

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self.fetch_text(self._sql[name], *args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        if not self._pooled:
            return await self._pool.fetch(text, *args)
        async with self._pool.lend() as connection:
            with translated("statement"):
                async with transaction_of(connection, self._timeout_s):
                    rows: list[Row] = await connection.fetch(text, *args, timeout=self._timeout_s)
        return rows

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[Transaction]:
        """See `Driver.transaction`."""
        async with self._pool.lend() as connection:
            transaction = connection.transaction(isolation=_ISOLATION[isolation])
            with translated("begin"):
                await transaction.start()
            try:
                yield PostgresqlTransaction(connection, self._sql, self.options.schema, self._timeout_s)
            except BaseException:
                with suppress(*FAILURES):
                    await asyncio.shield(transaction.rollback())
                raise
            await self._commit(transaction)

    async def _commit(self, transaction: Any) -> None:
        try:
            await transaction.commit()
        except FAILURES as error:
            if is_connection_lost(error):
                raise UnknownOutcome(
                    "the connection was lost while COMMIT was under way", where=self.options.place
                ) from error
            raise translate(error, "commit") from error

    async def flush(self, batch: Batch) -> list[Reply]:
        """See `Driver.flush`. After an error that is not the data's the next call opens a new connection."""
        if self._journal is not None and self._journal_left:
            left, self._journal = self._journal, None
            await close_quietly(left.connection)
        if self._journal is None:
            self._journal_left = False
            self._journal = await self._open_journal()
        journal = self._journal
        try:
            return await journal.write(batch, self._timeout_s)
        except FAILURES as error:
            failure: HoldfastError
            if is_connection_lost(error):
                failure = UnknownOutcome("the connection was lost during a flush", where=self.options.place)
            else:
                failure = translate(error, "journal flush")  # rolled back by the server, or never sent
            self._notice(journal.connection, failure)
            if isinstance(failure, RetryLater):
                # The next try may find another server behind the name, such as the one that took over.
                self._journal = None
                await close_quietly(journal.connection)
            raise failure from error
        except asyncio.CancelledError:
            # asyncpg has sent a cancel request; the connection's state is not worth finding out.
            self._journal = None
            journal.connection.terminate()
            raise

    async def _open_journal(self) -> PostgresqlFlush:
        if self._loop is None:
            raise StoreUnavailable("the store is not open", fix="open it first: `async with …`")
        connection: Connection | PooledSession
        if self._pooled:
            connection = PooledSession(await self._connect(), _JOURNAL_SETTINGS)
        else:
            connection = await self.connect(_JOURNAL_SETTINGS)
        flush = PostgresqlFlush(connection, self._sql)
        try:
            with translated("preparing the journal's statements"):
                await flush.prepare()
        except BaseException:
            connection.terminate()
            raise
        return flush

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        """See `Driver.put_payload`."""
        await self.fetch("journal.put_payload", execution, digest, tenant, body)

    @asynccontextmanager
    async def migrations(self) -> AsyncIterator[MigrationSession]:
        """A direct connection, without a statement timeout."""
        connection = await self.connect()
        try:
            yield PostgresqlMigrations(connection, self.options.schema)
        finally:
            await close_quietly(connection)

    def heartbeat(self) -> Heartbeat | None:
        """A connection on a loop of its own in the lease thread."""
        return PostgresqlHeartbeat(self.connect, self._is_left, self._sql, self._timeout_s)

    def hints(self) -> HintSource | None:
        """LISTEN and NOTIFY on a direct connection of their own; tested from the pool."""
        return PostgresqlHints(self._listen, self._notify, self.options.schema)

    def pool_figures(self) -> PoolFigures:
        """See `Driver.pool_figures`; without the connections of the journal, the lease and the hints."""
        return self._pool.figures()

    async def _notify(self, channel: str, payload: str) -> None:
        await self.fetch_text("SELECT pg_notify($1, $2)", channel, payload)


def _session(settings: Mapping[str, str]) -> dict[str, Any]:
    return {"server_settings": {"application_name": _NAME, **settings}}
