"""What the migration tests share: sessions by URL, migrations from text, and processes that race or die.

The functions that child processes run live here, because a spawned process finds them by name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any
from urllib.parse import urlsplit

from holdfast.store.migrations import MigrationSession, MigrationSet, up
from holdfast.store.migrations.files import collect, read_text
from holdfast.store.migrations.splitter import Dialect
from holdfast.stores import build_store, config_for

DIALECTS: tuple[Dialect, ...] = ("sqlite", "postgresql", "mysql")
LONG = timedelta(seconds=60)

Shape = list[tuple[Any, ...]]

_DESCRIPTIONS = {
    "sqlite": ["SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"],
    "postgresql": [
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
        """SELECT c.oid::regclass::text, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod),
                  a.attnotnull, pg_get_expr(d.adbin, d.adrelid), c.reloptions,
                  pg_get_expr(c.relpartbound, c.oid)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
           WHERE n.nspname IN ('holdfast', 'public') ORDER BY 1, a.attnum""",
        """SELECT indexdef FROM pg_indexes WHERE schemaname IN ('holdfast', 'public') ORDER BY 1""",
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(c.oid)
           FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
           WHERE n.nspname IN ('holdfast', 'public') ORDER BY 1, 2""",
        """SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname IN ('holdfast', 'public') ORDER BY 1""",
        """SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
           ORDER BY 1, 2""",
        "SELECT schemaname, viewname, definition FROM pg_views WHERE schemaname = 'holdfast' ORDER BY 2",
        "SELECT matviewname, definition FROM pg_matviews WHERE schemaname = 'holdfast' ORDER BY 1",
    ],
    "mysql": [
        """SELECT table_name, table_type, engine, row_format, table_collation FROM information_schema.tables
           WHERE table_schema = database() ORDER BY 1""",
        """SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default,
                  collation_name, extra, generation_expression FROM information_schema.columns
           WHERE table_schema = database() ORDER BY 1, 2""",
        """SELECT table_name, index_name, seq_in_index, column_name, collation, non_unique, index_type
           FROM information_schema.statistics WHERE table_schema = database() ORDER BY 1, 2, 3""",
        """SELECT table_name, constraint_name, constraint_type FROM information_schema.table_constraints
           WHERE table_schema = database() ORDER BY 1, 2""",
        """SELECT c.constraint_name, c.check_clause FROM information_schema.check_constraints c
           WHERE c.constraint_schema = database() ORDER BY 1, 2""",
        """SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement
           FROM information_schema.triggers WHERE trigger_schema = database() ORDER BY 1""",
        """SELECT routine_name, routine_type, routine_definition FROM information_schema.routines
           WHERE routine_schema = database() ORDER BY 1""",
        """SELECT table_name, view_definition FROM information_schema.views
           WHERE table_schema = database() ORDER BY 1""",
    ],
}


def dialect_of(url: str) -> Dialect:
    if url.startswith("mysql"):
        return "mysql"
    return "sqlite" if url.startswith("sqlite") else "postgresql"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MigrationSession]:
    """The migration session of the database at `url`, through the driver that programs use."""
    driver = build_store(config_for(url), create=True).driver
    await driver.open()
    try:
        async with driver.migrations() as session:
            yield session
    finally:
        await driver.close()


def migrations(dialect: Dialect, texts: dict[str, str]) -> MigrationSet:
    """A set from file names and the text of their files."""
    return collect(
        dialect,
        [
            read_text(text.encode(), file_name=name, dialect=dialect, source=f"dir/{name}")
            for name, text in texts.items()
        ],
    )


async def describe(session: MigrationSession) -> Shape:
    """Everything the schema consists of, in a form that compares equal for equal schemas."""
    found: Shape = []
    for query in _DESCRIPTIONS[session.dialect]:
        found += await session.fetch(query)
    return found


def sever(session: Any) -> None:
    """Lose the connection as a process that dies does: without a word, and without what would come next."""
    session._connection.terminate()


async def run_text(session: MigrationSession, url: str, text: str) -> None:
    """Run printed SQL as a person would: MySQL's has words that only its client understands."""
    if session.dialect != "mysql":
        await session.execute(text)
        return
    parts = urlsplit(url)
    command = ["mariadb", f"-h{parts.hostname}", f"-P{parts.port}", f"-u{parts.username}", parts.path[1:]]
    client = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"MYSQL_PWD": parts.password or ""},
    )
    _, errors = await client.communicate(text.encode())
    assert client.returncode == 0, errors.decode()


class Wrapped:
    """A session that does what another does; subclasses interfere."""

    def __init__(self, session: MigrationSession) -> None:
        self._session = session
        self.dialect = session.dialect
        self.schema = session.schema
        self.binary = session.binary
        self.undoes_ddl = session.undoes_ddl

    def exclusive(self, timeout: timedelta) -> AbstractAsyncContextManager[None]:
        return self._session.exclusive(timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._session.transaction():
            yield

    async def execute(self, statement: str, *args: object) -> None:
        await self._session.execute(statement, *args)

    async def fetch(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        return await self._session.fetch(statement, *args)


class Watched(Wrapped):
    """Reports every point at which a process could die: before and after each statement and each commit."""

    def __init__(self, session: MigrationSession, point: Callable[[], None]) -> None:
        super().__init__(session)
        self._point = point

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._session.transaction():
            yield
            self._point()
        self._point()

    async def execute(self, statement: str, *args: object) -> None:
        self._point()
        await self._session.execute(statement, *args)


class _Together(Wrapped):
    """Goes for the lock only when all the others have seen that there is something to do."""

    def __init__(self, session: MigrationSession, barrier: Barrier) -> None:
        super().__init__(session)
        self._barrier = barrier

    @asynccontextmanager
    async def _when_all_are_there(self, lock: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
        await asyncio.to_thread(self._barrier.wait, 60)
        async with lock:
            yield

    def exclusive(self, timeout: timedelta) -> AbstractAsyncContextManager[None]:
        return self._when_all_are_there(super().exclusive(timeout))


def race(url: str, texts: dict[str, str], barrier: Barrier, results: Queue[list[int] | str]) -> None:
    """Run `up` when the other holders of `barrier` do; report the versions applied, or what failed."""

    async def run() -> None:
        async with opened(url) as session:
            done = await up(
                _Together(session, barrier), migrations(dialect_of(url), texts), lock_timeout=LONG
            )
        results.put([applied.version for applied in done])

    try:
        asyncio.run(run())
    except Exception as error:
        results.put(str(error))


def die_at(url: str, texts: dict[str, str], point: int) -> None:
    """Run `up` and be killed with SIGKILL at the given point, counted from 1."""
    passed = 0

    def die_when_reached() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> None:
        async with opened(url) as session:
            await up(Watched(session, die_when_reached), migrations(dialect_of(url), texts))

    asyncio.run(run())
