"""What is said about a queue: its limits, whether it is paused, and how full it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from holdfast.durations import Duration, parse_duration
from holdfast.errors import InvalidArgument
from holdfast.records.executions import ExecutionKey

COUNT_MAX = 1_000_000
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(\S.*)")
_UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"))


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts in a period: at most `count` at once, and on average `count` per `period`."""

    count: int
    period: timedelta

    def __post_init__(self) -> None:
        if not 1 <= self.count <= COUNT_MAX:
            raise InvalidArgument(f"a rate of {self.count} is outside 1 to {COUNT_MAX:,}")
        if not timedelta(milliseconds=1) <= self.period <= timedelta(days=366):
            raise InvalidArgument(f"the period {self.period} of a rate is outside 1ms to 366d")

    @classmethod
    def of(cls, count: int, period: Duration) -> Rate:
        """The rate of `count` per `period`."""
        return cls(count, parse_duration(period))

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`10/1s`, `500/1h`; a bare unit means one of it: `10/s`. Raises `InvalidArgument`."""
        match = _RATE.fullmatch(text)
        if match is None:
            raise InvalidArgument(f"{text[:40]!r} is not a rate", fix="write it as 10/1s or 500/1h")
        count, period = match.groups()
        return cls.of(int(count), period if period[0].isdigit() or period[0] == "P" else f"1{period}")

    @property
    def period_us(self) -> int:
        """The period in microseconds."""
        return round(self.period / timedelta(microseconds=1))

    def __str__(self) -> str:
        period_us = self.period_us
        for unit_us, unit in _UNITS:
            if period_us % unit_us == 0:
                return f"{self.count}/{period_us // unit_us}{unit}"
        return f"{self.count}/{period_us}us"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """The row of a queue; a queue without one has the values below.

    `concurrency` bounds how many executions of the queue run at once in the whole fleet, `key_concurrency`
    how many with the same `limit_key` (per tenant), `tenant_concurrency` how many of one tenant, and `rate`
    how many are taken up by workers in a period.
    """

    name: str
    paused: bool = False
    concurrency: int | None = None
    key_concurrency: int | None = None
    tenant_concurrency: int | None = None
    rate: Rate | None = None

    def __post_init__(self) -> None:
        for what in ("concurrency", "key_concurrency", "tenant_concurrency"):
            limit = getattr(self, what)
            if limit is not None and not 1 <= limit <= COUNT_MAX:
                raise InvalidArgument(f"{what} {limit} is outside 1 to {COUNT_MAX:,}", where=self.name)

    @property
    def is_limited(self) -> bool:
        """Whether anything holds executions back, apart from a pause."""
        return self.takes_places or self.rate is not None

    @property
    def takes_places(self) -> bool:
        """Whether what runs holds places, which have to be given back."""
        limits = (self.concurrency, self.key_concurrency, self.tenant_concurrency)
        return any(limit is not None for limit in limits)


def settings_of(row: Any) -> QueueSettings:
    """The settings in the first seven columns of a row of `queues.settings` or `queues.lock`."""
    name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us = row[:7]
    rate = None if rate_count is None else Rate(rate_count, timedelta(microseconds=rate_period_us))
    return QueueSettings(
        name=name,
        paused=bool(paused),
        concurrency=concurrency,
        key_concurrency=key_concurrency,
        tenant_concurrency=tenant_concurrency,
        rate=rate,
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """A count that stops at a bound: `more` says that there are more than `count`."""

    count: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.count:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A queue as it stands: how many executions are where, and who takes from it.

    `waiting` are those that a timer or a message wakes, `blocked` those that wait for a place under a limit
    or for a worker with their version. `failed` are the dead letters of the asking tenant.
    """

    settings: QueueSettings
    ready: Tally
    running: Tally
    waiting: Tally
    blocked: Tally
    paused: Tally
    failed: Tally
    oldest_ready: datetime | None
    listeners: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A failed execution and why it failed."""

    key: ExecutionKey
    id: str
    workflow: str
    version: str
    failed_at: datetime
    recoveries: int
    type: str
    message: str
    step: str | None
