"""One worker process of the chaos tests: the library's worker, observed, with a defect if one is planted."""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdfast.fleet.launcher import Launcher
from holdfast.fleet.offers import Offers
from holdfast.fleet.service import WorkerOptions
from holdfast.fleet.worker import WAITS_HERE_S, Worker
from holdfast.programs import find_program
from holdfast.records.workflows import StoredDefinition
from holdfast.stores import open_store
from holdfast.workflows.program import Program
from tests.chaos import plants
from tests.chaos.program import History, Settings, build, deafen, linger, observe, without_locks


def work(row: dict[str, Any]) -> None:
    """Be a worker until SIGTERM."""
    settings = Settings(**row)
    logging.basicConfig(level=logging.WARNING)
    # It tells at length of every connection that it could not open; here that is most of what happens.
    logging.getLogger("asyncpg").setLevel(logging.ERROR)
    history = History(settings.history)
    if not settings.locks:
        without_locks()
    if settings.deaf:
        deafen()
    if settings.lingers:
        linger(Path(settings.history), history)
    plants.PLANTS[settings.plant]()
    asyncio.run(serve(settings, history))


async def serve(settings: Settings, history: History) -> None:
    """What `holdfast worker` does."""
    app, *_ = build(settings, history)
    offers = Offers([app])
    options = WorkerOptions(
        queues=tuple(settings.queues), concurrency=settings.concurrency, drain_timeout=timedelta(seconds=5)
    )
    async with open_store(settings.config(), migrate=True) as store:

        async def find(name: str, version: str | None, asking: StoredDefinition | None) -> Program:
            return offers.find(name, version) or await find_program(store, name, version, asking)

        launcher = Launcher(
            store,
            load=offers.load,
            find=find,
            lease=timedelta(seconds=settings.lease_s),
            sleep_max_s=WAITS_HERE_S,
            program="worker",
        )
        observe(history, lambda: launcher.registration.boot)
        await launcher.open()
        try:
            worker = Worker(launcher, options, offers, tell=logging.warning)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
            await worker.run()
        finally:
            await launcher.close()
