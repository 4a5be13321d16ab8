"""Refuses a downgrade that would lose rows.

The rule looks at the statements of a Down section, not at their intent: DROP TABLE, DROP COLUMN, TRUNCATE
and DELETE are refused while a table they name has rows, DROP SCHEMA always, unless the caller allows data
loss. It is asked directly before each statement, inside the transaction and with the table locked, so
no row slips in between. It does not see UPDATE, a narrowing change of type, or SQL that a function builds
from text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.store.migrations.session import MigrationSession
from holdfast.store.migrations.splitter import Dialect, code

_PART = r'(?:"(?:[^"]|"")+"|`[^`]+`|\[[^]]+\]|\w[\w$]*)'
_NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
_LIST = rf"{_NAME}(?:\s*,\s*(?:ONLY\s+)?{_NAME})*"
_WHOLE_TABLE = re.compile(
    rf"\b(?P<verb>DROP\s+TABLE|TRUNCATE|DELETE\s+FROM)\s+(?:TABLE\s+)?(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?"
    rf"(?P<tables>{_LIST})",
    re.IGNORECASE,
)
_ALTER = re.compile(
    rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<table>{_NAME})(?P<change>[^;]*)", re.IGNORECASE
)
# PostgreSQL and SQLite both allow `DROP tags` for `DROP COLUMN tags`.
_DROP_COLUMN = re.compile(
    r"\bDROP\s+(?!CONSTRAINT\b|DEFAULT\b|NOT\s+NULL\b|IDENTITY\b|EXPRESSION\b)", re.IGNORECASE
)
_DROP_SCHEMA = re.compile(r"\bDROP\s+SCHEMA\b", re.IGNORECASE)
_SPLIT_NAMES = re.compile(r"\s*,\s*(?:ONLY\s+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a statement would remove; `table` is None when it names no table."""

    action: str
    table: str | None


def possible_losses(statement: str, dialect: Dialect) -> Iterator[Loss]:
    """Every removal of rows or columns that `statement` (with its schema filled in) spells out."""
    text = code(statement, dialect)
    for match in _WHOLE_TABLE.finditer(text):
        action = " ".join(match["verb"].upper().split())
        for table in _SPLIT_NAMES.split(match["tables"]):
            yield Loss(action, table)
    for match in _ALTER.finditer(text):
        if _DROP_COLUMN.search(match["change"]):
            yield Loss("DROP COLUMN of", match["table"])
    if _DROP_SCHEMA.search(text):
        yield Loss("DROP SCHEMA", None)


async def find_loss(
    session: MigrationSession, statement: str, dialect: Dialect, *, lock: bool
) -> Loss | None:
    """The first loss that `statement` would really cause now, or None.

    `lock` needs an open transaction; it keeps writers out of the table until that ends.
    """
    for loss in possible_losses(statement, dialect):
        if loss.table is None:
            return loss
        if not await _table_exists(session, loss.table, dialect):
            continue
        if lock and dialect == "postgresql":
            await session.execute(f"LOCK TABLE {loss.table} IN ACCESS EXCLUSIVE MODE")
        # The name was matched as an identifier, so it can stand in the text.
        rows = await session.fetch(f"SELECT EXISTS (SELECT 1 FROM {loss.table})")
        if rows[0][0]:
            return loss
    return None


async def _table_exists(session: MigrationSession, table: str, dialect: Dialect) -> bool:
    if dialect == "postgresql":
        rows = await session.fetch("SELECT to_regclass($1) IS NOT NULL", table)
    else:
        last = re.findall(_PART, table)[-1]
        plain = last[1:-1].replace('""', '"') if last[0] in '"`[' else last
        rows = await session.fetch(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1))",
            plain,
        )
    return bool(rows[0][0])
