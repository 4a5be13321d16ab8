"""What `up` would do: statement by statement the tables, their rows, who waits, and about how long.

Only looks. The rows are the database's own estimate, and the time is that number divided by a rate: what a
machine with two busy cores did in a second with 300,000 rows of 200 bytes, everything in memory. It tells
seconds from hours, not one second from two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from holdfast.store.migrations import plan
from holdfast.store.migrations.catalogue import catalogue
from holdfast.store.migrations.data_loss import table_exists
from holdfast.store.migrations.files import Migration, MigrationSet
from holdfast.store.migrations.ledger import Ledger, render
from holdfast.store.migrations.locks import Blocks, Work, impact_of
from holdfast.store.migrations.parser import Statement
from holdfast.store.migrations.reader import Reader
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.migrations.splitter import NAME, Dialect, code

ROWS_PER_S: dict[Dialect, dict[Work, int]] = {
    "sqlite": {Work.SCAN: 3_000_000, Work.INDEX: 800_000, Work.ROWS: 400_000, Work.REWRITE: 700_000},
    "postgresql": {Work.SCAN: 5_000_000, Work.INDEX: 500_000, Work.ROWS: 80_000, Work.REWRITE: 350_000},
    "mysql": {Work.SCAN: 2_000_000, Work.INDEX: 400_000, Work.ROWS: 150_000, Work.REWRITE: 150_000},
}
"""Rows in a second, by what is done with them."""
STATEMENT_MS: dict[Dialect, int] = {"sqlite": 1, "postgresql": 2, "mysql": 15}
"""What a statement takes without any rows; on MySQL each commits by itself."""

_TABLE = re.compile(
    r"\b(?:(?:CREATE|ALTER|DROP|TRUNCATE|RENAME)\s+(?:UNLOGGED\s+)?TABLE|INTO|UPDATE(?!\s+(?:ON|OF|OR)\b)"
    r"|FROM|JOIN|ON(?!\s+(?:DELETE|UPDATE|CONFLICT|DUPLICATE)\b)|TRUNCATE(?!\s+TABLE\b))\s+"
    r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?:ONLY\s+)?"
    rf"(?P<table>{NAME})",
    re.IGNORECASE,
)
_RENAMED = re.compile(
    rf"\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?P<old>{NAME})\s+RENAME\s+TO\s+(?P<new>{NAME})", re.IGNORECASE
)
_ROUTINE = re.compile(r"\s*(?:CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)|DO)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Forecast:
    """One statement that `up` would run.

    `table` is the first that it names (None: none), `rows` about how many rows it has to do with, `lock` the
    database's word for what it takes, `blocks` who waits for it.
    """

    version: int
    name: str
    source: str
    line: int
    statement: str
    table: str | None
    rows: int
    lock: str
    blocks: Blocks
    work: Work
    estimate_ms: int


async def forecast(session: MigrationSession, migrations: MigrationSet) -> list[Forecast]:
    """Every statement that `up` would run now, in order. Raises what `pending` raises; reads only."""
    ledger = Ledger(session, migrations.dialect)
    rows = await ledger.rows()
    plan.check(migrations, rows)
    todo = plan.to_apply(migrations, rows)
    steps = await ledger.steps()
    plan.check_interrupted(migrations, steps, forth=todo)
    done = {(step.version, step.number) for step in steps if step.is_done}
    known: dict[str, int] = {}
    await ledger.run_if_named("enter_session")  # files may leave the schema out
    try:
        return [
            await _one(session, migrations.dialect, migration, statement, known)
            for migration in todo
            for number, statement in enumerate(migration.up.statements, start=1)
            if (migration.version, number) not in done
        ]
    finally:
        await ledger.run_if_named("leave_session")


def forecast_empty(migrations: MigrationSet) -> list[Forecast]:
    """The same for a database that is not there yet."""
    return [
        _forecast(migrations.dialect, migration, statement, statement.text, {})
        for migration in migrations.migrations
        for statement in migration.up.statements
    ]


async def _one(
    session: MigrationSession,
    dialect: Dialect,
    migration: Migration,
    statement: Statement,
    known: dict[str, int],
) -> Forecast:
    text = render(statement.text, session.schema, session.binary)
    for table in tables_of(text, dialect):
        if table not in known:
            known[table] = await _rows(session, table, dialect)
    if (renamed := _RENAMED.match(text)) is not None:
        known[renamed["new"]] = known.get(renamed["old"], 0)
    return _forecast(dialect, migration, statement, text, known)


def _forecast(
    dialect: Dialect, migration: Migration, statement: Statement, text: str, known: dict[str, int]
) -> Forecast:
    impact = impact_of(text, dialect)
    tables = tables_of(text, dialect)
    # What is written may come from another table; what is built or read is the first one's.
    counted = tables if impact.work is Work.ROWS else tables[:1]
    rows = max((known.get(table, 0) for table in counted), default=0)
    rate = ROWS_PER_S[dialect].get(impact.work)
    return Forecast(
        version=migration.version,
        name=migration.name,
        source=migration.source,
        line=statement.line,
        statement=statement.summary,
        table=tables[0] if tables else None,
        rows=rows,
        lock=impact.lock,
        blocks=impact.blocks,
        work=impact.work,
        estimate_ms=STATEMENT_MS[dialect] + (round(rows * 1000 / rate) if rate else 0),
    )


def tables_of(statement: str, dialect: Dialect) -> list[str]:
    """The tables that a statement names, as it names them; the one it changes comes first."""
    text = code(statement, dialect)
    if _ROUTINE.match(text):
        return []
    return list(dict.fromkeys(match["table"] for match in _TABLE.finditer(text)))


async def _rows(session: MigrationSession, table: str, dialect: Dialect) -> int:
    """About how many rows a table has; 0 for one that is not there yet."""
    statement = catalogue(dialect)["rows"]
    if dialect == "mysql":
        name = Reader(table).name()
        rows = await session.fetch(statement, name.schema, name.name)
    elif dialect == "postgresql":
        rows = await session.fetch(statement, table)
    elif await table_exists(session, table, dialect):
        # The name was matched as an identifier, so it can stand in the text.
        rows = await session.fetch(statement.replace("{table}", table))
    else:
        rows = []
    return int(rows[0][0]) if rows else 0
