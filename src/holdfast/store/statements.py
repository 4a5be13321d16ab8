"""The generated statements that write one kind of record, put together once per kind and dialect."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from typing import Any

from holdfast.errors import InvalidArgument, InvalidData
from holdfast.records.tables import Column, Kind, Table
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.base import Row
from holdfast.store.filters import Query
from holdfast.store.mapping import Mapping, assigned, listed, numbered
from holdfast.store.query import Where

COUNTED = 10_000
"""From so many records on an inexact count asks the planner."""
ID_BYTES_MAX = 255
BYTES_PER_CHARACTER = 4
_THEN = "\n-- then\n"  # a driver without RETURNING runs the statements one after the other


class Statements:
    """The statements of one mapping. `now` is the store's clock."""

    def __init__(self, mapping: Mapping[Any], now: str) -> None:
        self._mapping, self._now = mapping, now
        self._dialect = dialect = mapping.dialect
        self._table = dialect.table(mapping.table.name)
        self._scripted = dialect.name == "mysql"
        self._write_id = dialect.writer(mapping.table.column("id"))
        self.changing = [mapping.written.index(name) for name in mapping.changing]
        self._one = f"tenant_id = {dialect.mark(1)} AND id = {dialect.mark(2)}"
        self._there = " AND deleted_at IS NULL" if mapping.soft else ""
        self.now = f"SELECT {now}"
        self.get = f"SELECT {mapping.columns} FROM {self._table} WHERE {self._one}{self._there}"
        self.lock = self.get if dialect.name == "sqlite" else f"{self.get} FOR UPDATE"
        self.create = self._create()
        self.update = self._update()
        self.upsert = self._upsert()
        self.delete = self._delete()
        self.restore = self._answered(
            f"UPDATE {self._table} SET deleted_at = NULL, {self._next} "
            f"WHERE {self._one} AND deleted_at IS NOT NULL",
            "id",
        )

    @property
    def _next(self) -> str:
        return f"revision = revision + 1, updated_at = {self._now}"

    def _answered(self, change: str, columns: str) -> str:
        """A change of one row that answers with columns of it, and with nothing if it met none."""
        if not self._scripted:
            return f"{change} RETURNING {columns}"
        look = f"SELECT {columns} FROM {self._table} WHERE {self._one} AND @hf_n > 0"
        return f"{change}{_THEN}SET @hf_n = ROW_COUNT(){_THEN}{look}"

    def _create(self) -> str:
        names = ("tenant_id", "id", *self._mapping.written, "revision", "created_at", "updated_at")
        marks = numbered(self._dialect, len(names) - 3)
        values = f"VALUES ({marks}, 1, {self._now}, {self._now})"
        if self._dialect.name == "sqlite":  # whose clock goes on within a statement
            once = f"WITH clock (now) AS MATERIALIZED (SELECT {self._now})"
            values = f"{once} SELECT {marks}, 1, now, now FROM clock"
        insert = f"INSERT INTO {self._table} ({listed(self._dialect, names)}) {values}"
        return self._answered(insert, "created_at, updated_at")

    def _update(self) -> str:
        changes = assigned(self._dialect, self._mapping.changing, 4)
        comma = ", " if changes else ""
        change = (
            f"UPDATE {self._table} SET {changes}{comma}{self._next} "
            f"WHERE {self._one} AND revision = {self._dialect.mark(3)}{self._there}"
        )
        return self._answered(change, "created_at, updated_at")

    def _upsert(self) -> str:
        mapping, dialect = self._mapping, self._dialect
        names = ("tenant_id", "id", *mapping.written)
        every = (*names, "revision", "created_at", "updated_at")
        values = f"{numbered(dialect, len(names))}, 1, {self._now}, {self._now}"
        answer = "revision, created_at, updated_at"
        if self._scripted:
            marks = {name: dialect.mark(number) for number, name in enumerate(names, 1)}
            changes = ", ".join(f"{dialect.quoted(name)} = {marks[name]}" for name in mapping.changing)
            return _THEN.join((
                f"UPDATE {self._table} SET {changes}, {self._next} WHERE {self._one}",
                "SET @hf_n = ROW_COUNT()",
                f"INSERT INTO {self._table} ({listed(dialect, every)}) "
                f"SELECT {values} FROM DUAL WHERE @hf_n = 0",
                f"SELECT {answer} FROM {self._table} WHERE {self._one}",
            ))  # fmt: skip
        changes = ", ".join(f"{name} = excluded.{name}" for name in mapping.changing)
        bare = mapping.table.name
        return (
            f"INSERT INTO {self._table} AS {bare} ({listed(dialect, every)}) VALUES ({values}) "
            f"ON CONFLICT (tenant_id, id) DO UPDATE SET {changes}, "
            f"revision = {bare}.revision + 1, updated_at = {self._now} RETURNING {answer}"
        )

    def _delete(self) -> str:
        mark = self._dialect.mark(3)
        given = f"{mark}::bigint" if self._dialect.name == "postgresql" else mark
        condition = f"{self._one} AND ({given} IS NULL OR revision = {given}){self._there}"
        if self._mapping.soft:
            change = f"UPDATE {self._table} SET deleted_at = {self._now}, {self._next} WHERE {condition}"
            return self._answered(change, "id")
        change = f"DELETE FROM {self._table} WHERE {condition}"
        if self._scripted:
            return f"{change}{_THEN}SET @hf_n = ROW_COUNT(){_THEN}SELECT @hf_n FROM DUAL WHERE @hf_n > 0"
        return f"{change} RETURNING id"

    def write_id(self, id: Any) -> Any:
        """What is bound for the id of a new or changed record. Raises `InvalidData`."""
        written = self._write_id(id)
        if not 1 <= len(written) <= ID_BYTES_MAX or len(written.encode()) > ID_BYTES_MAX:
            raise InvalidData(f"id {id[:40]!r} does not have 1 to {ID_BYTES_MAX} bytes", where="id")
        return written

    # Many at once.

    def check_ids(self, ids: Sequence[Any]) -> None:
        """The same check for many, which mostly are short."""
        try:
            sizes = set(map(len, ids))
        except TypeError:
            sizes = {0}
        if min(sizes) < 1 or max(sizes) > ID_BYTES_MAX // BYTES_PER_CHARACTER:
            for id in ids:
                self.write_id(id)

    def update_where(self, tenant: str, query: Query, changes: Dict[str, Any]) -> tuple[str, list[Any]]:
        """Set values where a query fits: the statement and its values. Raises `InvalidArgument`."""
        if not changes:
            raise InvalidArgument("nothing is to be changed", where="update_many")
        where = Where(self._dialect)
        sets = [
            f"{self._dialect.quoted(name)} = {where.bind_as(self._settable(name), value)}"
            for name, value in changes.items()
        ]
        self._narrow(where, tenant, query)
        return self._counted(
            f"UPDATE {self._table} SET {', '.join(sets)}, {self._next} WHERE {where.text}"
        ), (where.values)

    def delete_where(self, tenant: str, query: Query) -> tuple[str, list[Any]]:
        """Delete or mark where a query fits: the statement and its values."""
        where = Where(self._dialect)
        self._narrow(where, tenant, query)
        change = (
            f"UPDATE {self._table} SET deleted_at = {self._now}, {self._next} WHERE {where.text}"
            if self._mapping.soft
            else f"DELETE FROM {self._table} WHERE {where.text}"
        )
        return self._counted(change), where.values

    def _narrow(self, where: Where, tenant: str, query: Query) -> None:
        narrow(where, self._mapping, tenant, query)

    def _counted(self, change: str) -> str:
        if self._scripted:
            return f"{change}{_THEN}SELECT ROW_COUNT()"
        if self._dialect.name == "postgresql":
            return f"WITH changed AS ({change} RETURNING 1) SELECT count(*) FROM changed"
        return f"{change} RETURNING 1"

    def _settable(self, name: str) -> Column:
        for column in self._mapping.own:
            if column.name == name and not column.immutable and not column.search:
                return column
        allowed = [each.name for each in self._mapping.own if not each.immutable and not each.search]
        raise InvalidArgument(
            f"{name!r} can not be set in many records at once",
            where="update_many",
            fix=f"use {', '.join(allowed)}",
        )


def check_grouped(table: Table, name: str) -> None:
    """Refuse what records can not be looked up by. Raises `InvalidArgument`."""
    texts = [each.name for each in table.columns if each.kind is Kind.TEXT and each.filter is not None]
    if name not in texts:
        raise InvalidArgument(
            f"{table.name} can not be looked up by {name!r}", where="field", fix=f"use {', '.join(texts)}"
        )


def narrow(where: Where, mapping: Mapping[Any], tenant: str, query: Query) -> None:
    """Add a query's conditions, for the records of one tenant that are not deleted."""
    where.clauses.append(f"tenant_id = {where.bind(tenant)}")
    if mapping.soft:
        where.clauses.append("deleted_at IS NULL")
    for condition in query.conditions:
        where.add(condition)
    if query.words:
        asked = where.dialect.word_query(query.words)
        if not asked:
            where.clauses.append("1 = 0")
            return
        where.clauses.append(where.dialect.matching(mapping.table.name, where.bind(asked)))


def affected(dialect: Dialect, rows: Sequence[Row]) -> int:
    """How many rows a statement for many changed, from its answer."""
    return len(rows) if dialect.name == "sqlite" else int(rows[0][0])


def estimated(dialect: Dialect, rows: Sequence[Row]) -> int:
    """The planner's number of rows, from what EXPLAIN answered."""
    if dialect.name == "postgresql":
        return int(json.loads(rows[0][0])[0]["Plan"]["Plan Rows"])
    plan = json.loads(rows[0][0])["query_block"]
    return int(_rows_of(plan))


def _rows_of(plan: Any) -> float:
    """The rows of the first table in a JSON plan of MySQL or MariaDB."""
    if isinstance(plan, dict):
        if "rows" in plan:
            return float(plan["rows"]) * float(plan.get("filtered", 100)) / 100
        if "rows_produced_per_join" in plan:
            return float(plan["rows_produced_per_join"])
    nested = plan.values() if isinstance(plan, dict) else plan if isinstance(plan, list) else ()
    return max((_rows_of(each) for each in nested), default=0.0)


@functools.lru_cache(maxsize=256)
def of(mapping: Mapping[Any], now: str) -> Statements:
    """The statements of a mapping."""
    return Statements(mapping, now)
