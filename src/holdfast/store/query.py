"""Filters, sorting and keyset pages as SQL: one table, AND of `column op value`, one sort column plus key.

A query is written as people write it, `status:failed workflow:report started:>2h -queue:slow`, parsed once
and turned into a statement whose values are bound. Whatever needs a join, an OR or an aggregate is a named
statement in a `.sql` file instead.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.durations import parse_duration
from holdfast.errors import HoldfastError, InvalidArgument
from holdfast.records.executions import ExecutionStatus

LIMIT_MAX = 1_000
_WORD = re.compile(r'(-?)([a-z]+):("[^"]*"|\S+)|(\S+)')
_TEXT_COLUMNS = {name: name for name in ("status", "workflow", "queue", "version", "id")}
_TIME_COLUMNS = {"started": "created_at", "finished": "finished_at"}
_COLUMNS = (
    "key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner, "
    "epoch, recoveries, wakes, parent, created_at, finished_at"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """`column op value`; `op` is one of the few operators below."""

    column: str
    op: str
    value: Any


def parse_query(words: str | Sequence[str]) -> tuple[Condition, ...]:
    """The conditions of a query such as `status:failed started:<2h -workflow:test`.

    `started:<2h` is "less than two hours ago", `started:>2h` longer ago; times are also ISO 8601 dates.
    Raises `InvalidArgument` that names the word and the nearest right qualifier.
    """
    text = words if isinstance(words, str) else " ".join(words)
    conditions = []
    for match in _WORD.finditer(text):
        negated, name, value, bare = match.groups()
        if bare is not None:
            raise InvalidArgument(
                f"{bare[:80]!r} is not a filter", where="query", fix="write it as status:failed workflow:NAME"
            )
        conditions.append(_condition(name, value.strip('"'), negated == "-"))
    return tuple(conditions)


def _condition(name: str, value: str, negated: bool) -> Condition:
    if name in _TIME_COLUMNS:
        return _time_condition(name, value, negated)
    if name not in _TEXT_COLUMNS:
        known = [*_TEXT_COLUMNS, *_TIME_COLUMNS]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}: ?" if near else f"use one of {', '.join(known)}"
        raise InvalidArgument(f"there is no filter {name!r}", where="query", fix=hint)
    if name == "status" and value not in list(ExecutionStatus):
        near = difflib.get_close_matches(value, [str(status) for status in ExecutionStatus], 1)
        hint = near[0] if near else ", ".join(ExecutionStatus)
        raise InvalidArgument(f"there is no status {value!r}", where="query", fix=f"use {hint}")
    return Condition(_TEXT_COLUMNS[name], "<>" if negated else "=", value)


def _time_condition(name: str, value: str, negated: bool) -> Condition:
    comparison, rest = (value[0], value[1:]) if value[:1] in "<>" else ("", value)
    if negated or not comparison:
        raise InvalidArgument(
            f"{name}:{value} needs < or >", where="query", fix=f"write {name}:<2h or {name}:>2026-01-31"
        )
    try:
        boundary = datetime.fromisoformat(rest)
        boundary = boundary if boundary.tzinfo else boundary.replace(tzinfo=UTC)
        op = comparison
    except ValueError:
        try:
            age = parse_duration(rest)
        except HoldfastError as error:
            raise InvalidArgument(
                f"{rest[:40]!r} is neither a duration nor a date", where=f"query, {name}:"
            ) from error
        boundary = datetime.now(UTC) - age
        op = ">" if comparison == "<" else "<"  # less than 2 h ago lies after that moment
    return Condition(_TIME_COLUMNS[name], op, boundary)


def executions_page(
    dialect: str,
    schema: str,
    tenant: str,
    conditions: Sequence[Condition],
    *,
    before: bytes | None,
    limit: int,
) -> tuple[str, list[Any]]:
    """A page of executions, newest first, behind the key `before`: the statement and its values."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidArgument(f"the limit {limit} is outside 1 to {LIMIT_MAX}")
    keyed = [*conditions, *([Condition("key", "<", before)] if before is not None else [])]
    table, values = _filtered(dialect, schema, tenant, keyed)
    values.append(limit)
    mark = "$" if dialect == "postgresql" else "?"
    return f"SELECT {_COLUMNS} FROM {table} ORDER BY key DESC LIMIT {mark}{len(values)}", values


def executions_count(
    dialect: str, schema: str, tenant: str, conditions: Sequence[Condition]
) -> tuple[str, list[Any]]:
    """How many executions fit: the statement and its values."""
    table, values = _filtered(dialect, schema, tenant, conditions)
    return f"SELECT count(*) FROM {table}", values


def _filtered(
    dialect: str, schema: str, tenant: str, conditions: Sequence[Condition]
) -> tuple[str, list[Any]]:
    mark = "$" if dialect == "postgresql" else "?"
    table = f"{schema}.executions" if schema else "executions"
    clauses, values = [f"tenant_id = {mark}1"], list[Any]([tenant])
    for condition in conditions:
        values.append(_bound(dialect, condition.value))
        clauses.append(f"{condition.column} {condition.op} {mark}{len(values)}")
    return f"{table} WHERE {' AND '.join(clauses)}", values


def _bound(dialect: str, value: Any) -> Any:
    if dialect == "sqlite" and isinstance(value, datetime):
        return round((value - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    return value


def bound_list(dialect: str, values: Sequence[bytes] | Sequence[str]) -> Any:
    """Several keys or texts as one bound value: an array on PostgreSQL, JSON (bytes as hex) on SQLite."""
    if dialect == "postgresql":
        return list(values)
    return json.dumps([value.hex() if isinstance(value, bytes) else value for value in values])
