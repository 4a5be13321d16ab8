"""Databases for the tests, on the servers that are there.

Each test run makes databases of its own on a server and drops them; nothing else on the server is touched. A
fresh database costs about 50 ms on PostgreSQL; a schema would cost 2 ms, but would share advisory locks, the
month's partitions and `pg_stat_activity` with every other test on the server.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from asyncmy.errors import MySQLError

from holdfast.stores import build_store, config_for
from scripts import mariadb


def server(maker: Any, variable: str) -> str:
    """The URL of the server that `variable` names, else of one in the usual places."""
    url = os.environ.get(variable) or maker.discover()
    if not url or url == "private":
        pytest.fail(
            f"no {maker.TITLE} answers; run `make test`, or `make services` and set {variable}", pytrace=False
        )
    if problem := maker.problem_with(url):
        pytest.fail(f"{variable} does not serve: {problem}", pytrace=False)
    return str(url)


class Administrator:
    """Makes and drops PostgreSQL databases over one connection, usable from plain fixtures."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._made: str | None = None

    def create(self, template: str = "template0") -> str:
        """Make an empty database; its URL."""
        name = f"holdfast_test_{secrets.token_hex(6)}"
        # template0 is what no other test, tool or person has put anything into.
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def create_made(self) -> str:
        """Make a database whose tables are there already: a copy of one, which saves a second."""
        if self._made is None:
            self._made = self.create()
            self._runner.run(_make(self._made))
        return self.create(urlsplit(self._made).path[1:])

    def drop(self, url: str) -> None:
        """Drop a database that `create` made, with whatever connections are left in it."""
        self._execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def close(self) -> None:
        if self._made is not None:
            self.drop(self._made)
        if self._connection is not None:
            self._runner.run(self._connection.close(timeout=10))
        self._runner.close()

    def _execute(self, statement: str) -> None:
        async def execute() -> None:
            # A test may have restarted the server or ended every backend.
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._url, timeout=10)
            await self._connection.execute(statement, timeout=60)

        self._runner.run(execute())


async def _make(url: str) -> None:
    store = build_store(config_for(url))
    await store.open(migrate=True)
    await store.close()


class MysqlAdministrator:
    """The same for MariaDB and MySQL; connects each time, which takes a millisecond."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self) -> str:
        """Make an empty database; its URL."""
        name = f"holdfast_test_{secrets.token_hex(6)}"
        self._run(f"CREATE DATABASE {name}")
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def drop(self, url: str) -> None:
        """Drop a database that `create` made; connections that are left in it are ended first."""
        self.end_sessions(url)
        self._run(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]}")

    def end_sessions(self, url: str) -> None:
        """End what is connected to a database, and wait until it has let go."""
        left = f"SELECT id FROM information_schema.processlist WHERE db = '{urlsplit(url).path[1:]}'"
        while found := self._run(left):
            for (session,) in found:
                with suppress(Exception):  # it may have ended by itself in the meantime
                    self._run(f"KILL {session}")

    def _run(self, statement: str) -> list[tuple[Any, ...]]:
        async def run(cursor: Any) -> list[tuple[Any, ...]]:
            await cursor.execute(statement)
            return list(await cursor.fetchall())

        return asyncio.run(mariadb.asking(self._url, run))


class MysqlStores:
    """Stores of MariaDB that tests use one after the other: their 150 tables take seconds to make.

    A store goes back empty, as it was when it was made. One whose schema a test has changed is dropped.
    """

    def __init__(self, administrator: MysqlAdministrator) -> None:
        self._administrator = administrator
        self._free: list[str] = []
        self._schema: list[tuple[Any, ...]] | None = None
        self._seeds: dict[str, list[tuple[Any, ...]]] = {}

    def take(self) -> str:
        """The URL of an empty store whose schema is up to date."""
        if self._free:
            return self._free.pop()
        url = self._administrator.create()
        asyncio.run(_migrate(url))
        if self._schema is None:
            self._schema = _shape(url)
            self._seeds = {table: _ask(url, f"SELECT * FROM {table}") for table in _filled(url)}
        return url

    def give_back(self, url: str) -> None:
        """Empty a store for the next test, or drop it."""
        self._administrator.end_sessions(url)
        try:
            is_whole = _shape(url) == self._schema
        except MySQLError:  # the connection was lost: what is not known to be whole is not used again
            is_whole = False
        if not is_whole:
            self._administrator.drop(url)
            return
        for table, has_counter in _filled(url).items():
            if _ask(url, f"SELECT * FROM {table} LIMIT 100") != self._seeds.get(table):
                asyncio.run(mariadb.asking(url, _refill(table, self._seeds.get(table, []), has_counter)))
        self._free.append(url)

    def close(self) -> None:
        for url in self._free:
            self._administrator.drop(url)


_SCHEMA = """
SELECT table_name, column_name, column_type, column_default, generation_expression, NULL
FROM information_schema.columns WHERE table_schema = database()
UNION ALL
SELECT table_name, index_name, seq_in_index, column_name, non_unique, index_type
FROM information_schema.statistics WHERE table_schema = database()
UNION ALL
SELECT event_object_table, trigger_name, action_timing, event_manipulation, action_statement, NULL
FROM information_schema.triggers WHERE trigger_schema = database()
UNION ALL
SELECT table_name, constraint_name, constraint_type, NULL, NULL, NULL
FROM information_schema.table_constraints WHERE table_schema = database()
ORDER BY 1, 2, 3, 4, 5, 6
"""


def _shape(url: str) -> list[tuple[Any, ...]]:
    return [*_ask(url, _SCHEMA), *_ask(url, "SELECT version, checksum FROM schema_migrations ORDER BY 1")]


async def _migrate(url: str) -> None:
    from holdfast.stores import config_for, open_store

    async with open_store(config_for(url), migrate=True):
        pass


def _ask(url: str, query: str) -> list[tuple[Any, ...]]:
    async def run(cursor: Any) -> list[tuple[Any, ...]]:
        await cursor.execute(query)
        return list(await cursor.fetchall())

    return asyncio.run(mariadb.asking(url, run))


def _filled(url: str) -> dict[str, bool]:
    """The tables with rows, and of each whether it has a counter that went on; the ledger aside."""
    found = _ask(
        url,
        "SELECT table_name, coalesce(auto_increment, 1) > 1 FROM information_schema.tables WHERE"
        " table_schema = database() AND table_type = 'BASE TABLE' AND table_name <> 'schema_migrations'",
    )
    counters = {name: bool(counter) for name, counter in found}
    looks = [f"SELECT '{name}' FROM DUAL WHERE EXISTS (SELECT 1 FROM {name})" for name in counters]
    names = {row[0] for row in _ask(url, " UNION ALL ".join(looks))}
    return {name: counter for name, counter in counters.items() if counter or name in names}


def _refill(table: str, rows: Sequence[Sequence[Any]], has_counter: bool) -> Any:
    async def run(cursor: Any) -> None:
        await cursor.execute("SET foreign_key_checks = 0")
        try:
            # DELETE is the faster one, but keeps a counter and asks the triggers.
            await cursor.execute(f"TRUNCATE TABLE {table}" if has_counter else f"DELETE FROM {table}")
        except Exception:
            await cursor.execute(f"TRUNCATE TABLE {table}")
        for row in rows:
            await cursor.execute(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", tuple(row))

    return run


def empty_store(request: pytest.FixtureRequest, tmp_path: Path, *, is_made: bool = False) -> str:
    """The URL of an empty store of the kind that is the fixture's parameter.

    With `is_made` its tables may be there already, which saves seconds on a server.
    """
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'holdfast.db'}"
        case "file":
            return f"file:///{tmp_path / 'store'}"
        case "memory":
            return "memory://"
        case "mysql":
            return str(request.getfixturevalue("made_mysql" if is_made else "fresh_mysql"))
        case "postgresql":
            return str(request.getfixturevalue("made_postgres" if is_made else "fresh_postgres"))
    raise LookupError(request.param)
