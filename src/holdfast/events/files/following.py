"""The follower: what is committed, copied in order to wherever a log is kept, at most a second later.

One process at a time writes below a folder; the others wait for their turn and take it when that one is gone.
A follower goes on behind the position it noted, and what is in the files already is known by its number, so a
kill between any two writes repeats nothing and loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from holdfast.errors import HoldfastError, StoreInUse
from holdfast.events.cursors import BEGINNING, decode_cursor
from holdfast.events.eras import settle
from holdfast.events.files.lines import About, LoggedEvent, event_of
from holdfast.events.files.stored import Abouts
from holdfast.store.backoff import Backoff
from holdfast.store.dialects import dialect_of
from holdfast.store.drivers.base import Row
from holdfast.store.query import encode_position
from holdfast.store.store import Store

PAGE = 500
POLL_S = 0.25
_RETRY = Backoff(first_s=0.5, most_s=10.0, least_s=0.1)
_logger = logging.getLogger("holdfast.events")


class Told(Protocol):
    """Where a follower writes to. Its methods block and are called by one thread at a time."""

    def take(self) -> None:
        """Become the one who writes; `StoreInUse` while another process does. Safe twice."""
        ...

    def position(self, birth: str) -> str:
        """The position that was noted for this store; `BEGINNING` for another store, or for none."""
        ...

    def last(self, event: LoggedEvent) -> int | None:
        """The number of the last event that is there of an execution; None when it can not be written."""
        ...

    def write(self, events: Sequence[tuple[LoggedEvent, About | None]]) -> None:
        """Write events of one execution in order; those that are there already are left as they are."""
        ...

    def note(self, birth: str, position: str) -> None:
        """All events up to a position were written: make them last, then note it."""
        ...

    def close(self) -> None:
        """Let another process write. Raises what is wrong with what could not be written. Safe twice."""
        ...


class LogFollower:
    """Follows one open store. `start` and `stop` are safe twice and belong to its event loop."""

    def __init__(self, store: Store, told: Told) -> None:
        self._store = store
        self._told = told
        self._dialect = dialect_of(store.driver)
        self._abouts = Abouts(store)
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._uses = 0
        self._position: str | None = None  # none: another process writes, as far as is known
        self._birth = ""

    async def start(self) -> None:
        """Begin to follow; each `start` wants its `stop`."""
        self._uses += 1
        if self._uses == 1:
            self._stopping = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="holdfast-events")

    async def stop(self) -> None:
        """Write what is committed, and end. Raises what prevents it; nothing is lost then but late."""
        self._uses = max(self._uses - 1, 0)
        task = self._task
        if self._uses or task is None:
            return
        self._task = None
        self._stopping.set()
        await asyncio.wait([task])  # it may be writing: a file has one writer
        try:
            if await self._taken():
                while await self._pass():
                    continue
                await self._finish()
        finally:
            self._position = None
            await asyncio.to_thread(self._told.close)

    async def _follow(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            rest_s = POLL_S
            try:
                if await self._taken():
                    while await self._pass() and not self._stopping.is_set():
                        continue
                failures = 0
            except HoldfastError as error:
                failures += 1
                rest_s = _RETRY.rest_s(failures)
                _logger.error("the event log is behind: %s", error)
            except Exception:  # a defect must not end the copying for good
                failures += 1
                rest_s = _RETRY.rest_s(failures)
                _logger.exception("the event log is behind")
            try:
                await asyncio.wait_for(self._stopping.wait(), rest_s)
            except TimeoutError:
                continue

    async def _taken(self) -> bool:
        """Whether this process writes, or can from now on."""
        if self._position is not None:
            return True
        try:
            await asyncio.to_thread(self._told.take)
        except StoreInUse:
            return False
        self._birth = str((await self._store.driver.fetch("events.birth"))[0][0])
        self._position = await self._checked(await asyncio.to_thread(self._told.position, self._birth))
        return True

    async def _checked(self, position: str) -> str:
        """A noted position; the beginning if the store was put back to an earlier state since."""
        if position == BEGINNING:
            return position
        await settle(self._store.driver)
        mark = (await self._store.driver.fetch("events.mark"))[0][0]
        kind = str if self._dialect.name == "postgresql" else int
        noted = decode_cursor(position, (str, str, int) if kind is str else (int,))[0]
        return position if int(noted) <= int(mark) else BEGINNING

    async def _pass(self) -> bool:
        """Copy one page; False when there was none."""
        assert self._position is not None, "only the one who writes copies"
        await settle(self._store.driver)
        rows = await self._rows(self._position, at_once=False)
        if rows:
            await self._copy(rows)
            position = self._behind(rows[-1])
            await asyncio.to_thread(self._told.note, self._birth, position)
            self._position = position
        return bool(rows)

    async def _finish(self) -> None:
        """Copy also what others' open transactions keep from being passed. The position stays below it."""
        position = self._position or BEGINNING
        while rows := await self._rows(position, at_once=True):
            await self._copy(rows)
            position = self._behind(rows[-1])
        if self._position is not None and position != self._position:
            await asyncio.to_thread(self._told.note, self._birth, self._position)

    async def _rows(self, position: str, *, at_once: bool) -> list[Row]:
        fetch = self._store.driver.fetch
        if self._dialect.name == "postgresql":
            transaction, execution, seq = decode_cursor(position, (str, str, int))
            return await fetch(
                "events.whole", transaction or "0", bytes.fromhex(execution), seq, PAGE, at_once
            )
        (place,) = decode_cursor(position, (int,))
        more = (at_once,) if self._dialect.name == "mysql" else ()
        return await fetch("events.whole", place, PAGE, *more)

    def _behind(self, row: Row) -> str:
        if self._dialect.name != "postgresql":
            return encode_position([row[-1]])
        return encode_position([row[-1], bytes(row[0]).hex(), row[1]])

    # Copying.

    async def _copy(self, rows: Sequence[Row]) -> None:
        found: dict[bytes, dict[int, LoggedEvent]] = {}
        for row in rows:
            event = event_of(row, self._dialect)
            found.setdefault(event.execution, {})[event.seq] = event
        for events in found.values():
            await self._complete(events)
        abouts = await self._abouts.of([key for key, events in found.items() if 1 in events])
        for key, events in found.items():
            ordered = [
                (event, abouts.get(key) if seq == 1 else None) for seq, event in sorted(events.items())
            ]
            await asyncio.to_thread(self._told.write, ordered)

    async def _complete(self, events: dict[int, LoggedEvent]) -> None:
        """Add what is missing between what is there and these: a file may have been lost, or moved away."""
        newest = max(events)
        last = await asyncio.to_thread(self._told.last, events[newest])
        if last is None or all(seq in events for seq in range(last + 1, newest)):
            return
        key = events[newest].execution
        while last < newest:
            rows = await self._store.driver.fetch("events.whole_page", key, last, PAGE)
            if not rows:
                return  # the store has them no more; who writes says so
            between = [event_of(row, self._dialect) for row in rows]
            events.update((event.seq, event) for event in between if event.seq < newest)
            last = between[-1].seq
