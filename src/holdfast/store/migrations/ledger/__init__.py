"""`schema_migrations`: one row for each applied migration, in the database it was applied to.

On PostgreSQL the table lies in Holdfast's schema. It is created together with the first migration, where DDL
can be undone inside the same transaction, so a first migration that fails leaves nothing behind and reading
never writes. On MySQL, where it can not, a second table holds the steps of a migration that is under way.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from holdfast.store.migrations.files import Migration
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.sql import split

if TYPE_CHECKING:
    from holdfast.store.migrations.splitter import Dialect

_LAST = 2**31 - 1
_PLACEHOLDER = re.compile(r"[$?](\d)")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What is recorded about an applied migration; `checksum` is None in a row made by hand."""

    version: int
    name: str
    checksum: str | None
    applied_at: datetime
    duration_ms: int
    applied_by: str


class Step(NamedTuple):
    """A statement of a migration that is under way; `seen_before`: its marks were there before it ran."""

    version: int
    number: int
    direction: str
    checksum: str
    is_done: bool
    seen_before: bool


class Ledger:
    """Reads and writes the ledger through one session; transactions and the lock are the caller's."""

    def __init__(self, session: MigrationSession, dialect: Dialect) -> None:
        self._session = session
        self._statements = {
            name: render(text, session.schema, session.binary)
            for name, text in ledger_statements(dialect).items()
        }

    async def rows(self) -> dict[int, LedgerRow]:
        """Every applied version in ascending order; empty when there is no ledger yet."""
        if not await self._exists():
            return {}
        rows = await self._session.fetch(self._statements["read"])
        return {row[0]: LedgerRow(row[0], row[1], row[2], _moment(row[3]), row[4], row[5]) for row in rows}

    async def ensure(self) -> None:
        """Create the schema and the table when they are missing; the caller holds the lock."""
        schema = self._session.schema
        if await self._exists():
            return
        if schema is not None and not await self._ask("schema_exists", schema):
            await self._session.execute(self._statements["create_schema"])
        await self.run_if_named("create_steps")
        await self._session.execute(self._statements["create_table"])

    async def add(self, migration: Migration) -> None:
        """Record `migration` as applied by this process."""
        await self._session.execute(
            self._statements["add"], migration.version, migration.name, migration.checksum, applied_by()
        )

    async def finish(self, version: int, duration_ms: int) -> None:
        """Record how long the migration took."""
        await self._session.execute(self._statements["finish"], version, duration_ms)

    async def amend(self, migration: Migration) -> None:
        """Record the name and the checksum that the migration's file has now."""
        await self._session.execute(
            self._statements["amend"], migration.version, migration.name, migration.checksum
        )

    async def remove(self, version: int) -> None:
        """Record the migration as not applied."""
        await self._session.execute(self._statements["remove"], version)

    async def steps(self) -> list[Step]:
        """What is noted of migrations that are under way, in order; nothing where DDL can be undone."""
        if "steps" not in self._statements or not await self._exists():
            return []
        rows = await self._session.fetch(self._statements["steps"])
        return [Step(row[0], row[1], row[2], row[3], row[4] == "done", bool(row[5])) for row in rows]

    async def begin_step(self, step: Step) -> None:
        """Note that a statement is about to run; durable at once, outside of a transaction."""
        await self._session.execute(
            self._statements["begin_step"],
            step.version,
            step.number,
            step.direction,
            step.checksum,
            step.seen_before,
        )

    async def end_steps(self, version: int, first: int, last: int) -> None:
        """Note that the statements from `first` to `last` ran."""
        await self._session.execute(self._statements["end_steps"], version, first, last)

    async def forget_steps(self, version: int, first: int = 1, last: int = _LAST) -> None:
        """Note that the statements from `first` to `last` did not run, or need no note any more."""
        if "forget_steps" in self._statements:
            await self._session.execute(self._statements["forget_steps"], version, first, last)

    async def run_if_named(self, name: str) -> None:
        """Run a statement that only some dialects have."""
        if name in self._statements:
            await self._session.execute(self._statements[name])

    async def _exists(self) -> bool:
        schema = self._session.schema
        return await self._ask("exists", *(() if schema is None else (schema,)))

    async def _ask(self, name: str, *args: object) -> bool:
        rows = await self._session.fetch(self._statements[name], *args)
        return bool(rows[0][0])


@lru_cache(maxsize=3)
def ledger_statements(dialect: Dialect) -> dict[str, str]:
    """The statements of a dialect by name; `{schema}` still stands in them."""
    from importlib.resources import files

    text = (files(__name__) / f"{dialect}.sql").read_text(encoding="utf-8")
    return {name.removeprefix("ledger."): body for name, body in split(text).items()}


def render(text: str, schema: str | None, binary: str | None = None) -> str:
    """`text` with `{schema}` replaced by the quoted schema and `{binary}` by the collation, where given."""
    if schema is not None:
        text = text.replace("{schema}", quoted(schema))
    return text if binary is None else text.replace("{binary}", binary)


def quoted(identifier: str) -> str:
    """`identifier` as a quoted SQL name."""
    return '"' + identifier.replace('"', '""') + '"'


def with_literals(statement: str, *values: int | str) -> str:
    """`statement` with its numbered placeholders filled in, for printing only."""
    literals = ["'" + v.replace("'", "''") + "'" if isinstance(v, str) else str(v) for v in values]
    return _PLACEHOLDER.sub(lambda match: literals[int(match[1]) - 1], statement)


def applied_by() -> str:
    """Host and process, as recorded in the ledger."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)
