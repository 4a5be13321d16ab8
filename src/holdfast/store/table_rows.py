"""Rows of any table as plain values that are the same on every database.

A row is a tuple in the order of the table's columns: texts, whole numbers, floats, truth, bytes, lists of
texts; a time is its microseconds since 1970, JSON its text, a payload its bytes. Two stores hold the same
when these rows are equal, or their digests are.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from holdfast.records.tables import Column, Kind, Table
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.base import Executor, Row
from holdfast.store.mapping import listed, words_columns
from holdfast.store.query import Where
from holdfast.store.rows import microseconds, moment

Plain = tuple[Any, ...]
_WORDS = ("words_first", "words_rest")
_ROWS_FIRST, _ROWS_MAX = 500, 4_000
_BYTES_AIM = 4 * 1024 * 1024
_encode = msgspec.msgpack.Encoder().encode


class TableRows:
    """One table of one database: how to read it in the order of its key, and how to write into it.

    `record` is the class whose table this is, if it is a record's: its words are made anew for the database
    that is written to.
    """

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self.table = table
        self.dialect = dialect
        self.key = tuple(table.names.index(name) for name in table.key)
        self._name = dialect.table(table.name)
        self._to_plain = [_to_plain(dialect.name, column) for column in table.columns]
        self._to_bound = [_to_bound(dialect.name, column) for column in table.columns]
        self._searched = [number for number, column in enumerate(table.columns) if column.search]

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that `bound` has values for."""
        return (*self.table.names, *(_WORDS if self._searched else ()))

    def key_of(self, plain: Plain) -> Plain:
        """The key of a row."""
        return tuple(plain[number] for number in self.key)

    def plain(self, row: Row) -> Plain:
        """A row of `page` as plain values."""
        return tuple(
            value if convert is None or value is None else convert(value)
            for convert, value in zip(self._to_plain, row, strict=True)
        )

    def bound(self, plain: Plain) -> Plain:
        """Plain values as this database binds them."""
        values = [
            value if convert is None or value is None else convert(value)
            for convert, value in zip(self._to_bound, plain, strict=True)
        ]
        if self._searched:
            values += words_columns(self.dialect, [plain[number] for number in self._searched])
        return tuple(values)

    def page(
        self,
        after: Plain | None,
        limit: int,
        *,
        until: Plain | None = None,
        since: tuple[Column, Any] | None = None,
    ) -> tuple[str, list[Any]]:
        """The statement for the next rows in the order of the key: behind `after`, up to and with `until`.

        `since` leaves out the rows whose column has a lesser (plain) value.
        """
        where = Where(self.dialect)
        if since is not None:
            position = self.table.names.index(since[0].name)
            convert = self._to_bound[position]
            least = since[1] if convert is None else convert(since[1])
            where.clauses.append(f"{self.dialect.quoted(since[0].name)} >= {where.bind(least)}")
        if after is not None:
            self._beyond(where, after, ">")
        if until is not None:
            self._beyond(where, until, "<", ends="<=")
        order = listed(self.dialect, self.table.key)
        condition = f" WHERE {where.text}" if where.clauses else ""
        columns = listed(self.dialect, self.table.names)
        return (
            f"SELECT {columns} FROM {self._name}{condition} ORDER BY {order} LIMIT {where.bind(limit)}",
            where.values,
        )

    def _beyond(self, where: Where, key: Plain, sign: str, *, ends: str | None = None) -> None:
        """The condition that a row's key lies beyond `key`, spelled so that every database reads a range."""
        bound = [self._bind_key(position, value) for position, value in enumerate(key)]
        names = [self.dialect.quoted(name) for name in self.table.key]
        spelled = ""
        for position in reversed(range(len(key))):
            last = position == len(key) - 1
            beyond = f"{names[position]} {ends if last and ends else sign} {where.bind(bound[position])}"
            if last:
                spelled = beyond
            else:
                spelled = f"({beyond} OR ({names[position]} = {where.bind(bound[position])} AND {spelled}))"
        if len(key) > 1:
            spelled = f"{names[0]} {sign}= {where.bind(bound[0])} AND {spelled}"
        where.clauses.append(spelled)

    def _bind_key(self, position: int, value: Any) -> Any:
        convert = self._to_bound[self.key[position]]
        return value if convert is None else convert(value)

    def upsert(self) -> str:
        """The statement that writes one row over the one of the same key, or makes it."""
        dialect, names = self.dialect, self.written
        marks = ", ".join(dialect.mark(number) for number in range(1, len(names) + 1))
        rest = [name for name in names if name not in self.table.key]
        insert = f"INSERT INTO {self._name} ({listed(dialect, names)}) VALUES ({marks})"
        if dialect.name == "mysql":
            changes = [f"{dialect.quoted(name)} = VALUES({dialect.quoted(name)})" for name in rest]
            kept = dialect.quoted(self.table.key[0])
            return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(changes) or f'{kept} = {kept}'}"
        changes = [f"{name} = excluded.{name}" for name in rest]
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        return f"{insert} ON CONFLICT ({', '.join(self.table.key)}) DO {action}"

    def delete(self) -> str:
        """The statement that deletes the row of one key; its values are those of `key_values`."""
        pairs = (
            f"{self.dialect.quoted(name)} = {self.dialect.mark(number)}"
            for number, name in enumerate(self.table.key, 1)
        )
        return f"DELETE FROM {self._name} WHERE {' AND '.join(pairs)}"

    def key_values(self, key: Plain) -> list[Any]:
        """A key as `delete` binds it."""
        return [self._bind_key(position, value) for position, value in enumerate(key)]


@functools.lru_cache(maxsize=512)
def table_rows(table: Table, dialect: Dialect) -> TableRows:
    """The rows of a table in a database."""
    return TableRows(table, dialect)


async def pages(
    executor: Executor,
    rows: TableRows,
    after: Plain | None = None,
    *,
    until: Plain | None = None,
    since: tuple[Column, Any] | None = None,
) -> AsyncIterator[list[Plain]]:
    """The rows of a table in the order of their key, a few megabytes at a time; see `TableRows.page`."""
    limit = _ROWS_FIRST
    while True:
        text, values = rows.page(after, limit, until=until, since=since)
        found = [rows.plain(row) for row in await executor.fetch_text(text, *values)]
        if found:
            yield found
        if len(found) < limit:
            return
        after = rows.key_of(found[-1])
        limit = _next_limit(limit, _size_of(found))


def _next_limit(limit: int, size: int) -> int:
    """As many rows as make about the size of page that is aimed at."""
    fitting = limit * _BYTES_AIM // max(size, 1)
    return max(1, min(fitting, limit * 2, _ROWS_MAX))


class Digest:
    """A running digest of rows, in the order of their key."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.rows = 0

    def add(self, rows: Iterable[Plain]) -> None:
        """Go on with these rows."""
        for row in rows:
            self._hash.update(_encode(row))
            self.rows += 1

    @property
    def hex(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()


def _size_of(rows: Sequence[Plain]) -> int:
    """About how many bytes the texts and bytes of rows have."""
    return sum(len(value) for row in rows for value in row if isinstance(value, bytes | str))


Convert = Callable[[Any], Any]


def _to_plain(dialect: str, column: Column) -> Convert | None:
    match column.kind:
        case Kind.BYTES | Kind.PAYLOAD:
            return bytes
        case Kind.BOOLEAN if dialect != "postgresql":
            return bool
        case Kind.MOMENT if dialect != "sqlite":
            return microseconds
        case Kind.TEXTS:
            return list if dialect == "postgresql" else json.loads
        case _:
            return None


def _to_bound(dialect: str, column: Column) -> Convert | None:
    match column.kind:
        case Kind.BOOLEAN if dialect == "sqlite":
            return int
        case Kind.MOMENT if dialect != "sqlite":
            return moment
        case Kind.TEXTS if dialect != "postgresql":
            return lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        case _:
            return None
