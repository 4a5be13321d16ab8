"""Connections of the pool that were just used, kept at hand for the next statement.

The pool takes a connection back in a task of its own, arms a timer and asks for a reset: more than a small
statement costs altogether. So a connection whose statement was answered stays here, taken out of the pool,
and goes back when it was not needed for a moment. Nothing is kept while anybody waits for the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

LOOK_S = 1.0


class Spares:
    """The connections at hand, the one used last on top; `give_back` returns one to the pool."""

    def __init__(self, give_back: Callable[[Any], Awaitable[None]]) -> None:
        self._give_back = give_back
        self._kept: list[Any] = []
        self._least = 0
        """How many were here all the time since the last look: so many were not needed."""
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self) -> Any | None:
        """One that can be used, or None. One that broke meanwhile has left the pool by itself."""
        while self._kept:
            connection = self._kept.pop()
            if len(self._kept) < self._least:
                self._least = len(self._kept)
            try:
                if not connection.is_closed():
                    return connection
            except asyncpg.InterfaceError:
                continue
            self._return(connection)
        return None

    def keep(self, connection: Any) -> None:
        """Keep one that is in no transaction and whose last statement was answered."""
        self._kept.append(connection)
        if self._timer is None:
            self._least = len(self._kept) - 1
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    async def close(self) -> None:
        """Return all of them to the pool."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._kept:
            self._return(self._kept.pop())
        await asyncio.gather(*self._returning, return_exceptions=True)

    def _look(self) -> None:
        self._timer = None
        unused, self._kept = self._kept[: self._least], self._kept[self._least :]
        for connection in unused:
            self._return(connection)
        self._least = len(self._kept)
        if self._kept:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _return(self, connection: Any) -> None:
        returning = asyncio.ensure_future(self._give_back(connection))
        self._returning.add(returning)
        returning.add_done_callback(self._returning.discard)
