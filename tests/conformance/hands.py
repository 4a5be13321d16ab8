"""Two hands on one store: connections that collide on purpose, and places where a flush can be stopped.

Nothing here waits for time to pass. A flush is stopped by a lock that the test holds: on SQLite a gate in the
writer's thread, on the servers an advisory lock that a trigger asks for. That somebody waits is read from the
server's own lists. `plant` puts a named defect into one store object, so that a test can show what the real
statement protects against.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import asyncmy
import asyncpg

from holdfast.fleet.ownership import Claim, Registration, claim
from holdfast.fleet.starts import new_key
from holdfast.records.events import EventType
from holdfast.records.executions import BootId, ExecutionKey
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, Batch, NewExecution, Post, Reply, Row, Transition
from holdfast.store.entries import Entry, Holding, Placed
from holdfast.store.journal import Journal
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for

PATIENCE_S = 30.0
GATE_LOCK = 20_240_229
GATE_PATH = "gate"
DEAD = BootId(b"\xdd" * 16)
"""An owner that never registered: whoever claims from it finds it dead."""

_GATE_SQL = f"""
CREATE FUNCTION holdfast.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({GATE_LOCK});
    RETURN NEW;
END $$;
CREATE TRIGGER gate BEFORE INSERT ON holdfast.events
    FOR EACH ROW WHEN (NEW.path = '{GATE_PATH}') EXECUTE FUNCTION holdfast.gate();
"""


_LOCK_WAIT = re.compile(
    r"^---TRANSACTION(?:(?!^---).)*?^LOCK WAIT (?:(?!^---).)*? thread id (\d+),", re.M | re.S
)
_MYSQL_GATE_SQL = f"""
CREATE TRIGGER gate BEFORE INSERT ON events FOR EACH ROW
IF NEW.path = '{GATE_PATH}' THEN
    SET @hf_gate = GET_LOCK(CONCAT('gate ', DATABASE()), {PATIENCE_S:.0f});
    DO RELEASE_LOCK(CONCAT('gate ', DATABASE()));
END IF
"""


@asynccontextmanager
async def hand(url: str, *, busy_timeout: str | None = None) -> AsyncIterator[Store]:
    """One more connection to the store at `url`, migrated."""
    if busy_timeout is not None:
        from holdfast.config.loader import load

        flags = {"storage.url": url, "storage.sqlite.busy_timeout": busy_timeout}
        config = load(environ={}, cwd=Path("/"), flags=flags).config
    else:
        config = config_for(url)
    store = build_store(config, create=True)
    await store.open(migrate=True)
    try:
        yield store
    finally:
        await store.close()


def is_sqlite(store: Store) -> bool:
    return store.driver.dialect == "sqlite"


def is_mysql(store: Store) -> bool:
    return store.driver.dialect == "mysql"


def is_postgresql(store: Store) -> bool:
    return store.driver.dialect == "postgresql"


def mark(store: Store, number: int) -> str:
    """The placeholder of a bound value in a text for the store."""
    return f"${number}" if is_postgresql(store) else f"?{number}"


def prefixed(store: Store, table: str) -> str:
    """A table as a text for the store names it."""
    return f"{store.driver.schema}.{table}" if store.driver.schema else table


def bytes_text(store: Store, value: bytes) -> str:
    """Bytes as they are written in a text for the store."""
    return f"'\\x{value.hex()}'" if is_postgresql(store) else f"x'{value.hex()}'"


def moment_text(store: Store, at_us: int) -> str:
    """A moment, in microseconds since 1970, as it is written in a text for the store."""
    if is_sqlite(store):
        return str(at_us)
    if is_mysql(store):
        return f"(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL {at_us} MICROSECOND)"
    return f"to_timestamp({at_us}::bigint / 1000000.0)"


async def rows(store: Store, text: str, *args: Any) -> list[Row]:
    """Run a SELECT whose tables are written as `{executions}`."""
    prefix = f"{store.driver.schema}." if store.driver.schema else ""
    names = ("executions", "events", "inbox", "payloads", "workers", "definitions")
    return await store.driver.fetch_text(text.format(**{name: prefix + name for name in names}), *args)


async def log_of(store: Store, key: ExecutionKey) -> list[tuple[int, str, str | None, int]]:
    """Number, type, path and epoch of an execution's events."""
    found = await store.driver.fetch("events.history", key)
    return [(row[0], row[1], row[2], row[6]) for row in found]


async def row_of(store: Store, key: ExecutionKey) -> Any:
    execution = await store.execution_by_key(key)
    assert execution is not None
    return execution


def new_entry(
    holding: Holding, *, owner: BootId = DEAD, parent: tuple[ExecutionKey, str] | None = None
) -> Entry:
    """The entry that starts the execution of `holding`."""
    key, path = parent or (None, None)
    new = NewExecution(
        holding.key, holding.tenant, holding.id, "proof", "1", b"d" * 32, b"f" * 16, "running", "local", "io",
        0, None, owner, holding.epoch, key, path,
    )  # fmt: skip
    return Entry(holding, EventType.EXECUTION_STARTED, create=new)


async def begin(store: Store, id: str = "x", *, owner: BootId = DEAD, key: bytes | None = None) -> Holding:
    """An execution that `store` owns, started and acknowledged."""
    holding = Holding(ExecutionKey(key or new_key()), id, store.tenant, epoch=1)
    assert await store.journal.append(new_entry(holding, owner=owner)) is Answer.WRITTEN
    return holding


async def begin_like(store: Store, model: Any, id: str = "x") -> ExecutionKey:
    """An execution of the workflow of `model`, without input, whose owner is dead."""
    holding = Holding(new_key(), id, store.tenant, epoch=1)
    new = NewExecution(
        holding.key, store.tenant, id, model.workflow, model.version, model.definition, model.fingerprint,
        "running", model.queue, "io", 0, None, BootId(secrets.token_bytes(16)), 1,
    )  # fmt: skip
    placed = Placed(codec.encode({}), None, None)
    await store.journal.append(Entry(holding, EventType.EXECUTION_STARTED, payload=placed, create=new))
    return holding.key


def result(holding: Holding, path: str, value: object = 1, **fields: Any) -> Entry:
    """A step's result as an entry."""
    placed = fields.pop("payload", None) or Placed(codec.encode(value), None, None)
    return Entry(holding, EventType.STEP_COMPLETED, path, attempt=1, result=True, payload=placed, **fields)


def ending(holding: Holding, path: str | None = None, *, post: Post | None = None) -> Entry:
    """The end of an execution: an event and a change of its row, to be written both or not at all."""
    return Entry(
        holding,
        EventType.EXECUTION_COMPLETED,
        path,
        post=post,
        transition=Transition("completed", final=True),
    )


def suspending(holding: Holding, *, expect_wakes: int | None, path: str | None = None) -> Entry:
    return Entry(
        holding,
        EventType.EXECUTION_SUSPENDED,
        path,
        transition=Transition("waiting", final=False, expect_wakes=expect_wakes),
    )


async def take_over(store: Store, key: ExecutionKey) -> Claim:
    """Take an execution as another process does, by a registration of its own."""
    registration = Registration(store)
    await registration.start()
    try:
        return await claim(store, registration, await row_of(store, key), steal=True)
    finally:
        await registration.stop()


async def until(condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Look until something is so; the looking is the synchronisation, the pause only spares the processor."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if await condition():
            return
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.002)


# Planted defects.


def statements_of(store: Store) -> Any:
    """The statements that one store reads."""
    driver: Any = store.driver
    return driver._scripts._statements if is_mysql(store) else driver._sql


def plant(store: Store, statement: str, old: str, new: str) -> None:
    """Change the text of one statement of one store. Before its first flush, for those of the journal."""
    statements = statements_of(store)
    text = statements[statement]
    assert old in text, f"{statement} has no {old!r}: the planted defect has to follow the statement"
    statements._texts[statement] = text.replace(old, new)


# Stopping a flush between its writes.


class Gate:
    """A place in a flush where it stops until the test lets it go on."""

    async def reached(self) -> None:
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError


class ThreadGate(Gate):
    """Stops the SQLite writer's thread."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._released.wait(PATIENCE_S), "the test never released the gate"

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, PATIENCE_S), "the flush never came"

    def release(self) -> None:
        self._released.set()


class AdvisoryGate(Gate):
    """Stops a server's flush inside its statement, when it has locked its rows and writes the event."""

    def __init__(self, connection: Beside, waiting: str, release: str) -> None:
        self._connection = connection
        self._waiting = waiting
        self._release = release
        self._releasing: asyncio.Task[Any] | None = None

    async def reached(self) -> None:
        async def waits() -> bool:
            return bool(await self._connection.fetchval(self._waiting))

        await until(waits, "the flush never came")

    def release(self) -> None:
        self._releasing = asyncio.ensure_future(self._connection.fetchval(self._release))

    async def close(self) -> None:
        if self._releasing is not None:
            await self._releasing
        await self._connection.close(timeout=5)


async def advisory_gate(store: Store) -> AdvisoryGate:
    """A gate that is closed, on the server of the store."""
    connection = await beside(store)
    if is_mysql(store):
        await connection.execute(_MYSQL_GATE_SQL)
        await connection.fetchval("SELECT GET_LOCK(CONCAT('gate ', DATABASE()), 0)")
        return AdvisoryGate(
            connection,
            "SELECT count(*) FROM information_schema.processlist "
            "WHERE db = DATABASE() AND state = 'User lock'",
            "SELECT RELEASE_LOCK(CONCAT('gate ', DATABASE()))",
        )
    await connection.execute(_GATE_SQL)
    await connection.execute(f"SELECT pg_advisory_lock({GATE_LOCK})")
    return AdvisoryGate(
        connection,
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        "WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()",
        f"SELECT pg_advisory_unlock({GATE_LOCK})",
    )


@asynccontextmanager
async def gate(store: Store) -> AsyncIterator[Gate]:
    """While this is open, an event with the path "gate" stops its flush between its writes.

    What stands beside the event (the execution's row, messages) has not been written when it stops.
    """
    if not is_sqlite(store):
        advisory = await advisory_gate(store)
        try:
            yield advisory
        finally:
            await advisory.close()
        return
    flush: Any = store.driver._flush  # type: ignore[attr-defined]
    insert, stop = flush._insert_events, ThreadGate()

    def insert_and_stop(connection: apsw.Connection, written: list[tuple[Any, ...]]) -> None:
        insert(connection, written)
        if any(row[4] == GATE_PATH for row in written):
            stop()

    flush._insert_events = insert_and_stop
    try:
        yield stop
    finally:
        stop.release()
        flush._insert_events = insert


class MysqlBeside:
    """A bare connection to MariaDB or MySQL, with the few methods of asyncpg's that the tests use."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def execute(self, text: str) -> None:
        await self.fetch(text)

    async def fetch(self, text: str) -> list[Row]:
        async with self._raw.cursor() as cursor:
            await cursor.execute(text)
            return list(await cursor.fetchall())

    async def fetchval(self, text: str) -> Any:
        found = await self.fetch(text)
        return found[0][0] if found else None

    async def close(self, timeout: float | None = None) -> None:
        async with asyncio.timeout(timeout):
            await self._raw.ensure_closed()


Beside = Any
"""A bare connection: asyncpg's, or a `MysqlBeside`."""


async def beside(store: Store) -> Beside:
    """A bare connection to the same database of a server; every statement commits by itself."""
    driver: Any = store.driver
    if is_mysql(store):
        options = driver.options
        return MysqlBeside(
            await asyncmy.connect(
                host=options.host,
                port=options.port,
                user=options.user,
                password=options.password or "",
                database=options.database,
                charset="utf8mb4",
                autocommit=True,
            )
        )
    connection: asyncpg.Connection[Any] = await driver.connect()
    return connection


def bare(store: Store, *, timeout_ms: int = 0) -> apsw.Connection:
    """A bare SQLite connection to the same file, as another process has it."""
    connection = apsw.Connection(str(store.driver.path))  # type: ignore[attr-defined]
    connection.set_busy_timeout(timeout_ms)
    return connection


def is_locked(store: Store) -> bool:
    """Whether somebody holds SQLite's one write lock."""
    connection = bare(store)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except apsw.BusyError:
        return True
    finally:
        connection.close()
    return False


async def waiters(connection: Beside) -> int:
    """How many sessions of this database wait for a row that somebody else has locked."""
    if isinstance(connection, MysqlBeside):
        # Not `information_schema.innodb_trx`: a copy that is not renewed while somebody keeps asking for it.
        ((_, _, text),) = await connection.fetch("SHOW ENGINE INNODB STATUS")
        waiting = {int(number) for number in _LOCK_WAIT.findall(text)}
        ours = await connection.fetch("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
        return len(waiting & {row[0] for row in ours})
    found = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND wait_event_type = 'Lock' "
        "AND wait_event IN ('transactionid', 'tuple')"
    )
    return int(found)


async def blocked(store: Store, work: asyncio.Future[Any]) -> bool:
    """Whether `work` on another connection has to wait for the flush that stands in its gate."""
    if is_sqlite(store):
        return is_locked(store) and not work.done()
    connection = await beside(store)
    try:

        async def settled() -> bool:
            return work.done() or bool(await waiters(connection))

        await until(settled, "neither done nor waiting")
        return not work.done()
    finally:
        await connection.close(timeout=5)


# Drivers that misbehave.


class Wrapped:
    """A driver with another `flush`; everything else passes through."""

    def __init__(
        self, driver: Any, flush: Callable[[Callable[[Batch], Awaitable[list[Reply]]], Batch], Any]
    ) -> None:
        self._driver = driver
        self._wrapper = flush

    async def flush(self, batch: Batch) -> list[Reply]:
        replies: list[Reply] = await self._wrapper(self._driver.flush, batch)
        return replies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


@asynccontextmanager
async def journal_over(store: Store, flush: Any, *, patience_s: float = PATIENCE_S) -> AsyncIterator[Journal]:
    """A second journal on the store's driver, whose flushes go through `flush(real, batch)`."""
    journal = Journal(Wrapped(store.driver, flush), patience_s=patience_s)
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()
