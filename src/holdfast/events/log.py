"""The event log for readers: one execution by number, everything by cursor, and whether it is whole.

Within an execution numbers run from 1 without a hole and become visible in their order, so a reader of one
execution goes on behind the last number it saw. A reader of the whole log keeps a cursor (see `cursors`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.events.cursors import BEGINNING, decode_cursor
from holdfast.events.eras import settle
from holdfast.records.events import Event, EventType
from holdfast.records.executions import Execution, ExecutionKey
from holdfast.store import codec
from holdfast.store.drivers.base import Row
from holdfast.store.query import encode_position
from holdfast.store.rows import lasting, moment
from holdfast.store.store import Store

PAGE_MAX = 1_000
POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a log. `seq` is None when it is about the whole execution."""

    execution: str
    seq: int | None
    kind: str  # gap, missing_value, end, damaged
    message: str


class EventLog:
    """The log of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, execution: Execution, *, after: int = 0, limit: int = 100) -> list[Event]:
        """Events of one execution behind number `after`, in order."""
        rows = await self._store.driver.fetch("events.page", execution.key, after, min(limit, PAGE_MAX))
        return [self._event(row, execution.key, execution.id) for row in rows]

    async def follow(self, execution: Execution, *, after: int = 0) -> AsyncIterator[Event]:
        """Events of one execution as they come, until it has ended and all were given."""
        while True:
            # Looked at first: what is written until an execution ends is in the page that follows.
            ended = (await self._store.get_execution(execution.id)).status.is_final
            events = await self.page(execution, after=after, limit=PAGE_MAX)
            for event in events:
                after = event.seq
                yield event
            if ended and len(events) < PAGE_MAX:
                return
            if not events:
                await asyncio.sleep(POLL_S * random.uniform(0.8, 1.2))

    async def everything(self, *, after: str = BEGINNING, limit: int = 100) -> list[Event]:
        """Events of all executions behind a cursor. Raises `InvalidArgument` for a cursor that is none."""
        return [self._event(row, ExecutionKey(row[11]), row[12]) for row in await self._rows(after, limit)]

    async def tail(self, *, after: str = BEGINNING) -> AsyncIterator[Event]:
        """Events of all executions as they come, for ever."""
        while True:
            events = await self.everything(after=after, limit=PAGE_MAX)
            for event in events:
                after = event.cursor
                yield event
            if not events:
                await asyncio.sleep(POLL_S * random.uniform(0.8, 1.2))

    async def mark(self) -> str:
        """The cursor behind everything that is there now."""
        await settle(self._store.driver)
        mark = (await self._store.driver.fetch("events.mark"))[0][0]
        return encode_position([mark, "", 0] if self._store.driver.dialect == "postgresql" else [mark])

    async def verify(self, execution: Execution | None = None) -> list[Finding]:
        """What is wrong with one log, or with all: holes, lost or damaged values, ends that differ.

        Reads everything. An execution that runs meanwhile may end between two looks; run it again then.
        """
        fetch, tenant = self._store.driver.fetch, self._store.tenant
        found = [
            Finding(id, None, "gap", f"{count} events are numbered from {first} to {last}")
            for id, count, first, last in await fetch("events.gaps", tenant)
        ]
        found += [
            Finding(
                id,
                seq,
                "missing_value",
                f"the value of event {seq} ({path or 'the execution'}) is not stored",
            )
            for id, seq, path in await fetch("events.orphans", tenant)
        ]
        found += [
            Finding(id, None, "end", f"the execution is {status}, its log ends with {end or 'no end'}")
            for id, status, end in await fetch("events.ends", tenant)
        ]
        if execution is not None:
            found = [each for each in found if each.execution == execution.id]
            return found + await self._damaged_in(execution)
        return found + await self._damaged_anywhere()

    async def _damaged_in(self, execution: Execution) -> list[Finding]:
        found: list[Finding] = []
        after = 0
        while rows := await self._store.driver.fetch("events.page", execution.key, after, PAGE_MAX):
            after = rows[-1][0]
            found += [each for row in rows for each in _damage(row, execution.id)]
        return found

    async def _damaged_anywhere(self) -> list[Finding]:
        found: list[Finding] = []
        cursor = BEGINNING
        while rows := await self._rows(cursor, PAGE_MAX):
            cursor = self._cursor(rows[-1], rows[-1][11])
            found += [each for row in rows for each in _damage(row, row[12])]
        return found

    async def _rows(self, after: str, limit: int) -> list[Row]:
        driver, limit = self._store.driver, min(limit, PAGE_MAX)
        await settle(driver)
        if driver.dialect != "postgresql":
            return await driver.fetch(
                "events.follow", *decode_cursor(after, (int,)), limit, self._store.tenant
            )
        transaction, execution, seq = decode_cursor(after, (str, str, int))
        place = (transaction or "0", bytes.fromhex(execution), seq)
        return await driver.fetch("events.follow", *place, limit, self._store.tenant)

    def _event(self, row: Row, key: ExecutionKey, id: str) -> Event:
        return Event(
            execution=key,
            execution_id=id,
            seq=row[0],
            type=EventType(row[1]),
            path=row[2],
            attempt=row[3],
            at=moment(row[4]),
            duration=lasting(row[5]),
            payload=value_of(row[6], f"event {row[0]} of {id}"),
            cursor=self._cursor(row, key),
        )

    def _cursor(self, row: Row, key: bytes) -> str:
        if self._store.driver.dialect != "postgresql":
            return encode_position([row[10]])
        return encode_position([row[10], bytes(key).hex(), row[0]])


def value_of(data: bytes | None, what: str) -> Any:
    """A stored value; None for none."""
    return codec.decode(data, what=what) if data else None


def _damage(row: Row, id: str) -> list[Finding]:
    seq, payload, reference, given = row[0], row[6], row[7], row[9]
    if payload is not None and reference is not None and codec.digest(payload) != reference:
        return [Finding(id, seq, "damaged", f"the value of event {seq} is not the one it refers to")]
    try:
        for data in (payload, given):
            value_of(data, f"event {seq}")
    except HoldfastError as error:
        return [Finding(id, seq, "damaged", error.cause)]
    return []
