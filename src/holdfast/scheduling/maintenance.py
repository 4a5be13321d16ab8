"""Duties of Holdfast's own, each kept by an ordinary schedule whose workflow is `maintenance:NAME`.

A duty is idempotent and may be cut off anywhere: when the process that does it dies, another one does it
again. The schedules are made when a scheduler starts; after that they are the user's to change or pause.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from holdfast.domain.runbook_runs import Runs
from holdfast.domain.schedule_plans import MAINTENANCE
from holdfast.domain.schedules import Schedules
from holdfast.domain.sessions import Sessions
from holdfast.errors import InvalidSchedule, RecordExists
from holdfast.records.schedules import CatchUp, Schedule
from holdfast.store.dialects import dialect_of
from holdfast.store.store import Store

TAG = "maintenance"


FIRINGS_KEPT = timedelta(days=90)
DUTIES_KEPT = timedelta(days=1)
"""So long is recorded that a duty was done; one that failed is kept like the others."""
_PURGED_AT_ONCE = 500
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Duty:
    """One duty: what it is for, when it is done unless somebody says otherwise, and how.

    `only_on` is the database that has something to do for it, if not all have.
    """

    description: str
    cron: str
    work: Callable[[Store], Awaitable[None]]
    only_on: str | None = None


async def _purge_sessions(store: Store) -> None:
    await Sessions(store).purge(expired_for="30d")


async def _settle_runbooks(store: Store) -> None:
    await Runs(store).settle_all()


async def _refresh_dashboards(store: Store) -> None:
    """Put the figures by day together anew; elsewhere they are put together when they are asked for."""
    await store.driver.fetch_text(f"SELECT {dialect_of(store.driver).table('refresh_dashboards')}()")


async def _purge_firings(store: Store) -> None:
    for kept, only_duties in ((DUTIES_KEPT, True), (FIRINGS_KEPT, False)):
        while True:
            rows = await store.driver.fetch(
                "schedules.purge", store.tenant, kept // _MICROSECOND, only_duties, _PURGED_AT_ONCE
            )
            removed = int(rows[0][0]) if store.driver.dialect == "mysql" else len(rows)
            if removed < _PURGED_AT_ONCE:
                break


DUTIES: Mapping[str, Duty] = {
    "purge-firings": Duty("remove records of times that came 90 days ago", "every 6h", _purge_firings),
    "purge-sessions": Duty("remove sessions that expired 30 days ago", "15 3 * * *", _purge_sessions),
    "refresh-dashboards": Duty(
        "bring the figures of dashboards up to date", "every 15m", _refresh_dashboards, "postgresql"
    ),
    "settle-runbooks": Duty("count runs of runbooks that have ended", "every 10m", _settle_runbooks),
}
"""Every duty by its name. One that is added here is kept from the next start of a scheduler on."""


def duty(name: str) -> Duty:
    """The duty of this name. Raises `InvalidSchedule`."""
    if name not in DUTIES:
        near = difflib.get_close_matches(name, DUTIES, 1)
        fix = f"did you mean {MAINTENANCE}{near[0]}?" if near else f"use one of {', '.join(DUTIES)}"
        raise InvalidSchedule(f"there is no maintenance {name[:60]!r}", where="workflow", fix=fix)
    return DUTIES[name]


def check_workflow(workflow: str) -> None:
    """Refuse the name of a duty that there is not. Raises `InvalidSchedule`."""
    if workflow.startswith(MAINTENANCE):
        duty(workflow.removeprefix(MAINTENANCE))


async def keep_duties(store: Store) -> list[str]:
    """Make the schedules of duties that have none; their ids."""
    schedules, made = Schedules(store), []
    for name, each in DUTIES.items():
        if each.only_on not in (None, store.driver.dialect):
            continue
        wanted = Schedule(
            id=f"maintenance-{name}", workflow=f"{MAINTENANCE}{name}", cron=each.cron,
            description=each.description, tags=(TAG,), catch_up=CatchUp.LATEST,
        )  # fmt: skip
        if await store.repo(Schedule).find_by_id(wanted.id) is None:
            with suppress(RecordExists):  # by another scheduler, a moment ago
                made.append((await schedules.create(wanted)).id)
    return made
