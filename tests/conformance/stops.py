"""Transactions that stop before one of their statements, so that another connection can come in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from holdfast.store.drivers.base import Row
from holdfast.store.store import Store


class Stop:
    """Where a transaction stands still until it is released; only the first that comes there."""

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    async def pass_by(self, name: str) -> None:
        if name == self.statement and not self.reached.is_set():
            self.reached.set()
            async with asyncio.timeout(10):
                await self._released.wait()

    def release(self) -> None:
        self._released.set()


class _Stopping:
    def __init__(self, inner: Any, stop: Stop) -> None:
        self._inner = inner
        self._stop = stop

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        await self._stop.pass_by(name)
        rows: list[Row] = await self._inner.fetch(name, *args)
        return rows


@asynccontextmanager
async def stopped_at(store: Store, statement: str, *, loose: bool = False) -> AsyncIterator[Stop]:
    """While this is open, a transaction of `store` stops before `statement`.

    With `loose`, the planted defect, every statement commits by itself: what is locked is free at once.
    """
    driver: Any = store.driver
    real, stop = driver.transaction, Stop(statement)

    @asynccontextmanager
    async def transaction(**options: Any) -> AsyncIterator[Any]:
        if loose:
            yield _Stopping(driver, stop)
            return
        async with real(**options) as inner:
            yield _Stopping(inner, stop)

    driver.transaction = transaction
    try:
        yield stop
    finally:
        stop.release()
        driver.transaction = real
