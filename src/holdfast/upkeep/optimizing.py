"""What keeps a store fast: room given back, and statistics for the planner brought up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import perf_counter

from holdfast.records.catalogue import all_tables
from holdfast.store.dialects import dialect_of
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.store import Store


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that was done, and how long it took."""

    what: str
    took_s: float


async def optimize(store: Store, *, report: Callable[[str], None] = lambda what: None) -> AsyncIterator[Done]:
    """Step after step; none of them stops readers or writers for long.

    `report` hears of each step when it begins. Interrupted, what was done stays done.
    """
    async with store.driver.migrations() as session:
        for what in steps(store):
            report(what)
            began = perf_counter()
            await _run(session, what)
            yield Done(what, perf_counter() - began)


def steps(store: Store) -> list[str]:
    """The statements, in their order."""
    dialect = dialect_of(store.driver)
    names = [dialect.table(table.name) for table in all_tables()]
    match dialect.name:
        case "postgresql":
            refresh = f"SELECT {dialect.table('refresh_dashboards')}()"
            return [*(f"VACUUM (ANALYZE) {name}" for name in names), refresh]
        case "mysql":
            return [f"ANALYZE TABLE {name}" for name in names]
        case _:
            words = [f"{table.name}_words" for table in all_tables() if any(c.search for c in table.columns)]
            merge = [f"INSERT INTO {name} ({name}) VALUES ('optimize')" for name in words]
            return ["ANALYZE", *merge, "PRAGMA wal_checkpoint(TRUNCATE)"]


async def _run(session: MigrationSession, statement: str) -> None:
    if statement.startswith(("PRAGMA", "ANALYZE TABLE")):
        await session.fetch(statement)
    else:
        await session.execute(statement)
