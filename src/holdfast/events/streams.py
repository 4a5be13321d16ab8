"""A user's own streams: events appended under a name, numbered without gaps, read and followed by cursor.

The stream's head is locked for an append, so two writers never give the same number, and `expect_version`
makes an append conditional on nobody having written in between. A reader that keeps its cursor gets every
event at least once, in order within each stream. On PostgreSQL a reader stays below the oldest transaction
that is open on the server, in any database, so a long one delays it and never makes it miss anything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast.errors import InvalidArgument, VersionConflict
from holdfast.events.cursors import BEGINNING, stream_arguments, stream_position
from holdfast.events.eras import settle
from holdfast.store import codec
from holdfast.store.dialects import checked_text
from holdfast.store.drivers.base import Row
from holdfast.store.rows import moment
from holdfast.store.store import Store

APPEND_MAX = 1_000
PAGE_MAX = 1_000
NAME_BYTES_MAX = 255
PATTERN_MAX = 1_000
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One event of a user's stream. `seq` counts from 1 without gaps; `cursor` is the position behind it."""

    stream: str
    seq: int
    type: str
    payload: Any
    at: datetime
    cursor: str


class Streams:
    """The user's streams of a store.

    Example::

    streams = Streams(store)
    await streams.append("order-7", [("paid", {"cents": 900})], expect_version=3)
    async for event in streams.tail("order-*", after=cursor): ...
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def append(
        self, stream: str, events: Sequence[tuple[str, Any]], *, expect_version: int | None = None
    ) -> int:
        """Append events, all or none, in one transaction; returns the stream's new version.

        `events` are pairs of type and payload, 1 to 1,000. `expect_version` is the number of the last event
        the caller knows, 0 for a new stream; `VersionConflict` (with both) when it is another. Names and
        types have 1 to 255 bytes (`InvalidArgument`) of what a text column takes (`InvalidData`).
        """
        if not 1 <= len(events) <= APPEND_MAX:
            raise InvalidArgument(f"{len(events)} events in one append; it takes 1 to {APPEND_MAX}")
        _check_names(stream, [kind for kind, _ in events])
        encoded = [(kind, codec.encode(payload, what=f"{stream}.{kind}")) for kind, payload in events]
        tenant = self._store.tenant
        async with self._store.transaction() as transaction:
            await transaction.fetch("streams.make", tenant, stream)
            head = (await transaction.fetch("streams.lock", tenant, stream))[0][0]
            if expect_version is not None and head != expect_version:
                raise VersionConflict(
                    f"stream {stream} is at version {head}, not {expect_version}",
                    where=stream,
                    actual=head,
                    expected=expect_version,
                )
            version: int = head + len(encoded)
            await transaction.fetch("streams.advance", tenant, stream, version)
            for number, (kind, payload) in enumerate(encoded, head + 1):
                await transaction.fetch("streams.insert", tenant, stream, number, kind, payload)
        return version

    async def read(self, stream: str, *, after: int = 0, limit: int = 100) -> list[StreamEvent]:
        """Events of one stream behind number `after`, in order; empty when there are none."""
        rows = await self._store.driver.fetch(
            "streams.read", self._store.tenant, stream, after, min(limit, PAGE_MAX)
        )
        return [self._event(row) for row in rows]

    async def page(
        self, pattern: str = "*", *, after: str = BEGINNING, limit: int = 100
    ) -> list[StreamEvent]:
        """Events of all streams that match `pattern` (`*` stands for anything) behind a cursor."""
        dialect = self._store.driver.dialect
        place = stream_arguments(dialect, after)
        await settle(self._store.driver)
        rows = await self._store.driver.fetch(
            "streams.follow",
            self._store.tenant,
            *place,
            _matching(dialect, pattern),
            min(limit, PAGE_MAX),
        )
        return [self._event(row) for row in rows]

    async def tail(self, pattern: str = "*", *, after: str = BEGINNING) -> AsyncIterator[StreamEvent]:
        """Follow streams for ever, beginning behind `after`; new events arrive within about half a second."""
        cursor = after
        while True:
            events = await self.page(pattern, after=cursor)
            for event in events:
                cursor = event.cursor
                yield event
            if not events:
                await asyncio.sleep(POLL_S * random.uniform(0.8, 1.2))

    def _event(self, row: Row) -> StreamEvent:
        return StreamEvent(
            stream=row[0],
            seq=row[1],
            type=row[2],
            payload=codec.decode(row[3], what=f"event {row[1]} of {row[0]}"),
            at=moment(row[4]),
            cursor=stream_position(self._store.driver.dialect, row),
        )


def _check_names(stream: str, types: Sequence[str]) -> None:
    for what, name in (("name a stream", stream), *(("be a type", each) for each in types)):
        if not 1 <= len(checked_text(name, "a name").encode()) <= NAME_BYTES_MAX:
            raise InvalidArgument(f"{name[:40]!r} can not {what}", fix=f"use 1 to {NAME_BYTES_MAX} bytes")


def _matching(dialect: str, pattern: str) -> str:
    """A pattern as `streams.follow` has it: for LIKE, and for GLOB on SQLite, whose LIKE is blind to case."""
    if len(pattern) > PATTERN_MAX:
        raise InvalidArgument(
            f"a pattern of {len(pattern):,} characters is too long", fix=f"use at most {PATTERN_MAX:,}"
        )
    if dialect == "sqlite":
        return pattern.replace("[", "[[]").replace("?", "[?]")
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
