"""`holdfast worker` from the first line to the last: the store, the signals, and what is said about it all.

The first SIGTERM or Ctrl-C drains; the second one hands back at once what still runs; a third one ends the
process, and the executions are taken over when its lock is found free or its lease has run out.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from holdfast.cli.output import counted
from holdfast.cli.running import PARTLY
from holdfast.cli.scheduling import beside
from holdfast.cli.views.served import WorkerLog
from holdfast.errors import InvalidUsage
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.offers import Offers
from holdfast.fleet.service import WorkerOptions, WorkerReport, spare_the_collector
from holdfast.fleet.starts import LOCAL_QUEUE
from holdfast.fleet.worker import WAITS_HERE_S, Worker
from holdfast.programs import find_program, wanted_version
from holdfast.stores import open_store

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.config.schema import Config
    from holdfast.fleet.offers import Source
    from holdfast.records.workflows import StoredDefinition
    from holdfast.store.store import Store
    from holdfast.workflows.program import Program

NEWER_SCHEMA = 4
_NAMED = 6
_REMEDY = {
    "schema": "the store has a newer schema than this version knows; update this worker and start it again"
}


def plan(invocation: Invocation, config: Config, sources: Sequence[Source]) -> int:
    """What --dry-run prints."""
    options = _options(config)
    invocation.output.record(
        {
            "store": str(config.storage.url),
            "queues": options.queues,
            "classes": options.classes,
            "concurrency": options.concurrency,
            "drain_timeout": options.drain_timeout,
            "offers": [{"name": name, "version": version} for name, version in Offers(sources).describe()],
            "dry_run": True,
        },
        key="store",
    )
    return 0


def serve(invocation: Invocation, config: Config, sources: Sequence[Source], apps: Sequence[str]) -> int:
    """Serve until a signal comes or the schema is newer; the exit code."""
    options, offers = _options(config), Offers(sources)
    if config.storage.type == "memory":
        raise InvalidUsage(
            "a store in memory is seen by its own process alone: there is nothing to serve",
            where="worker",
            fix="point --storage at a SQLite file or a database server",
        )
    log = WorkerLog(invocation, config.logging.level)
    report = asyncio.run(_serve(config, options, offers, log, _first_lines(config, options, offers, apps)))
    return _finish(invocation, report, log)


def _options(config: Config) -> WorkerOptions:
    settings = config.worker
    if LOCAL_QUEUE in settings.queues:
        raise InvalidUsage(
            f"the queue {LOCAL_QUEUE!r} is of those who run workflows themselves",
            where="--queues",
            fix="serve another queue",
        )
    return WorkerOptions(
        queues=settings.queues,
        classes=settings.classes,
        concurrency=settings.concurrency,
        drain_timeout=settings.drain_timeout,
        poll=settings.poll,
    )


async def _serve(
    config: Config, options: WorkerOptions, offers: Offers, log: WorkerLog, lines: Sequence[str]
) -> WorkerReport:
    migrations = config.storage.migrations
    async with open_store(config, migrate=migrations.enabled and migrations.auto_run) as store:
        launcher = Launcher(
            store,
            load=offers.load,
            find=_finder(store, offers),
            lease=config.worker.lease,
            observer=log.step if log.tells_steps else None,
            sleep_max_s=WAITS_HERE_S,
            program="worker",
        )
        await launcher.open()
        spare_the_collector()
        try:
            worker = Worker(launcher, options, offers, tell=log.warn)
            log.say(f"worker {launcher.registration.boot.hex()[:8]} {lines[0]}")
            for line in lines[1:]:
                log.say(line)
            async with beside(store, config, log.warn):
                await _until_drained(worker, log)
        finally:
            await launcher.close()
        return worker.report


def _finder(store: Store, offers: Offers) -> Any:
    async def find(name: str, version: str | None, asking: StoredDefinition | None) -> Program:
        offered = offers.find(name, await wanted_version(store, name, version, asking))
        return offered if offered is not None else await find_program(store, name, version, asking)

    return find


async def _until_drained(worker: Worker, log: WorkerLog) -> None:
    """Run the worker; the second signal does not wait for what runs."""
    running = asyncio.get_running_loop().create_task(worker.run())
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            left = counted(worker.running, "execution", "executions")
            more = f": {left} may finish; the next signal hands back at once" if worker.running else ""
            log.say(f"draining{more}")
            worker.drain()
        elif len(signals) == 2:
            log.say("handing back")
            running.cancel()
        else:
            os._exit(128 + number)

    with _signals(stop), suppress(asyncio.CancelledError):
        await running


@contextmanager
def _signals(stop: Any) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _first_lines(config: Config, options: WorkerOptions, offers: Offers, apps: Sequence[str]) -> list[str]:
    """What it serves and where, and which code it has."""
    lines = [
        f"serves {', '.join(options.queues)} ({', '.join(options.classes)}), "
        f"{options.concurrency} at once, on {config.storage.url}"
    ]
    named = [f"{name} {version}" for name, version in offers.describe()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    if named:
        lines.append(f"offers {', '.join(named[:_NAMED])}{more} of {', '.join(apps)}, and YAML")
    else:
        lines.append("offers YAML, and Python workflows whose code is where it was when they were enqueued")
    return lines


def _finish(invocation: Invocation, report: WorkerReport, log: WorkerLog) -> int:
    """Say what was done; the exit code."""
    if invocation.output.is_table:
        parts = [f"{report.completed:,} completed", f"{report.failed:,} failed"]
        parts += [f"{report.cancelled:,} cancelled"] if report.cancelled else []
        parts += [f"{report.suspended:,} wait"] if report.suspended else []
        parts += [f"{report.handed_back:,} handed back"]
        log.say(f"stopped: {counted(report.claimed, 'execution', 'executions')} claimed; {', '.join(parts)}")
        if report.reason in _REMEDY:
            log.warn(_REMEDY[report.reason])
    else:
        invocation.output.record(asdict(report), key="claimed")
    if report.reason == "schema":
        return NEWER_SCHEMA
    return PARTLY if report.handed_back else 0
