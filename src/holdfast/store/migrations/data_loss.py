"""Refuses a downgrade that would lose rows.

The rule looks at the statements of a Down section, not at their intent: DROP TABLE, DROP COLUMN, TRUNCATE
and DELETE are refused while a table they name has rows, DROP SCHEMA always, unless the caller allows data
loss. It is asked directly before each statement, with the table locked (inside the transaction; on MySQL by
LOCK TABLES), so no row slips in between. It does not see UPDATE, a narrowing change of type, or SQL that a
function builds from text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.store.migrations.catalogue import catalogue
from holdfast.store.migrations.marks import Handling, Mark, Trace, holds
from holdfast.store.migrations.reader import Reader
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.migrations.splitter import NAME, NAME_PART, Dialect, code

_LIST = rf"{NAME}(?:\s*,\s*(?:ONLY\s+)?{NAME})*"
_WHOLE_TABLE = re.compile(
    rf"\b(?P<verb>DROP\s+TABLE|TRUNCATE|DELETE\s+FROM)\s+(?:TABLE\s+)?(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?"
    rf"(?P<tables>{_LIST})",
    re.IGNORECASE,
)
_ALTER = re.compile(
    rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<table>{NAME})(?P<change>[^;]*)", re.IGNORECASE
)
# All of them allow `DROP tags` for `DROP COLUMN tags`.
_DROP_COLUMN = re.compile(
    r"\bDROP\s+(?!CONSTRAINT\b|DEFAULT\b|NOT\s+NULL\b|IDENTITY\b|EXPRESSION\b)", re.IGNORECASE
)
_MYSQL_DROP_COLUMN = re.compile(
    r"\bDROP\s+(?!CONSTRAINT\b|DEFAULT\b|PRIMARY\s|INDEX\b|KEY\b|FOREIGN\s|CHECK\b)"
    r"|\bTRUNCATE\s+PARTITION\b",
    re.IGNORECASE,
)
_DROP_SCHEMA = re.compile(r"\bDROP\s+(SCHEMA|DATABASE)\b", re.IGNORECASE)
# What a migration of Holdfast's own fills for its inner use; nobody's data.
_BOOKKEEPING = frozenset({"log_eras"})
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
        if dialect == "mysql" and match["tables"].upper() == "PARTITION":
            continue  # a clause of ALTER TABLE
        action = " ".join(match["verb"].upper().split())
        for table in _SPLIT_NAMES.split(match["tables"]):
            yield Loss(action, table)
    drops = _MYSQL_DROP_COLUMN if dialect == "mysql" else _DROP_COLUMN
    for match in _ALTER.finditer(text):
        if drops.search(match["change"]):
            yield Loss("DROP COLUMN of", match["table"])
    if _DROP_SCHEMA.search(text):
        yield Loss("DROP SCHEMA", None)


async def find_loss(
    session: MigrationSession, statement: str, dialect: Dialect, *, lock: bool
) -> Loss | None:
    """The first loss that `statement` would really cause now, or None.

    `lock` keeps writers out of the tables: until the end of the transaction that is open, on MySQL until
    UNLOCK TABLES.
    """
    found = [loss for loss in possible_losses(statement, dialect) if loss.table not in _BOOKKEEPING]
    if any(loss.table is None for loss in found):
        return next(loss for loss in found if loss.table is None)
    there = [loss for loss in found if await table_exists(session, str(loss.table), dialect)]
    if lock and there:
        await _lock(session, there, dialect, all_there=len(there) == len(found))
    for loss in there:
        # The name was matched as an identifier, so it can stand in the text.
        rows = await session.fetch(f"SELECT EXISTS (SELECT 1 FROM {loss.table})")
        if rows[0][0]:
            return loss
    return None


async def _lock(
    session: MigrationSession, losses: Sequence[Loss], dialect: Dialect, *, all_there: bool
) -> None:
    tables = list(dict.fromkeys(loss.table for loss in losses))
    if dialect == "postgresql":
        for table in tables:
            await session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    elif dialect == "mysql" and all_there:
        # With locks held, MySQL refuses a statement that names any other table, even one that is not there.
        await session.execute("LOCK TABLES " + ", ".join(f"{table} WRITE" for table in tables))


async def table_exists(session: MigrationSession, table: str, dialect: Dialect) -> bool:
    """Whether there is a table with this name, as a statement has it."""
    if dialect == "mysql":
        name = Reader(table).name()
        mark = Mark("table", name.schema, None, name.name, present=True)
        return await holds(session, Trace(Handling.VISIBLE, (mark,)))
    plain = table
    if dialect == "sqlite":
        last = re.findall(NAME_PART, table)[-1]
        plain = last[1:-1].replace('""', '"') if last[0] in '"`[' else last
    rows = await session.fetch(catalogue(dialect)["table"], plain)
    return bool(rows[0][0])
