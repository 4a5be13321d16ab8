"""An open transaction on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from holdfast.store.drivers.base import Row
from holdfast.store.drivers.postgresql_errors import FAILURES, translated
from holdfast.store.sql import Statements


class PostgresqlTransaction:
    """See `Transaction`; on a pooled connection."""

    def __init__(self, connection: Any, sql: Statements, schema: str, timeout_s: float) -> None:
        self._connection = connection
        self._sql = sql
        self._schema = schema
        self._timeout_s = timeout_s

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self.fetch_text(self._sql[name], *args)

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        with translated("statement in a transaction"):
            rows: list[Row] = await self._connection.fetch(text, *args, timeout=self._timeout_s)
        return rows

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Transaction.load`: one COPY."""
        with translated("copying rows in"):
            await self._connection.copy_records_to_table(
                table, schema_name=self._schema, columns=columns, records=rows, timeout=self._timeout_s
            )

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """See `Transaction.savepoint`."""
        nested = self._connection.transaction()
        with translated("savepoint"):
            await nested.start()
        try:
            yield
        except BaseException:
            with suppress(*FAILURES):
                await asyncio.shield(nested.rollback())
            raise
        with translated("savepoint"):
            await nested.commit()
