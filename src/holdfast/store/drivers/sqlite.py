"""SQLite: one file (or memory), one writer thread, a few reader threads.

WAL with `synchronous=FULL`: a commit is on disk when it returns. All writing goes through one connection in
one thread, so writers inside a process queue up in order instead of fighting for the lock; processes that
share the file take turns by SQLite's own lock within the busy timeout. Memory is the same driver with one
connection that reads as well, so that a reader there sees what an open transaction has written.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import apsw

from holdfast.errors import InvalidData, StoreUnavailable
from holdfast.records.executions import BootId, ExecutionKey
from holdfast.store.drivers import sqlite_place
from holdfast.store.drivers.base import Batch, Heartbeat, Isolation, Reply, Row, Transaction
from holdfast.store.drivers.sqlite_errors import is_deadly, translate, translated
from holdfast.store.drivers.sqlite_flush import SqliteFlush
from holdfast.store.drivers.sqlite_hints import SqliteHints, data_version
from holdfast.store.drivers.sqlite_migrations import SqliteMigrations
from holdfast.store.drivers.sqlite_threads import ConnectionDead, ConnectionThread
from holdfast.store.drivers.tls import Encryption
from holdfast.store.figures import CountedLock, PoolFigures, Waits
from holdfast.store.hints import HintSource
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.sql import Statements, steps

_READERS = 2
_COURTESY_S = 0.0005
_LOOK_AROUND_S = 1.0
_THEN = "\n-- then\n"

Clock = Callable[[], int]


def system_clock() -> int:
    """Microseconds since 1970 in UTC: the clock of a database that lives in this host's files."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """How the file is opened. `synchronous` other than `full` gives up what "acknowledged" means."""

    busy_timeout: timedelta = timedelta(seconds=5)
    synchronous: str = "full"
    file_mode: int = 0o600
    statement_timeout: timedelta = timedelta(seconds=30)


class SqliteDriver:
    """A store in one SQLite file; `path` None is a store in memory that ends with the process."""

    dialect: Literal["sqlite", "postgresql", "mysql"] = "sqlite"
    flushes_here = True
    schema = ""
    now = "hf_now()"

    def __init__(
        self,
        path: Path | None,
        options: SqliteOptions | None = None,
        *,
        create: bool = False,
        clock: Clock = system_clock,
        neighbours: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = path
        self.shared = path is not None
        self._options = options or SqliteOptions()
        self._create = create
        self._clock = clock
        self._sql = Statements("sqlite", now=self.now)
        self._flush = SqliteFlush(self._sql, clock)
        self._neighbours = neighbours
        self._crowded_until = self._looked_at = 0.0
        self._writer: ConnectionThread | None = None
        self._readers: list[ConnectionThread] = []
        self._next_reader = 0
        self._waits = Waits()
        self._writing = CountedLock(self._waits)

    async def open(self) -> None:
        """Connect the writer; see `Driver.open`."""
        if self.path is not None:
            sqlite_place.prepare(self.path, create=self._create, mode=self._options.file_mode)
        self._writer = ConnectionThread("holdfast-sqlite-writer", self._connect_writer)
        try:
            await self._writer.submit(_touch)
        except BaseException:
            await self.close()
            raise

    async def settle(self) -> None:
        """Nothing; see `Driver.settle`."""

    async def close(self) -> None:
        """Close all connections; the last one to leave a file folds the WAL into it."""
        threads = [*self._readers, *([self._writer] if self._writer else [])]
        self._writer, self._readers = None, []
        for thread in threads:
            await asyncio.to_thread(thread.close)

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run one statement: a SELECT on a reader, anything else in a transaction of its own."""
        return await self.fetch_text(self._sql[name], *args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        if text.startswith(("SELECT", "WITH")):
            return await self._reader().submit(_query, text, args, self._options.statement_timeout)
        async with self._writing:
            run = _whole if _THEN in text else _query
            return await self._thread().submit(run, text, args, self._options.statement_timeout)

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[Transaction]:
        """See `Driver.transaction`: always serializable here, since there is one writer."""
        del isolation
        async with self._writing:
            thread = self._thread()
            try:
                # Inside: a caller that is cancelled while it waits for the lock would get it all the same.
                await thread.submit(_run, "BEGIN IMMEDIATE")
                yield SqliteTransaction(thread, self._sql, self._options.statement_timeout)
                await thread.submit(_run, "COMMIT")
            except BaseException:
                # Not awaited to the end by a cancelled caller, but queued before anything that follows.
                await asyncio.shield(thread.submit(_rollback))
                raise

    async def flush(self, batch: Batch) -> list[Reply]:
        """See `Driver.flush`."""
        if self._neighbours_near():
            # Without this pause a waiting process hardly ever finds the lock free.
            await asyncio.sleep(_COURTESY_S)
        async with self._writing:
            return await self._thread().submit(self._flush.write, batch)

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        """See `Driver.put_payload`."""
        await self.fetch("journal.put_payload", execution, digest, tenant, body)

    @asynccontextmanager
    async def migrations(self) -> AsyncIterator[MigrationSession]:
        """A session on the writer's connection, which nothing else uses meanwhile."""
        async with self._writing:
            yield SqliteMigrations(self._thread(), self.path)

    def heartbeat(self) -> Heartbeat | None:
        """A connection of its own for the lease thread; None in memory, where nobody can take over."""
        if self.path is None:
            return None
        return SqliteHeartbeat(self._connect, self._sql)

    def hints(self) -> HintSource | None:
        """A thread that watches the file; None in memory, where there is nobody else."""
        if self.path is None:
            return None
        return SqliteHints(self._connect_reader, self._version_of_others)

    async def encryption(self) -> list[Encryption]:
        """See `Driver.encryption`: there is no connection that leaves the process."""
        return []

    def pool_figures(self) -> PoolFigures:
        """See `Driver.pool_figures`: the threads; who waits for the writer is counted, and what is queued."""
        threads = [*self._readers, *([self._writer] if self._writer else [])]
        pending = [thread.pending for thread in threads]
        figures = self._waits.figures(
            size=len(threads),
            idle=sum(not count for count in pending),
            most=1 if self.path is None else 1 + _READERS,
        )
        return replace(figures, waiting=figures.waiting + sum(max(0, count - 1) for count in pending))

    async def _version_of_others(self) -> int:
        return await self._thread().submit(data_version)

    def _connect_writer(self) -> apsw.Connection:
        connection = self._connect()
        if self.path is not None:
            with translated("opening the database"):
                connection.execute("PRAGMA journal_mode = WAL")
        return connection

    def _connect_reader(self) -> apsw.Connection:
        connection = self._connect()
        # Opened for writing all the same: only such a connection may tidy up the WAL when it leaves last.
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> apsw.Connection:
        where = f"sqlite:///{self.path}" if self.path else "memory://"
        with translated(where):
            connection = apsw.Connection(
                str(self.path) if self.path else ":memory:", flags=apsw.SQLITE_OPEN_READWRITE
            )
            self._prepare(connection)
        return connection

    def _prepare(self, connection: apsw.Connection) -> None:
        connection.set_busy_timeout(round(self._options.busy_timeout / timedelta(milliseconds=1)))
        connection.execute(f"PRAGMA synchronous = {self._options.synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.create_scalar_function("hf_now", lambda *_: self._clock(), 0)

    def _thread(self) -> ConnectionThread:
        if self._writer is None:
            raise StoreUnavailable("the store is not open", fix="open it first: `async with …`")
        return self._writer

    def _reader(self) -> ConnectionThread:
        if self.path is None:
            return self._thread()
        self._thread()
        if len(self._readers) < _READERS:
            name = f"holdfast-sqlite-reader-{len(self._readers)}"
            self._readers.append(ConnectionThread(name, self._connect_reader))
            return self._readers[-1]
        self._next_reader = (self._next_reader + 1) % _READERS
        return self._readers[self._next_reader]

    def _neighbours_near(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_AROUND_S:
            self._looked_at = now
            self._crowded_until = now + 2 * _LOOK_AROUND_S if self._neighbours() else 0.0
        return now < self._crowded_until


class SqliteTransaction:
    """An open transaction on the writer's connection."""

    def __init__(self, thread: ConnectionThread, sql: Statements, timeout: timedelta) -> None:
        self._thread = thread
        self._sql = sql
        self._timeout = timeout
        self._depth = 0

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self._thread.submit(_query, self._sql[name], args, self._timeout)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        return await self._thread.submit(_query, text, args, self._timeout)

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Transaction.load`."""
        marks = ", ".join("?" * len(columns))
        text = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        await self._thread.submit(_insert_all, text, rows)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """See `Transaction.savepoint`."""
        self._depth += 1
        name = f"hf_{self._depth}"
        await self._thread.submit(_run, f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            await asyncio.shield(self._thread.submit(_run, f"ROLLBACK TO {name}"))
            raise
        finally:
            await asyncio.shield(self._thread.submit(_run, f"RELEASE {name}"))
            self._depth -= 1


class SqliteHeartbeat:
    """See `Heartbeat`; the connection is opened by the thread that first renews."""

    def __init__(self, connect: Callable[[], apsw.Connection], sql: Statements) -> None:
        self._connect = connect
        self._sql = sql
        self._connection: apsw.Connection | None = None

    def renew(self, boot: BootId, lease: timedelta) -> bool:
        """See `Heartbeat.renew`."""
        if self._connection is None:
            self._connection = self._connect()
        lease_us = round(lease / timedelta(microseconds=1))
        with translated("renewing the lease"):
            rows = self._connection.execute(self._sql["workers.renew"], (boot, lease_us)).fetchall()
        return bool(rows)

    def close(self) -> None:
        """See `Heartbeat.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _touch(connection: apsw.Connection) -> None:
    with translated("opening the database"):
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()


def _run(connection: apsw.Connection, text: str) -> None:
    try:
        connection.execute(text)
    except apsw.Error as error:
        failure = translate(error, text.split(" ", 1)[0].lower())
        failure.__cause__ = error
        raise (ConnectionDead(failure) if is_deadly(error) else failure) from error


def _rollback(connection: apsw.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _insert_all(connection: apsw.Connection, text: str, rows: Sequence[Sequence[Any]]) -> None:
    try:
        connection.executemany(text, rows)
    except apsw.Error as error:
        failure = translate(error, "insert")
        failure.__cause__ = error
        raise (ConnectionDead(failure) if is_deadly(error) else failure) from error


@functools.lru_cache(maxsize=64)
def _parts(script: str) -> tuple[tuple[str, int], ...]:
    """The statements of a script, each with how many of the script's values it binds."""
    found = ((part, re.findall(r"\?(\d+)", part)) for part in steps(script))
    return tuple((part, max(map(int, numbers), default=0)) for part, numbers in found)


def _whole(connection: apsw.Connection, text: str, args: tuple[Any, ...], timeout: timedelta) -> list[Row]:
    """Run a script as a transaction of its own."""
    _run(connection, "BEGIN IMMEDIATE")
    try:
        rows = _query(connection, text, args, timeout)
        _run(connection, "COMMIT")
    except ConnectionDead:
        raise
    except BaseException:
        _rollback(connection)
        raise
    return rows


def _query(connection: apsw.Connection, text: str, args: tuple[Any, ...], timeout: timedelta) -> list[Row]:
    for value in args:
        if type(value) is str and "\0" in value:  # SQLite would take it, and no other database
            raise InvalidData("a text holds a NUL character, which no text column takes", where="statement")
    deadline = time.monotonic() + timeout.total_seconds()
    # Asked every so many virtual machine steps; True interrupts the statement.
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    try:
        rows: list[Row] = []
        if _THEN in text:
            for part, count in _parts(text):
                rows = [*connection.execute(part, args[:count])]
        else:
            rows = [*connection.execute(text, args)]
        return rows
    except apsw.Error as error:
        failure = translate(error, "statement")
        raise (ConnectionDead(failure) if is_deadly(error) else failure) from error
    except (TypeError, ValueError, OverflowError) as error:  # apsw's own checks, before SQLite sees the value
        raise InvalidData("a value does not fit its column", where="statement") from error
    finally:
        connection.set_progress_handler(None)
