"""What a store counts about itself, and the frozen snapshots that it hands out.

Counting is on the path of every statement, so a counter is a few additions and nothing else: no lock (all of
it happens on one event loop), no clock of its own, no list that grows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from holdfast.errors import PoolTimeout

BOUNDS_S = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper bounds of the histogram, in seconds; one more count is for what took longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFigures:
    """One statement since the store was made; times are what its callers waited, in seconds.

    `errors` are among `count`. `histogram` has a count for each of `BOUNDS_S`, not added up, and one for what
    took longer than all of them.
    """

    name: str
    count: int
    errors: int
    total_s: float
    max_s: float
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """The connections of a store's reads and transactions: how many there are now, and who waits for one.

    `acquired` counts every time one was asked for, `acquire_total_s` and `acquire_max_s` how long that took,
    and `timeouts` how often none came in time.
    """

    size: int
    idle: int
    in_use: int
    most: int
    waiting: int
    acquired: int
    timeouts: int
    acquire_total_s: float
    acquire_max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A snapshot of what this process did with a store. Statements are in the order of their total time."""

    statements: tuple[StatementFigures, ...]
    pool: PoolFigures
    slow: int
    """How many statements took longer than the limit for slow ones."""


class Tally:
    """What is counted about one statement."""

    __slots__ = ("count", "errors", "histogram", "max_s", "total_s")

    def __init__(self) -> None:
        self.count = self.errors = 0
        self.total_s = self.max_s = 0.0
        self.histogram = [0] * (len(BOUNDS_S) + 1)

    def figures(self, name: str) -> StatementFigures:
        """As it stands now."""
        return StatementFigures(
            name=name,
            count=self.count,
            errors=self.errors,
            total_s=self.total_s,
            max_s=self.max_s,
            histogram=tuple(self.histogram),
        )


class Waits:
    """What a driver counts about those who ask for a connection: `begin`, then `end` with what it gave."""

    __slots__ = ("acquired", "max_s", "timeouts", "total_s", "waiting")

    def __init__(self) -> None:
        self.waiting = self.acquired = self.timeouts = 0
        self.total_s = self.max_s = 0.0

    def begin(self) -> float:
        """One more waits; what is returned goes into `end`."""
        self.waiting += 1
        return perf_counter()

    def end(self, began: float) -> None:
        """It waits no more, with or without a connection."""
        seconds = perf_counter() - began
        self.waiting -= 1
        self.acquired += 1
        self.total_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    def too_long(self, timeout_s: float, most: int, place: str, fix: str | None = None) -> PoolTimeout:
        """One of those who wait gives up: the error for it, to be raised before `end`."""
        self.timeouts += 1
        others = self.waiting - 1
        return PoolTimeout(
            f"no connection became free within {timeout_s:g} s (pool of {most}, {others} more waiting)",
            where=place,
            fix=fix,
            most=most,
            waiting=others,
        )

    def figures(self, *, size: int, idle: int, most: int) -> PoolFigures:
        """As it stands now, with how many connections the driver has."""
        return PoolFigures(
            size=size,
            idle=idle,
            in_use=size - idle,
            most=most,
            waiting=self.waiting,
            acquired=self.acquired,
            timeouts=self.timeouts,
            acquire_total_s=self.total_s,
            acquire_max_s=self.max_s,
        )


class CountedLock(asyncio.Lock):
    """A lock that stands for the one connection that writes: who waits for it is counted."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    async def acquire(self) -> Literal[True]:
        """See `asyncio.Lock.acquire`."""
        began = self._waits.begin()
        try:
            return await super().acquire()
        finally:
            self._waits.end(began)
