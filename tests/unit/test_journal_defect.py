"""A defect in the flusher itself must not leave anybody waiting."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.records.events import EventType
from holdfast.store.drivers.sqlite import SqliteDriver
from holdfast.store.entries import Entry, Holding
from holdfast.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_entries_are_refused_when_the_flusher_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(SqliteDriver(None))

    def broken() -> list[Entry]:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(journal, "_take_batch", broken)
    journal.start()
    holding = Holding(b"k" * 16, "id", "default", epoch=1)  # type: ignore[arg-type]
    waiters = [journal.append(Entry(holding, EventType.STEP_STARTED, path)) for path in "ab"]
    async with asyncio.timeout(10):
        for waiter in waiters:
            with pytest.raises(HoldfastError, match="planted"):
                await waiter
    assert holding.lost is not None
    with pytest.raises(StoreUnavailable):
        await journal.append(Entry(holding, EventType.STEP_STARTED, "c"))
