"""A store in memory whose record is elsewhere: what a transaction changed is on disk before it commits.

SQLite's own session notes which rows a transaction changes, whoever changes them and however much of it is
undone on the way. Just before the commit the changes are handed to a `Record`, which returns when they are on
disk; only then the commit happens and anybody is answered. Opening builds the tables and applies what the
record holds, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import apsw

from holdfast.errors import DamagedData, HoldfastError, StoreUnavailable, UnknownOutcome
from holdfast.store import migrations
from holdfast.store.drivers.base import Row
from holdfast.store.drivers.sqlite import SqliteDriver, SqliteOptions
from holdfast.store.drivers.sqlite_errors import translated
from holdfast.store.sql import Statements

ROWID = "_rowid_"
_NOT_RECORDED = ("sqlite_", "schema_migrations")
_UNTRACKED = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SELECT", "PRAGMA", "EXPLAIN")


class Change(NamedTuple):
    """One row that a transaction changed. `key` and `values` by column; a deleted row has no values."""

    table: str
    op: str  # insert, update or delete
    key: dict[str, Any]
    values: dict[str, Any]


Look = Callable[..., list[Row]]
"""Runs a named statement that reads."""


class Record(Protocol):
    """Where the changes of a store are kept. Its methods block, and are called by one thread at a time."""

    def open(self) -> None:
        """Take it. Raises `NoStore`, `StoreInUse`, `StoreUnavailable`."""
        ...

    def read(self) -> Iterable[Sequence[Change]]:
        """The changes of every transaction in order, before anything is written. Raises `DamagedData`."""
        ...

    def write(self, changes: Sequence[Change], look: Look) -> None:
        """Put one transaction on disk, whole or not at all.

        Raises `RetryLater` when nothing of it is there.
        """
        ...

    def shrink(self, rows: Callable[[], Iterable[Change]]) -> None:
        """Called behind every commit: write the record anew, if it has become long for what there is.

        `rows` makes all that the store holds, as inserts. Raises `StoreUnavailable` when nothing can be added
        to it any more.
        """
        ...

    def close(self) -> None:
        """Let another process take it. Safe twice."""
        ...


class RecordedDriver(SqliteDriver):
    """A store in memory and its record."""

    is_recorded = True

    def __init__(
        self,
        record: Record,
        options: SqliteOptions | None = None,
        *,
        migrations_folder: Path | None = None,
        **more: Any,
    ) -> None:
        super().__init__(None, options, **more)
        self._record = record
        self._migrations_folder = migrations_folder

    async def open(self) -> None:
        """Take the record, make the tables, and bring back what it holds."""
        await asyncio.to_thread(self._record.open)
        try:
            await super().open()
            known = migrations.load(self.dialect, self._migrations_folder)
            async with self.migrations() as session:
                await migrations.up(session, known)
            await self._thread().submit(self._restore)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Forget the tables, and let another process take the record."""
        try:
            await super().close()
        finally:
            await asyncio.to_thread(self._record.close)

    def _connect(self) -> apsw.Connection:
        with translated("memory://"):
            connection = RecordedConnection(":memory:")
            connection.statements = self._sql
            self._prepare(connection)
        return connection

    def _restore(self, connection: apsw.Connection) -> None:
        assert isinstance(connection, RecordedConnection), "made by _connect"
        _Restoring(connection).run(self._record.read())
        connection.begin_to_record(self._record)


class RecordedConnection(apsw.Connection):
    """A connection that records before it commits. Before `begin_to_record` it is like any other."""

    statements: Statements
    _record: Record | None = None
    _session: apsw.Session | None = None
    _columns: dict[str, tuple[str, ...]]
    _failure: str | None = None

    def begin_to_record(self, record: Record) -> None:
        """From now on nothing is committed that is not recorded."""
        self._record = record
        self._columns = {}

    def execute(self, statements: str, *args: Any, **more: Any) -> Any:
        """See `apsw.Connection.execute`. A change outside of a transaction is one of its own."""
        if self._record is None:
            return super().execute(statements, *args, **more)
        word = statements.split(None, 1)[0].upper()
        if word == "COMMIT":
            return self._commit()
        if word not in _UNTRACKED and not self.in_transaction:
            return self._alone(statements, *args, **more)
        if word == "BEGIN":
            self._begin()
        elif word == "ROLLBACK" and "TO" not in statements.upper().split():
            self._end()
        return super().execute(statements, *args, **more)

    def _alone(self, statements: str, *args: Any, **more: Any) -> Any:
        self.execute("BEGIN IMMEDIATE")
        try:
            rows = [*super().execute(statements, *args, **more)]
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                self.execute("ROLLBACK")
            raise
        return iter(rows)

    def _begin(self) -> None:
        if self._failure is not None:
            raise StoreUnavailable(self._failure, fix="open the store again")
        self._end()
        session = apsw.Session(self, "main")
        session.config(apsw.SQLITE_SESSION_OBJCONFIG_ROWID, 1)
        session.table_filter(self._is_recorded)
        session.attach()
        self._session = session

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _commit(self) -> Any:
        # A constraint that is only checked now must refuse before anything is recorded.
        unresolved = self.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]
        if self._record is None or self._session is None or unresolved:
            return super().execute("COMMIT")
        changes = [self._change(each) for each in apsw.Changeset.iter(self._session.changeset())]
        if changes:
            self._write(self._record, changes)
        try:
            done = super().execute("COMMIT")
        except BaseException:
            self._failure = "what was recorded could not be committed in memory"
            raise
        self._end()
        if changes:
            self._shrink(self._record)
        return done

    def _shrink(self, record: Record) -> None:
        """What was committed stays so, whatever becomes of this; what can not go on refuses the next one."""
        try:
            record.shrink(self._rows)
        except HoldfastError as error:
            self._failure = error.cause
        except BaseException as error:
            self._failure = f"the record could not be written anew: {error!r}"
            raise

    def _rows(self) -> Iterator[Change]:
        found = (
            super().execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        )
        for table in [str(name) for (name,) in found]:
            if names := self._names(table):
                keys = self._keys(table)
                columns, order = ", ".join(map(_quoted, names)), ", ".join(map(_quoted, keys))
                for row in super().execute(f"SELECT {columns} FROM {_quoted(table)} ORDER BY {order}"):
                    values: dict[str, Any] = dict(zip(names, row, strict=True))
                    yield Change(table, "insert", {name: values.pop(name) for name in keys}, values)

    def _keys(self, table: str) -> tuple[str, ...]:
        text = "SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk"
        return tuple(str(name) for (name,) in super().execute(text, (table,))) or (ROWID,)

    def _write(self, record: Record, changes: list[Change]) -> None:
        try:
            record.write(changes, self._look)
        except UnknownOutcome as error:
            self._failure = error.cause
            raise
        except HoldfastError:
            raise  # nothing of it is there: it may be tried again
        except BaseException as error:
            self._failure = f"the record could not be written: {error!r}"
            raise

    def _look(self, name: str, *args: Any) -> list[Row]:
        return [*super().execute(self.statements[name] if " " not in name else name, args)]

    def _is_recorded(self, table: str) -> bool:
        return bool(self._names(table))

    def _names(self, table: str) -> tuple[str, ...]:
        """The columns of a table as its changes have them; none for what is not recorded."""
        if table not in self._columns:
            self._columns[table] = recorded_columns(self, table)
        return self._columns[table]

    def _change(self, found: apsw.TableChange) -> Change:
        names = self._names(found.name)
        op = found.op.lower()
        # The key never changes: a row whose key does is deleted and made anew.
        whole = found.new if op == "insert" else found.old
        assert whole is not None, "only one of both is missing"
        key = {names[place]: whole[place] for place in sorted(found.pk_columns)}
        values: dict[str, Any] = {}
        if found.new is not None:
            pairs = zip(names, found.new, strict=True)
            values = {name: value for name, value in pairs if value is not apsw.no_change and name not in key}
        return Change(found.name, op, key, values)


def recorded_columns(connection: apsw.Connection, table: str) -> tuple[str, ...]:
    """The columns of a table, with its row number first where it has no key; none for what follows others."""
    if table.startswith(_NOT_RECORDED):
        return ()
    kinds = apsw.Connection.execute(
        connection, "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?", (table,)
    ).fetchall()
    if kinds != [("table",)]:  # a table of words is made from the rows it is about
        return ()
    rows = apsw.Connection.execute(
        connection, "SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", (table,)
    ).fetchall()
    names = tuple(str(name) for name, _ in rows)
    return names if any(pk for _, pk in rows) else (ROWID, *names)


class _Restoring:
    """Applies recorded changes to fresh tables. What triggers did was recorded as well, so none runs."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def run(self, transactions: Iterable[Sequence[Change]]) -> None:
        connection = self._connection
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for changes in transactions:
                self._apply(changes)
            self._rebuild_words()
            connection.execute("UPDATE workers SET lease_until = 0")  # whoever held the record is gone
            if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
                raise DamagedData(f"the record leaves {len(broken)} rows without those they belong to")
            connection.execute("COMMIT")
        except apsw.Error as error:
            raise DamagedData(
                f"the record does not fit the tables of this version: {error}",
                fix="open it with the version that wrote it",
            ) from error
        finally:
            with suppress(apsw.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
            connection.execute("PRAGMA foreign_keys = ON")

    def _apply(self, changes: Sequence[Change]) -> None:
        # Rows that are gone make room first: a new one may have their name.
        for change in sorted(changes, key=lambda change: _ORDER[change.op]):
            match change.op:
                case "delete":
                    self._delete(change)
                case "update":
                    self._update(change)
                case _:
                    row = {**change.key, **change.values}
                    names, marks = ", ".join(map(_quoted, row)), ", ".join("?" * len(row))
                    text = f"INSERT INTO {_quoted(change.table)} ({names}) VALUES ({marks})"
                    self._connection.execute(text, tuple(row.values()))

    def _delete(self, change: Change) -> None:
        text = f"DELETE FROM {_quoted(change.table)} WHERE {_equal(change.key, ' AND ')}"
        self._connection.execute(text, tuple(change.key.values()))
        self._expect_one(change)

    def _update(self, change: Change) -> None:
        if not change.values:
            return
        assigned, where = _equal(change.values, ", "), _equal(change.key, " AND ")
        text = f"UPDATE {_quoted(change.table)} SET {assigned} WHERE {where}"
        self._connection.execute(text, (*change.values.values(), *change.key.values()))
        self._expect_one(change)

    def _expect_one(self, change: Change) -> None:
        if self._connection.changes() != 1:
            raise DamagedData(f"the record changes a row of {change.table} that is not there")

    def _rebuild_words(self) -> None:
        rows: list[tuple[Any, ...]] = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts5%'"
        ).fetchall()
        for (name,) in rows:
            self._connection.execute(f"INSERT INTO {_quoted(name)} ({_quoted(name)}) VALUES ('rebuild')")


_ORDER = {"delete": 0, "update": 1, "insert": 2}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _equal(values: dict[str, Any], glue: str) -> str:
    return glue.join(f"{_quoted(name)} = ?" for name in values)
