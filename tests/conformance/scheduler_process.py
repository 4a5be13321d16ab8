"""One scheduler as a process of its own, whose store's clock is hurried and set wrong."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from holdfast.scheduling import maintenance
from holdfast.scheduling.scheduler import Scheduler, SchedulerOptions
from holdfast.stores import build_store, config_for
from tests.conformance.clocks import run_from

TICK = timedelta(milliseconds=20)


class Orders(NamedTuple):
    """Where it works, and what its clock shows: `at` at first, then `speed` times as fast as others."""

    url: str
    at: datetime
    speed: float


class Start(NamedTuple):
    """How all of them begin together: each says that it is `ready`, and at `go` the clocks begin to run."""

    ready: Any
    go: Any
    since: Any


def serve(orders: Orders, start: Start) -> None:
    """Fire until told to stop."""
    asyncio.run(_serve(orders, start))


async def _serve(orders: Orders, start: Start) -> None:
    maintenance.DUTIES = {}
    store = build_store(config_for(orders.url))
    await store.open()
    start.ready.release()
    await asyncio.to_thread(start.go.wait)
    run_from(store, orders.at, start.since.value, orders.speed)
    service = Scheduler(store, SchedulerOptions(tick=TICK))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, service.stop)
    try:
        await service.run()
    finally:
        await store.close()
