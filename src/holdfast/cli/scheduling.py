"""`holdfast scheduler`, the scheduler inside a worker, and what the commands of schedules have in common."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from holdfast.cli.output import counted
from holdfast.cli.targets import read_input
from holdfast.cli.views.served import WorkerLog
from holdfast.domain.timetables import explain
from holdfast.durations import format_duration, parse_duration
from holdfast.errors import InvalidUsage
from holdfast.records.schedules import CatchUp, Overlap, Schedule
from holdfast.scheduling.scheduler import Scheduler, SchedulerOptions, SchedulerReport
from holdfast.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cli.context import Invocation
    from holdfast.config.schema import Config
    from holdfast.store.store import Store

NEWER_SCHEMA = 4
_REMEDY = "the store has a newer schema than this version knows; update this scheduler and start it again"


def plan(invocation: Invocation, config: Config) -> int:
    """What --dry-run prints."""
    tick = config.scheduler.tick
    invocation.output.record({"store": str(config.storage.url), "tick": tick, "dry_run": True}, key="store")
    return 0


def serve(invocation: Invocation, config: Config, *, once: bool) -> int:
    """Fire until a signal comes or the schema is newer; the exit code."""
    if config.storage.type == "memory":
        raise InvalidUsage(
            "a store in memory is seen by its own process alone: there is nothing to start",
            where="scheduler",
            fix="point --storage at a SQLite file or a database server",
        )
    log = WorkerLog(invocation, config.logging.level)
    report = asyncio.run(_serve(config, log, once=once))
    if invocation.output.is_table:
        parts = [f"{report.started:,} started", f"{report.skipped:,} skipped", f"{report.queued:,} queued"]
        parts += [f"{report.failed:,} could not be started"] if report.failed else []
        log.say(f"stopped: {', '.join(parts)}")
        if report.reason == "schema":
            log.warn(_REMEDY)
    else:
        invocation.output.record(asdict(report), key="started")
    return NEWER_SCHEMA if report.reason == "schema" else 0


async def _serve(config: Config, log: WorkerLog, *, once: bool) -> SchedulerReport:
    migrations = config.storage.migrations
    async with open_store(config, migrate=migrations.enabled and migrations.auto_run) as store:
        scheduler = _scheduler(store, config, log.warn)
        known = (await store.repo(Schedule).count("enabled:true", exact=False)).rows
        if once:
            return await scheduler.once()
        every = format_duration(config.scheduler.tick)
        log.say(f"scheduler for {counted(known, 'schedule', 'schedules')}, tick {every}, on {store.place}")
        with _stopped_by_signals(scheduler, log):
            return await scheduler.run()


def _scheduler(store: Store, config: Config, tell: Callable[[str], None]) -> Scheduler:
    return Scheduler(store, SchedulerOptions(tick=config.scheduler.tick), tell=tell)


class _stopped_by_signals:
    """The first SIGTERM or Ctrl-C stops the scheduler; the second one ends the process."""

    def __init__(self, scheduler: Scheduler, log: WorkerLog) -> None:
        self._scheduler, self._log = scheduler, log
        self._signals = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, self._stop, number)

    def __exit__(self, *error: object) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _stop(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(128 + number)
        self._log.say("stopping")
        self._scheduler.stop()


@asynccontextmanager
async def beside(store: Store, config: Config, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """A scheduler that runs during the block, unless the configuration says no."""
    if not config.scheduler.enabled:
        yield
        return
    scheduler = _scheduler(store, config, tell)
    running = asyncio.get_running_loop().create_task(scheduler.run())
    try:
        yield
    finally:
        scheduler.stop()
        await running


# What the commands of `schedules` have in common.


def settings_of(invocation: Invocation, options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a schedule that were given as options. Raises `InvalidUsage`, `InvalidArgument`."""
    readers: dict[str, Callable[[Any], Any]] = {
        "catch_up": CatchUp, "overlap": Overlap, "jitter": parse_duration, "starts_at": _time,
        "ends_at": _time, "tags": tuple,
    }  # fmt: skip
    found = {
        name: readers.get(name, lambda value: value)(value)
        for name, value in options.items()
        if name != "given" and value not in (None, ())
    }
    if options["given"] is not None:
        found["inputs"] = read_input(options["given"], invocation.stdin, Path.cwd())
    return found


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidUsage(
            f"{text[:40]!r} is no time", where="--start, --end", fix="write it like 2026-01-31T12:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def show_next(invocation: Invocation, schedule: Schedule, times: list[datetime]) -> None:
    """Print the next times of a schedule, by its own clock and in UTC."""
    zone = ZoneInfo(schedule.zone)
    output = invocation.output
    rows = [{"at": each.astimezone(UTC), "local": each.astimezone(zone).isoformat()} for each in times]
    if output.is_table:
        paused = "" if schedule.enabled else "; it is paused"
        invocation.say(f"{explain(schedule.cron)} ({schedule.zone}){paused}")
        output.text("\n".join(str(row["local"]) for row in rows) if rows else "nothing is to come")
    else:
        about: dict[str, Any] = {
            "means": explain(schedule.cron),
            "zone": schedule.zone,
            "enabled": schedule.enabled,
        }
        output.records(rows, ["at", "local"], **about)
