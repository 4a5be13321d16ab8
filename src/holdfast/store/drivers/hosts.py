"""Which of several servers a store uses: tried in order, left when it takes no writes, and taken up again.

One server is in use at a time. Whoever needs a connection tries that one first and then the others in the
order they were named; the first that takes writes is in use from then on, and what is connected elsewhere is
given up. A server that failed rests for a moment, longer each time, so that an outage is no storm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from holdfast.errors import HoldfastError, NoWritableServer, ReadOnlyServer, RetryLater
from holdfast.store.backoff import Backoff
from holdfast.store.drivers.tls import TlsOptions

_BACKOFF = Backoff(first_s=0.2, most_s=2.0, least_s=0.05)
_logger = logging.getLogger("holdfast.hosts")


class Address(NamedTuple):
    """One server among several."""

    host: str
    port: int
    tls: TlsOptions


class Placed(Protocol):
    """Where one server is, for people."""

    @property
    def server(self) -> str:
        """Its host and port."""
        ...


P = TypeVar("P", bound=Placed)
C = TypeVar("C")


class Hosts(Generic[P]):
    """The servers of one store. May be asked from several threads; `moved` is called in any of them.

    `moved` hears that the store has left a server, whose connections are then of no more use.
    """

    def __init__(
        self,
        places: Sequence[P],
        patience_s: float,
        *,
        moved: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patience_s` is for finding a server, however many there are."""
        self._places = tuple(places)
        self._patience_s = patience_s
        self._moved = moved
        self._clock = clock
        self._used = 0
        self._was_used = False
        self._failures = [0] * len(self._places)
        self._rests_until = [0.0] * len(self._places)
        self._said: list[HoldfastError | None] = [None] * len(self._places)

    @property
    def used(self) -> P:
        """The server that is in use, or was last."""
        return self._places[self._used]

    async def connect(self, attempt: Callable[[P, float], Awaitable[C]]) -> C:
        """What `attempt(place, patience in seconds)` makes at the first server where it succeeds.

        A `RetryLater` of it leads to the next server, anything else is raised. Of one server everything is
        raised as it is; of several, `NoWritableServer` when none is left.
        """
        if len(self._places) == 1:
            return await attempt(self._places[0], self._patience_s)
        await self._rest()
        tries = [number for number in self._order() if self._clock() >= self._rests_until[number]]
        deadline = self._clock() + self._patience_s
        for left, number in zip(range(len(tries), 0, -1), tries, strict=True):
            try:
                made = await attempt(self._places[number], max(0.1, (deadline - self._clock()) / left))
            except RetryLater as error:
                self._failed(number, error)
            else:
                self._succeeded(number)
                return made
        raise self._none()

    def leave(self, place: P, error: ReadOnlyServer) -> bool:
        """Give a server up that refused a write; False if that has been done already."""
        number = next(number for number, one in enumerate(self._places) if one is place)
        if number != self._used or self._clock() < self._rests_until[number]:
            return False
        self._failed(number, error)
        _logger.warning("%s takes no writes; its connections are given up", place.server)
        return True

    async def _rest(self) -> None:
        """Where all of them failed a moment ago, wait until the first may be tried again."""
        pause_s = min(self._rests_until) - self._clock()
        if pause_s > 0:
            await asyncio.sleep(pause_s)

    def _order(self) -> list[int]:
        others = [number for number in range(len(self._places)) if number != self._used]
        return [self._used, *others]

    def _failed(self, number: int, error: HoldfastError) -> None:
        self._failures[number] += 1
        self._rests_until[number] = self._clock() + _BACKOFF.rest_s(self._failures[number])
        self._said[number] = error

    def _succeeded(self, number: int) -> None:
        self._failures[number] = 0
        self._rests_until[number] = 0.0
        self._said[number] = None
        left, self._used = self._places[self._used], number
        was_used, self._was_used = self._was_used, True
        if was_used and left is not self.used:
            _logger.warning("the store is at %s now and no longer at %s", self.used.server, left.server)
            self._moved()

    def _none(self) -> NoWritableServer:
        said = [
            {"server": place.server, "code": error.code, "said": error.cause}
            for place, error in zip(self._places, self._said, strict=True)
            if error is not None
        ]
        told = "; ".join(f"{one['server']}: {one['said']}" for one in said)
        return NoWritableServer(f"none of {len(self._places)} servers takes writes: {told}", servers=said)
