"""PostgreSQL: a pool for reads and transactions, and one dedicated connection for the journal.

Behind a pooler in transaction mode (`options.direct` is set) both go by the pooler, and what needs a session
of its own (migrations, the lease, notifications) goes to the server itself.

READ COMMITTED is asked for explicitly. Every setting of ours is local to a transaction, so a connection goes
back to the pool without a reset query, and nothing leaks behind a pooler. Statements name their schema, so
the search path does not matter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

import asyncpg

from holdfast.errors import (
    DirectUrlElsewhere,
    HoldfastError,
    PoolTimeout,
    RetryLater,
    StoreUnavailable,
    UnknownOutcome,
)
from holdfast.records.executions import ExecutionKey
from holdfast.store.drivers.base import Batch, Heartbeat, Isolation, Reply, Row, Transaction
from holdfast.store.drivers.postgresql_errors import (
    FAILURES,
    detecting_poolers,
    is_connection_lost,
    translate,
    translated,
)
from holdfast.store.drivers.postgresql_flush import PostgresqlFlush
from holdfast.store.drivers.postgresql_heartbeat import PostgresqlHeartbeat
from holdfast.store.drivers.postgresql_hints import PostgresqlHints, keep_alive
from holdfast.store.drivers.postgresql_migrations import PostgresqlMigrations
from holdfast.store.drivers.postgresql_pooler import POOLED, PooledSession, same_database, transaction_of
from holdfast.store.drivers.postgresql_tls import TlsOptions, tls_context
from holdfast.store.hints import HintSource
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.sql import Statements

_ISOLATION = {
    Isolation.READ_COMMITTED: "read_committed",
    Isolation.REPEATABLE_READ: "repeatable_read",
    Isolation.SERIALIZABLE: "serializable",
}

# Planning the flush takes longer than running it, and a plan made for few rows reads the whole table: one
# plan is made for good, and it goes by primary key.
_JOURNAL_SETTINGS = MappingProxyType({"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"})


_NAME = "holdfast"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlOptions:
    """Where the server is and how its connections are used. `password` never shows in a repr."""

    host: str = "localhost"
    port: int = 5432
    database: str = "holdfast"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str = "holdfast"
    pool_min: int = 2
    pool_max: int = 20
    acquire_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(minutes=10)
    max_lifetime: timedelta = timedelta(minutes=30)
    connect_timeout: timedelta = timedelta(seconds=10)
    statement_timeout: timedelta = timedelta(seconds=30)
    tls: TlsOptions = field(default_factory=TlsOptions)
    direct: PostgresqlOptions | None = None
    """The server itself, when the address above is a pooler in transaction mode."""

    @property
    def place(self) -> str:
        """The server and database for people; no password."""
        return f"postgresql://{self.host}:{self.port}/{self.database}"


class _Connection(asyncpg.Connection):
    """A connection that needs no reset when it returns to the pool, and knows its age."""

    __slots__ = ("born",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.born = time.monotonic()

    def get_reset_query(self) -> str:
        """Nothing: every setting of ours ends with its transaction, and a reset costs a round trip."""
        return ""


class PostgresqlDriver:
    """A store in one schema of a PostgreSQL database."""

    dialect: Literal["sqlite", "postgresql"] = "postgresql"
    flushes_here = False
    shared = True

    def __init__(self, options: PostgresqlOptions, *, clock_shift: timedelta = timedelta(0)) -> None:
        self.options = options
        now = "now()" if not clock_shift else f"(now() + interval '{clock_shift.total_seconds()} s')"
        quoted = '"' + options.schema.replace('"', '""') + '"'
        self.schema = quoted
        self._pooled = options.direct is not None
        self._sql = Statements("postgresql", schema=quoted, now=now)
        self._pool: asyncpg.Pool[Any] | None = None
        self._pool_opening = asyncio.Lock()
        self._journal: PostgresqlFlush | None = None
        self._opened = False

    async def open(self) -> None:
        """Connect once to see that the server answers; the pool follows when it is first needed.

        Raises `PoolerDetected` and `DirectUrlElsewhere`, which are about `options.direct`.
        """
        self._opened = True
        with detecting_poolers(self.options.place):
            await self._acquire_pool()
        if self._pooled:
            await self._compare()

    async def _compare(self) -> None:
        direct = await self.connect()
        try:
            with translated("comparing the pooler with the server"):
                async with self._connection() as pooled:
                    same = await same_database(pooled, direct, self._timeout_s)
        finally:
            await _close_quietly(direct)
        if not same:
            places = f"{self.options.place} and {self.options.direct.place}"  # type: ignore[union-attr]
            raise DirectUrlElsewhere("two databases are named as one", where=places)

    async def close(self) -> None:
        """Close the journal's connection and the pool."""
        self._opened = False
        journal, pool, self._journal, self._pool = self._journal, self._pool, None, None
        if journal is not None:
            await _close_quietly(journal.connection)
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()

    async def connect(self, settings: Mapping[str, str] = MappingProxyType({})) -> asyncpg.Connection[Any]:
        """A connection of its own to the server itself, outside the pool, with further server settings."""
        options = self.options.direct or self.options
        arguments = _address(options)
        arguments["server_settings"] = {"application_name": _NAME, **_SESSION_SETTINGS, **settings}
        return await self._connect(options, arguments)

    async def _connect(
        self, options: PostgresqlOptions, arguments: Mapping[str, Any]
    ) -> asyncpg.Connection[Any]:
        with translated(options.place):
            connection: asyncpg.Connection[Any] = await asyncpg.connect(
                timeout=options.connect_timeout.total_seconds(), **arguments
            )
        keep_alive(connection)
        return connection

    def _pool_arguments(self) -> dict[str, Any]:
        """For connections that go by the pooler, if there is one: it refuses settings it does not know."""
        arguments = _address(self.options)
        if self._pooled:
            return arguments | POOLED | {"server_settings": {"application_name": _NAME}}
        return arguments | {"server_settings": {"application_name": _NAME, **_SESSION_SETTINGS}}

    async def _acquire_pool(self) -> asyncpg.Pool[Any]:
        if not self._opened:
            raise StoreUnavailable("the store is not open", fix="open it first: `async with …`")
        async with self._pool_opening:
            if self._pool is None:
                options = self.options
                with translated(options.place):
                    self._pool = await asyncpg.create_pool(
                        min_size=min(options.pool_min, options.pool_max),
                        max_size=options.pool_max,
                        max_inactive_connection_lifetime=options.idle_timeout.total_seconds(),
                        timeout=options.connect_timeout.total_seconds(),
                        init=_watch_over,
                        **self._pool_arguments(),
                    )
        return self._pool

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = self._pool or await self._acquire_pool()
        connection = await self._take(pool)
        try:
            yield connection
        except HoldfastError as error:
            # Of no more use, and the pool does not see that: it would wait long for a silent one to come to
            # rest.
            if isinstance(error.__cause__, asyncpg.InternalClientError | TimeoutError):
                with suppress(*FAILURES):  # it may have left the pool by itself
                    connection.terminate()
            raise
        finally:
            await asyncio.shield(self._give_back(pool, connection))

    async def _take(self, pool: asyncpg.Pool[Any]) -> Any:
        timeout_s = self.options.acquire_timeout.total_seconds()
        try:
            return await pool.acquire(timeout=timeout_s)
        except TimeoutError as error:
            raise PoolTimeout(
                f"no connection became free within {timeout_s:g} s (pool of {self.options.pool_max})",
                where=self.options.place,
            ) from error
        except FAILURES as error:
            raise translate(error, self.options.place) from error

    async def _give_back(self, pool: asyncpg.Pool[Any], connection: Any) -> None:
        lifetime_s = self.options.max_lifetime.total_seconds()
        # A connection that broke has left the pool by itself, and refuses every question about it.
        with suppress(*FAILURES):
            if not connection.is_closed() and time.monotonic() - connection.born > lifetime_s:
                await _close_quietly(connection)
            await pool.release(connection)

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self.fetch_text(self._sql[name], *args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        rows: list[Row]
        async with self._connection() as connection:
            with translated("statement"):
                if not self._pooled:
                    return await connection.fetch(text, *args, timeout=self._timeout_s)  # type: ignore[no-any-return]
                async with transaction_of(connection, self._timeout_s):
                    rows = await connection.fetch(text, *args, timeout=self._timeout_s)
        return rows

    @property
    def _timeout_s(self) -> float:
        return self.options.statement_timeout.total_seconds()

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[Transaction]:
        """See `Driver.transaction`."""
        async with self._connection() as connection:
            transaction = connection.transaction(isolation=_ISOLATION[isolation])
            with translated("begin"):
                await transaction.start()
            try:
                yield PostgresqlTransaction(connection, self._sql, self._timeout_s)
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
        if self._journal is None:
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
            if isinstance(failure, RetryLater):
                # The next try may find another server behind the name, such as the one that took over.
                self._journal = None
                await _close_quietly(journal.connection)
            raise failure from error
        except asyncio.CancelledError:
            # asyncpg has sent a cancel request; the connection's state is not worth finding out.
            self._journal = None
            journal.connection.terminate()
            raise

    async def _open_journal(self) -> PostgresqlFlush:
        if not self._opened:
            raise StoreUnavailable("the store is not open", fix="open it first: `async with …`")
        connection: asyncpg.Connection[Any] | PooledSession
        if self._pooled:
            bare = await self._connect(self.options, self._pool_arguments())
            connection = PooledSession(bare, _JOURNAL_SETTINGS)
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
            await _close_quietly(connection)

    def heartbeat(self) -> Heartbeat | None:
        """A connection on a loop of its own in the lease thread."""
        return PostgresqlHeartbeat(self.connect, self._sql, self._timeout_s)

    def hints(self) -> HintSource | None:
        """LISTEN and NOTIFY on a direct connection of their own; tested from the pool."""
        return PostgresqlHints(self.connect, self._notify, self.options.schema)

    async def _notify(self, channel: str, payload: str) -> None:
        await self.fetch_text("SELECT pg_notify($1, $2)", channel, payload)


class PostgresqlTransaction:
    """An open transaction on a pooled connection."""

    def __init__(self, connection: Any, sql: Statements, timeout_s: float) -> None:
        self._connection = connection
        self._sql = sql
        self._timeout_s = timeout_s

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self.fetch_text(self._sql[name], *args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        with translated("statement in a transaction"):
            rows: list[Row] = await self._connection.fetch(text, *args, timeout=self._timeout_s)
        return rows

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """See `Transaction.savepoint`."""
        nested = self._connection.transaction()
        with translated("savepoint"):
            await nested.start()
        try:
            yield
        except BaseException:
            with suppress(*FAILURES):
                await asyncio.shield(nested.rollback())
            raise
        with translated("savepoint"):
            await nested.commit()


def _address(options: PostgresqlOptions) -> dict[str, Any]:
    return {
        "host": options.host,
        "port": options.port,
        "database": options.database,
        "user": options.user,
        "password": options.password,
        "ssl": tls_context(options.tls, options.host),
        "connection_class": _Connection,
    }


async def _watch_over(connection: Any) -> None:
    """Have a pooled connection noticed when it is half-open, also while nobody uses it."""
    keep_alive(connection)


async def _close_quietly(connection: Any) -> None:
    try:
        await connection.close(timeout=2)
    except FAILURES:
        connection.terminate()
