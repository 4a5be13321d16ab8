"""Whether a store holds what was written into it: every row read back, and what belongs together compared.

Reads only. A large store takes as long as reading it does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from holdfast.domain.audit import Audit
from holdfast.domain.keyrings import Keyring
from holdfast.errors import HoldfastError
from holdfast.events.log import EventLog
from holdfast.records.catalogue import all_tables
from holdfast.records.tables import Column, Kind, Table
from holdfast.store import codec
from holdfast.store.dialects import dialect_of
from holdfast.store.store import Store
from holdfast.store.table_rows import Plain, pages, table_rows

_TOLD_MAX = 20
"""So many faults of one check are told one by one."""


class Area(StrEnum):
    """What a fault is in."""

    DATABASE = "database"
    ROWS = "rows"
    OWNERS = "owners"
    EVENTS = "events"
    MESSAGES = "messages"
    AUDIT = "audit"
    DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written."""

    area: Area
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """One check that is over: what it looked at, how much of it, what it found."""

    area: Area
    looked_at: int
    faults: tuple[Fault, ...]


async def verify(
    store: Store, *, audit_keys: Keyring | None = None, report: Callable[[str, int], None] | None = None
) -> AsyncIterator[Checked]:
    """Check after check; `report` hears of the rows of each table while they are read."""
    yield await _database(store)
    yield await _rows(store, report or (lambda table, rows: None))
    yield await _owners(store)
    found = await EventLog(store).verify()
    yield _checked(Area.EVENTS, 0, [Fault(Area.EVENTS, each.execution, each.message) for each in found])
    yield await _messages(store)
    yield await _audit(store, audit_keys)
    if hasattr(store.driver, "look"):
        problems = await store.driver.look()
        faults = [Fault(Area.DOCUMENTS, each.path, each.cause) for each in problems]
        yield _checked(Area.DOCUMENTS, 0, faults)


def _checked(area: Area, looked_at: int, faults: list[Fault]) -> Checked:
    return Checked(area, looked_at, tuple(faults))


async def _database(store: Store) -> Checked:
    """What the database itself finds out about its files."""
    faults = []
    if store.driver.dialect == "sqlite":
        for text in ("PRAGMA integrity_check(20)", "PRAGMA foreign_key_check"):
            async with store.driver.migrations() as session:
                rows = await session.fetch(text)
            faults += [Fault(Area.DATABASE, text, " ".join(map(str, row))) for row in rows if row != ("ok",)]
    elif store.driver.dialect == "mysql":
        names = ", ".join(table.name for table in all_tables())
        async with store.driver.migrations() as session:
            rows = await session.fetch(f"CHECK TABLE {names}")
        faults += [Fault(Area.DATABASE, row[0], row[3]) for row in rows if row[2] not in ("status", "note")]
    return _checked(Area.DATABASE, len(all_tables()), faults)


async def _rows(store: Store, report: Callable[[str, int], None]) -> Checked:
    faults: list[Fault] = []
    total = 0
    for table in all_tables():
        rows = 0
        async for page in pages(store.driver, table_rows(table, dialect_of(store.driver))):
            rows += len(page)
            for row in page:
                faults += _row_faults(table, row)
            report(table.name, rows)
        total += rows
    return _checked(Area.ROWS, total, faults)


def _row_faults(table: Table, row: Plain) -> list[Fault]:
    faults = []
    for column, value in zip(table.columns, row, strict=True):
        if value is None:
            continue
        try:
            _read(column, value)
        except (HoldfastError, ValueError) as error:
            key = dict(zip(table.names, row, strict=True))
            named = " ".join(_spelled(key[name]) for name in table.key if name != "tenant_id")
            cause = error.cause if isinstance(error, HoldfastError) else str(error)
            faults.append(Fault(Area.ROWS, f"{table.name} {named}", f"{column.name}: {cause}"))
    return faults


def _read(column: Column, value: Any) -> None:
    if column.type is not None:
        column.type(value)
    elif column.kind is Kind.JSON:
        codec.from_json(value)
    elif column.kind is Kind.PAYLOAD:
        codec.decode(value)


def _spelled(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


async def _owners(store: Store) -> Checked:
    """Rows that belong to a row that is not there."""
    dialect, tables = dialect_of(store.driver), {table.name: table for table in all_tables()}
    faults, looked_at = [], 0
    for table in tables.values():
        if table.owner is None or table.owner[0] not in tables:
            continue
        looked_at += 1
        owner, columns = tables[table.owner[0]], table.owner[1]
        same = " AND ".join(
            f"o.{dialect.quoted(key)} = c.{dialect.quoted(column)}"
            for key, column in zip(owner.key, columns, strict=True)
        )
        rows = await store.driver.fetch_text(
            f"SELECT count(*) FROM {dialect.table(table.name)} c WHERE c.{columns[-1]} IS NOT NULL "
            f"AND NOT EXISTS (SELECT 1 FROM {dialect.table(owner.name)} o WHERE {same})"
        )
        if rows[0][0]:
            faults.append(Fault(Area.OWNERS, table.name, f"{rows[0][0]} rows belong to no {owner.name}"))
    return _checked(Area.OWNERS, looked_at, faults)


async def _messages(store: Store) -> Checked:
    """Numbers of messages without gaps, and totals that are theirs."""
    dialect = dialect_of(store.driver)
    rows = await store.driver.fetch_text(
        f"SELECT c.id, c.message_count, count(m.id), coalesce(max(m.seq), 0) "
        f"FROM {dialect.table('conversations')} c LEFT JOIN {dialect.table('messages')} m "
        f"ON m.tenant_id = c.tenant_id AND m.conversation_id = c.id "
        f"GROUP BY c.tenant_id, c.id, c.message_count"
    )
    faults = [
        Fault(
            Area.MESSAGES, f"conversation {id}", f"{counted} messages, the last is {last}, {said} are counted"
        )
        for id, said, counted, last in rows
        if not said == counted == last
    ]
    return _checked(Area.MESSAGES, len(rows), faults[:_TOLD_MAX])


async def _audit(store: Store, keys: Keyring | None) -> Checked:
    """The chain of audit entries."""
    verdict = await Audit(store, keys).verify()
    problem = verdict.problem
    faults = [] if problem is None else [Fault(Area.AUDIT, f"entry {problem.seq}", problem.text)]
    return _checked(Area.AUDIT, verdict.good, faults)
