"""Hints that something may have come: what ends a pause early, and never what work depends on.

Every loop that waits for work polls. A hint only says "look now": inside the process at once, and through the
driver's source also to and from other processes. It carries nothing, may be lost, repeated or mistaken, and
losing all of them costs latency within the poll's interval, never work. That is why nothing here raises and
nothing is written in the transaction a hint is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol
from weakref import WeakKeyDictionary


class HintState(StrEnum):
    """How hints from other processes arrive."""

    OFF = "off"  # this store has none, or they are switched off: polling alone
    IDLE = "idle"  # nobody has waited yet
    CONNECTING = "connecting"
    LISTENING = "listening"
    DEAF = "deaf"  # connected, but what others tell does not arrive, as behind a transaction pooler


class HintSource(Protocol):
    """A driver's way to other processes. All methods are called on the store's event loop; none raises."""

    @property
    def state(self) -> HintState:
        """How hints arrive at this moment."""
        ...

    def listen(self, heard: Callable[[], None]) -> None:
        """Somebody waits: call `heard` on this loop when another process may have changed something.

        What happened since the last call of `rest` counts. Called again after every `rest`.
        """
        ...

    def rest(self) -> None:
        """Nobody waits at the moment; a source that looks by itself may stop until the next `listen`."""
        ...

    def tell(self) -> None:
        """Something was committed: tell other processes soon, once for many calls."""
        ...

    async def close(self) -> None:
        """Tell what is still to be told, for a second at most, and stop. Safe twice."""
        ...


class Hints:
    """One per store, as `store.hints`; belongs to the store's event loop."""

    def __init__(self, source: HintSource | None) -> None:
        self._source = source
        # Called for hints from this process, for those who hold executions and do not wait here.
        self.listeners: list[Callable[[], None]] = []
        self._count = 0
        # What each waiting task has seen: a hint that comes while it looks around ends its next pause.
        self._seen: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._seen_by_any = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def state(self) -> HintState:
        """How hints from other processes arrive at this moment."""
        return HintState.OFF if self._source is None else self._source.state

    def ready(self, queue: str) -> None:
        """Say that `queue` may have something to claim. After the commit, on the loop; never raises."""
        del queue  # a hint names nothing: finding out what came is one statement
        self.message()

    def message(self) -> None:
        """Say that an execution was woken. After the commit, on the loop; never raises."""
        self._heard()
        for listener in self.listeners:
            listener()
        if self._source is not None:
            self._source.tell()

    async def wait(self, timeout_s: float) -> bool:
        """Pause until something may have come (True), or for `timeout_s` (False). Any number of waiters.

        A hint since this task's last `wait` ends the pause at once. A task that waits for the first time
        goes by what any task has seen.
        """
        task = asyncio.current_task()
        assert task is not None
        seen = self._seen.get(task, self._seen_by_any)
        if self._count == seen:
            await self._pause(timeout_s)
        self._seen[task] = self._seen_by_any = self._count
        return self._count != seen

    async def _pause(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if not self._waiting and self._source is not None:
            self._source.listen(self._heard)
        self._waiting.add(future)
        timer = loop.call_later(max(timeout_s, 0), _end, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)
            if not self._waiting and self._source is not None:
                self._source.rest()

    def _heard(self) -> None:
        self._count += 1
        for future in self._waiting:
            _end(future)

    async def close(self) -> None:
        """End every pause, tell other processes what is still to be told (1 s at most). Safe twice."""
        source, self._source = self._source, None
        self._heard()
        if source is not None:
            await source.close()


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
