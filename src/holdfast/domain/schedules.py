"""Schedules: what is to start when. `holdfast.domain.firings` starts it.

Whatever changes a schedule plans it anew in the same transaction, and every scheduler hears of it. Deleting
one keeps the executions that it started, and the record of them: they name it, and nothing refers back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from holdfast.domain.clock import present
from holdfast.domain.firings import bound, execution_id, firing_id, kept_plan
from holdfast.domain.schedule_plans import MAINTENANCE, check, planned, upcoming
from holdfast.domain.schedule_starts import prepare, start
from holdfast.errors import HoldfastError, IdTaken, InvalidArgument, RecordNotFound, ScheduleNotFound
from holdfast.records.schedules import FiringCause, FiringState, Schedule, ScheduleFiring
from holdfast.store.drivers.base import Transaction
from holdfast.store.pages import Page
from holdfast.store.store import Store

__all__ = ["NEXT_MAX", "Schedules", "check"]

NEXT_MAX = 1_000
_FIXED = (
    "id", "revision", "created_at", "updated_at", "next_run_at", "next_nominal_at", "last_run_at",
    "last_result", "last_execution", "planned_revision",
)  # fmt: skip


class Schedules:
    """The schedules of a store's tenant."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, schedule: Schedule) -> Schedule:
        """Store a new schedule; its first time is behind this moment.

        Raises `InvalidSchedule` and `RecordExists`.
        """
        check(schedule)
        wanted = planned(replace(schedule, next_nominal_at=None), await present(self._store.driver))
        made = await self._store.repo(Schedule).create(replace(wanted, planned_revision=1))
        self._store.hints.message()
        return made

    async def get(self, id: str) -> Schedule:
        """One schedule. Raises `ScheduleNotFound`."""
        found = await self._store.repo(Schedule).find_by_id(id)
        if found is None:
            raise _unknown(id)
        return found

    async def find(self, query: str | Sequence[str] = "", **page: Any) -> Page[Schedule]:
        """A page of the schedules that fit a query, such as `workflow:report enabled:true`."""
        return await self._store.repo(Schedule).find(query, **page)

    async def firings(self, query: str | Sequence[str] = "", **page: Any) -> Page[ScheduleFiring]:
        """A page of what became of times that came, such as `schedule:nightly state:skipped`."""
        return await self._store.repo(ScheduleFiring).find(query, **page)

    async def next(self, id: str, count: int = 5) -> list[datetime]:
        """The next times at which it will start something; of a paused one those it would. Only reads.

        Raises `ScheduleNotFound`, `InvalidArgument`.
        """
        if not 1 <= count <= NEXT_MAX:
            raise InvalidArgument(f"{count} times", fix=f"ask for 1 to {NEXT_MAX}")
        schedule = await self.get(id)
        return list(islice(upcoming(schedule, await present(self._store.driver)), count))

    async def change(self, id: str, /, **changes: Any) -> Schedule:
        """Set fields of a schedule. A planned time that has come stays due if the text still means it.

        Raises `ScheduleNotFound`, `InvalidSchedule`, `InvalidArgument`.
        """
        allowed = [name for name in Schedule.__dataclass_fields__ if name not in _FIXED]
        for name in changes:
            if name not in allowed:
                raise InvalidArgument(
                    f"a schedule has no field {name!r} to set", fix=f"use {', '.join(allowed)}"
                )
        async with self._store.transaction() as transaction:
            before = await self._locked(transaction, id)
            changed = replace(before, **changes)
            check(changed)
            anew = planned(changed, await present(transaction))
            anew = replace(anew, planned_revision=before.revision + 1)
            made = await self._store.repo(Schedule, within=transaction).update(anew)
        self._store.hints.message()
        return made

    async def pause(self, id: str) -> Schedule:
        """Have it start nothing until it is resumed, what waits included. Raises `ScheduleNotFound`."""
        return await self.change(id, enabled=False)

    async def resume(self, id: str) -> Schedule:
        """Take a pause back. Times that passed meanwhile are left out. Raises `ScheduleNotFound`."""
        return await self.change(id, enabled=True)

    async def trigger(self, id: str, *, by: str | None = None) -> ScheduleFiring:
        """Start what it is for once, now, whatever runs of it; its own times stay as they are.

        Also of a paused one. Maintenance is done by a scheduler. Raises `ScheduleNotFound`, `IdTaken`, and
        what finding the workflow and checking the input raise.
        """
        prepared = await prepare(self._store, await self.get(id))
        if isinstance(prepared, HoldfastError):
            raise prepared
        async with self._store.transaction() as transaction:
            schedule = await self._locked(transaction, id)
            now = await present(transaction)
            is_duty = schedule.workflow.startswith(MAINTENANCE)
            execution = None if is_duty else execution_id(id, now)
            recorded = await transaction.fetch(
                "schedules.record", self._store.tenant, firing_id(id, now), id, bound(self._store, now),
                str(FiringCause.TRIGGER), str(FiringState.STARTED), execution, None, False,
            )  # fmt: skip
            about = {"schedule": id, "nominal_at": now.isoformat()}
            is_taken = not recorded
            if prepared is not None and execution is not None and recorded:
                is_taken = not await start(
                    self._store, transaction, schedule, prepared, execution, about, started_by=by
                )
            if is_taken:
                raise IdTaken(f"{id!r} was triggered at this very moment already", id=id)
            told = replace(schedule, last_run_at=now, last_result=None, last_execution=execution)
            await self._store.repo(Schedule, within=transaction).update(kept_plan(schedule, told))
        self._store.hints.ready(schedule.queue)
        return await self._store.repo(ScheduleFiring).get(firing_id(id, now))

    async def delete(self, id: str) -> None:
        """Delete a schedule; the executions that it started stay and go on. Raises `ScheduleNotFound`."""
        try:
            await self._store.repo(Schedule).delete(id)
        except RecordNotFound as error:
            raise _unknown(id) from error

    async def _locked(self, transaction: Transaction, id: str) -> Schedule:
        try:
            return await self._store.repo(Schedule, within=transaction).get_locked(id)
        except RecordNotFound as error:
            raise _unknown(id) from error


def _unknown(id: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {id!r}", id=id)
