"""Filters, sorting and keyset pages as SQL: one table, AND of conditions, one sort column plus the key.

Values are always bound. Whatever needs a join, an OR or an aggregate is a named statement in a `.sql` file
instead.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from holdfast.errors import InvalidArgument
from holdfast.records.executions import ExecutionStatus
from holdfast.records.tables import Column, Kind, Table
from holdfast.store.dialects import Dialect, checked_text
from holdfast.store.filters import Condition, Query, parse

LIMIT_MAX = 1_000
OFFSET_MAX = 10_000
_READ = (
    "key", "id", "tenant_id", "workflow", "version", "definition", "fingerprint", "status", "queue",
    "priority", "due_at", "owner", "epoch", "recoveries", "wakes", "parent", "created_at", "finished_at",
)  # fmt: skip
EXECUTION_COLUMNS = (
    Column(name="status", kind=Kind.TEXT, type=ExecutionStatus, filter="status"),
    *(
        Column(name=name, kind=Kind.TEXT, filter=name)
        for name in ("workflow", "queue", "version", "id", "class")
    ),
    Column(name="priority", kind=Kind.INTEGER, filter="priority"),
    Column(name="created_at", kind=Kind.MOMENT, filter="started"),
    Column(name="finished_at", kind=Kind.MOMENT, nullable=True, filter="finished"),
    Column(name="tags", kind=Kind.TEXTS, filter="tag"),
)
"""What executions are filtered by; their tags stand in `execution_details`."""


@dataclass(slots=True)
class Where:
    """Conditions on one table as they are written down, and the values they bind."""

    dialect: Dialect
    values: list[Any] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)

    def bind(self, value: Any) -> str:
        """Bind a value; its placeholder."""
        self.values.append(value)
        return self.dialect.mark(len(self.values))

    def bind_as(self, column: Column, value: Any) -> str:
        """Bind a value as what `column` holds."""
        return self.bind(self.dialect.writer(column)(value))

    def compared(self, column: Column, value: Any) -> str:
        """Bind a value that `column` is compared with, which it need not be able to hold."""
        mark = self.bind_as(column, value)
        # Else PostgreSQL takes it for one of the column's own type, and refuses what is too large for that.
        is_cast = column.kind is Kind.INTEGER and self.dialect.name == "postgresql"
        return f"{mark}::bigint" if is_cast else mark

    def _holds(self, column: Column, text: str) -> str:
        mark = self.bind(self.dialect.held(text, what=column.name))
        return self.dialect.contains(self.dialect.quoted(column.name), mark)

    def add(self, condition: Condition) -> None:
        """Add one condition on the table itself."""
        column, name = condition.column, self.dialect.quoted(condition.column.name)
        match condition.op:
            case "set" | "unset":
                self.clauses.append(f"{name} IS {'NOT ' if condition.op == 'set' else ''}NULL")
            case "contains":
                self.clauses.append(self._holds(column, condition.value))
            case "lacks":
                self.clauses.append(f"NOT {self._holds(column, condition.value)}")
            case "among":
                self.clauses.append(
                    self.dialect.among(name, self.bind(bound_list(self.dialect.name, condition.value)))
                )
            case "<>" if column.nullable:
                self.clauses.append(f"({name} <> {self.compared(column, condition.value)} OR {name} IS NULL)")
            case op:
                self.clauses.append(f"{name} {op} {self.compared(column, condition.value)}")

    @property
    def text(self) -> str:
        """The conditions, joined."""
        return " AND ".join(self.clauses)


@dataclass(frozen=True, slots=True)
class Sort:
    """What a page is ordered by, and which way; the id decides between equals."""

    column: Column
    descending: bool

    @property
    def spelled(self) -> str:
        """The sort as a caller writes it."""
        return f"{'-' if self.descending else ''}{self.column.name}"


_SORTED = (Kind.TEXT, Kind.INTEGER, Kind.REAL, Kind.MOMENT, Kind.DURATION)


def parse_sort(text: str, table: Table) -> Sort:
    """`created_at`, or `-created_at` for the greatest first. Raises `InvalidArgument`."""
    name = text.removeprefix("-")
    for column in table.columns:
        if name in (column.name, column.filter) and _is_sortable(column):
            return Sort(column, text.startswith("-"))
    allowed = ", ".join(column.name for column in table.columns if _is_sortable(column))
    raise InvalidArgument(f"records can not be sorted by {name!r}", where="sort", fix=f"use {allowed}")


def _is_sortable(column: Column) -> bool:
    hidden = column.nullable or column.secret or column.name == "tenant_id"
    return not hidden and column.kind in _SORTED


def keyset(where: Where, sort: Sort, id_column: Column, cursor: Sequence[Any]) -> None:
    """Add the condition that a row lies behind a position.

    The first half alone bounds the range that an index reads; a row value would not on every database.
    """
    sign = "<" if sort.descending else ">"
    name, value, id = sort.column.name, cursor[0], where.bind(cursor[1])
    name = where.dialect.quoted(name)
    if sort.column.name == id_column.name:
        where.clauses.append(f"{name} {sign} {id}")
        return
    first, again = where.bind(value), where.bind(value)
    where.clauses.append(f"{name} {sign}= {first} AND ({name} {sign} {again} OR id {sign} {id})")


def check_limit(limit: int, offset: int = 0) -> None:
    """Refuse a page that is too large or lies too far behind. Raises `InvalidArgument`."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidArgument(f"the limit {limit} is outside 1 to {LIMIT_MAX}")
    if not 0 <= offset <= OFFSET_MAX:
        raise InvalidArgument(
            f"the offset {offset} is outside 0 to {OFFSET_MAX}",
            fix="go on from the cursor of the page before",
        )


def encode_position(parts: Sequence[Any]) -> str:
    """The opaque text of a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def read_position(text: str) -> list[Any] | None:
    """The parts of a position; None for what `encode_position` did not make."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        return None
    return parts if isinstance(parts, list) else None


def decode_position(text: str, length: int) -> list[Any]:
    """The parts of a position in a list; `InvalidArgument` for any other text."""
    parts = read_position(text)
    if parts is None or len(parts) != length:
        raise InvalidArgument(f"{text[:40]!r} is not a cursor of this list", fix="pass one that a page gave")
    return parts


# Executions.


def parse_query(words: str | Sequence[str] | Query) -> Query:
    """The query for executions that a person wrote; see `holdfast.store.filters`."""
    if isinstance(words, Query):
        return words
    return parse(words, EXECUTION_COLUMNS)


def executions_page(
    dialect: Dialect, tenant: str, query: Query, *, before: bytes | None, limit: int
) -> tuple[str, list[Any]]:
    """A page of executions, newest first, behind the key `before`: the statement and its values."""
    check_limit(limit)
    where = _executions_where(dialect, tenant, query)
    if before is not None:
        where.clauses.append(f"{dialect.quoted('key')} < {where.bind(before)}")
    columns = ", ".join(dialect.quoted(name) for name in _READ)
    return (
        f"SELECT {columns} FROM {dialect.table('executions')} WHERE {where.text} "
        f"ORDER BY {dialect.quoted('key')} DESC LIMIT {where.bind(limit)}"
    ), where.values


def executions_count(dialect: Dialect, tenant: str, query: Query) -> tuple[str, list[Any]]:
    """How many executions fit: the statement and its values."""
    where = _executions_where(dialect, tenant, query)
    return f"SELECT count(*) FROM {dialect.table('executions')} WHERE {where.text}", where.values


def executions_count_up_to(dialect: Dialect, tenant: str, query: Query, limit: int) -> tuple[str, list[Any]]:
    """How many executions fit, but no more than `limit` are looked at: the statement and its values."""
    where = _executions_where(dialect, tenant, query)
    inner = f"SELECT 1 FROM {dialect.table('executions')} WHERE {where.text} LIMIT {limit}"
    return f"SELECT count(*) FROM ({inner}) AS counted", where.values


def executions_estimate(dialect: Dialect, tenant: str, query: Query) -> tuple[str, list[Any]] | None:
    """What asks the planner how many executions fit; None where there is no planner that knows."""
    explain = explained(dialect)
    if explain is None:
        return None
    where = _executions_where(dialect, tenant, query)
    return f"{explain} SELECT id FROM {dialect.table('executions')} WHERE {where.text}", where.values


def explained(dialect: Dialect) -> str | None:
    """What goes before a statement to have its plan as JSON; None where a plan tells no numbers."""
    return {"postgresql": "EXPLAIN (FORMAT JSON)", "mysql": "EXPLAIN FORMAT=JSON"}.get(dialect.name)


def _executions_where(dialect: Dialect, tenant: str, query: Query) -> Where:
    where = Where(dialect)
    where.clauses.append(f"tenant_id = {where.bind(tenant)}")
    for condition in query.conditions:
        if condition.column.name == "tags":
            tagged = Where(dialect, where.values)
            tagged.add(Condition(condition.column, "contains", condition.value))
            negated = "NOT " if condition.op == "lacks" else ""
            where.clauses.append(
                f"{dialect.quoted('key')} {negated}IN "
                f"(SELECT execution FROM {dialect.table('execution_details')} WHERE {tagged.text})"
            )
        else:
            where.add(condition)
    return where


def bound_list(dialect: str, values: Sequence[bytes] | Sequence[str]) -> Any:
    """Several keys or texts as one bound value: an array on PostgreSQL, else JSON (bytes as hex)."""
    if dialect == "postgresql":
        return [value if isinstance(value, bytes) else checked_text(value, "a text") for value in values]
    listed = [value.hex() if isinstance(value, bytes) else checked_text(value, "a text") for value in values]
    return json.dumps(listed)
