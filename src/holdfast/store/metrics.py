"""The store's own figures, its slow statements, and the connections that are held for long.

`Metered` stands between the store and its driver and counts every statement that passes, whatever database is
behind. A statement over the limit leaves one line in the log `holdfast.slow`, a transaction that is open for
over a minute one line in `holdfast.held`. Both are JSON, and neither holds values.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from time import perf_counter
from types import TracebackType
from typing import Any, TypeVar

from holdfast.records.executions import ExecutionKey
from holdfast.store.drivers.base import Batch, Driver, Heartbeat, Isolation, Reply, Row, Transaction
from holdfast.store.drivers.tls import Encryption
from holdfast.store.figures import BOUNDS_S, Figures, PoolFigures, Tally
from holdfast.store.hints import HintSource
from holdfast.store.holds import Hold, Holds, caller
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.statement_names import name_of

T = TypeVar("T")
BEGIN, COMMIT = "transaction.begin", "transaction.commit"
FLUSH, PUT_PAYLOAD = "journal.flush", "journal.put_payload"
_logger = logging.getLogger("holdfast.slow")


class Meter:
    """The figures of one store. `slow` is from when on a statement is told of."""

    def __init__(self, database: str, tenant: str, slow: timedelta) -> None:
        self.holds = Holds(database, tenant)
        self.slow = 0
        self._database, self._tenant, self._slow_s = database, tenant, slow.total_seconds()
        self._tallies: dict[str, Tally] = {}

    def took(self, name: str, seconds: float) -> None:
        """Count a statement that was answered after so long."""
        # Written out here, since a call would cost as much as all of it.
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally()
        tally.count += 1
        tally.total_s += seconds
        tally.histogram[bisect_left(BOUNDS_S, seconds)] += 1
        if seconds > tally.max_s:
            tally.max_s = seconds
        if seconds >= self._slow_s:
            self._tell(name, seconds)

    def failed(self, name: str, seconds: float) -> None:
        """Count a statement that ended in an error after so long."""
        self.took(name, seconds)
        self._tallies[name].errors += 1

    async def timed(self, name: str, work: Awaitable[T]) -> T:
        """What `work` gives, counted under this name."""
        began = perf_counter()
        try:
            given = await work
        except Exception:
            self.took(name, perf_counter() - began)
            self._tallies[name].errors += 1
            raise
        self.took(name, perf_counter() - began)
        return given

    def _tell(self, name: str, seconds: float) -> None:
        self.slow += 1
        line = {
            "level": "warn",
            "message": "Slow query detected",
            "duration": round(seconds * 1000),
            "database": self._database,
            "statement": name,
            "tenant": self._tenant,
        }
        _logger.warning("%s", json.dumps(line, ensure_ascii=False))

    def figures(self, pool: PoolFigures) -> Figures:
        """As they stand now."""
        found = [tally.figures(name) for name, tally in self._tallies.items()]
        found.sort(key=lambda each: each.total_s, reverse=True)
        return Figures(statements=tuple(found), pool=pool, slow=self.slow)


class Metered:
    """A driver whose statements are counted; see `Driver`. What only its own kind has is read through it."""

    def __init__(self, driver: Driver, meter: Meter) -> None:
        self.inner = driver
        self._meter = meter
        self.dialect = driver.dialect
        self.schema, self.now, self.path = driver.schema, driver.now, driver.path
        self.shared, self.flushes_here = driver.shared, driver.flushes_here

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def open(self) -> None:
        """See `Driver.open`."""
        await self.inner.open()

    async def settle(self) -> None:
        """See `Driver.settle`."""
        await self.inner.settle()

    async def close(self) -> None:
        """See `Driver.close`."""
        self._meter.holds.close()
        await self.inner.close()

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        return await self._meter.timed(name, self.inner.fetch(name, *args))

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        return await self._meter.timed(name_of(text), self.inner.fetch_text(text, *args))

    def transaction(
        self, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AbstractAsyncContextManager[Transaction]:
        """See `Driver.transaction`."""
        return _Block(self.inner.transaction(isolation=isolation), self._meter, caller())

    async def flush(self, batch: Batch) -> list[Reply]:
        """See `Driver.flush`; counted once, however many entries it has."""
        return await self._meter.timed(FLUSH, self.inner.flush(batch))

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        """See `Driver.put_payload`."""
        await self._meter.timed(PUT_PAYLOAD, self.inner.put_payload(execution, digest, tenant, body))

    def migrations(self) -> AbstractAsyncContextManager[MigrationSession]:
        """See `Driver.migrations`."""
        return self.inner.migrations()

    def heartbeat(self) -> Heartbeat | None:
        """See `Driver.heartbeat`."""
        return self.inner.heartbeat()

    def hints(self) -> HintSource | None:
        """See `Driver.hints`."""
        return self.inner.hints()

    async def encryption(self) -> list[Encryption]:
        """See `Driver.encryption`."""
        return await self.inner.encryption()

    def pool_figures(self) -> PoolFigures:
        """See `Driver.pool_figures`."""
        return self.inner.pool_figures()


class _Block:
    """A transaction whose begin and commit are counted, and which is reported when it stays open for long."""

    __slots__ = ("_hold", "_inner", "_meter", "_taken")

    def __init__(
        self, inner: AbstractAsyncContextManager[Transaction], meter: Meter, taken: tuple[str, int, str]
    ) -> None:
        self._inner, self._meter, self._taken = inner, meter, taken
        self._hold: Hold | None = None

    async def __aenter__(self) -> Transaction:
        began = perf_counter()
        try:
            transaction = await self._inner.__aenter__()
        except Exception:
            self._meter.failed(BEGIN, perf_counter() - began)
            raise
        self._meter.took(BEGIN, perf_counter() - began)
        self._hold = self._meter.holds.taken(self._taken)
        return MeteredTransaction(transaction, self._meter, self._hold)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        began = perf_counter()
        try:
            swallowed = await self._inner.__aexit__(kind, error, trace)
        except Exception as failure:
            if failure is not error:
                self._meter.failed(COMMIT, perf_counter() - began)
            raise
        finally:
            if self._hold is not None:
                self._meter.holds.given_back(self._hold)
        if kind is None:
            self._meter.took(COMMIT, perf_counter() - began)
        return swallowed


class MeteredTransaction:
    """An open transaction whose statements are counted; see `Transaction`."""

    def __init__(self, transaction: Transaction, meter: Meter, hold: Hold) -> None:
        self.inner = transaction
        self._meter, self._hold = meter, hold

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """See `Executor.fetch`."""
        self._hold.statement = name
        return await self._meter.timed(name, self.inner.fetch(name, *args))

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        self._hold.statement = name = name_of(text)
        return await self._meter.timed(name, self.inner.fetch_text(text, *args))

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Transaction.load`."""
        self._hold.statement = name = f"{table}.load"
        await self._meter.timed(name, self.inner.load(table, columns, rows))

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """See `Transaction.savepoint`."""
        return self.inner.savepoint()
