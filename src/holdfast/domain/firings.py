"""One schedule's turn: settle what has ended, start what waited for that, and start what is due.

One transaction does it all, under the lock of the schedule's row. It compares the planned time with the
store's clock, records every time under a unique key together with the execution that it starts, and plans the
next; so however many processes try, and wherever one of them dies, a time is recorded and started once or not
at all, and then again by whoever comes next. Whoever finds the row locked leaves it to the one who has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.domain.clock import present
from holdfast.domain.schedule_plans import MAINTENANCE, decide, planned, with_next
from holdfast.domain.schedule_starts import Start, prepare, start
from holdfast.errors import HoldfastError, InvalidSchedule
from holdfast.records.executions import ExecutionStatus
from holdfast.records.schedules import FiringCause, FiringState, Overlap, Schedule, ScheduleResult
from holdfast.store.dialects import dialect_of
from holdfast.store.drivers.base import Isolation, Row, Transaction
from holdfast.store.rows import moment
from holdfast.store.store import Store

ASKED_AGAIN = timedelta(seconds=30)
"""An execution that was asked to stop is asked again after so long."""
MAINTENANCE_LIMIT = timedelta(minutes=10)
"""Maintenance that has not ended after so long is taken up by another process."""
QUEUED_MAX = 100
"""So many times wait for the one before at most; what comes then is skipped."""
_MICROSECOND = timedelta(microseconds=1)
_ENDS = {
    ExecutionStatus.COMPLETED: FiringState.COMPLETED,
    ExecutionStatus.FAILED: FiringState.FAILED,
    ExecutionStatus.CANCELLED: FiringState.CANCELLED,
}


@dataclass(slots=True)
class Turn:
    """What a turn did, and what is left to do outside of its transaction.

    `cancel` are ids of executions that are to be asked to stop, `maintain` the firings of duties that this
    process has taken on, with the duty's name.
    """

    started: int = 0
    queued: int = 0
    skipped: int = 0
    failed: int = 0
    more: bool = False
    queues: set[str] = field(default_factory=set)
    cancel: list[str] = field(default_factory=list)
    maintain: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None


@dataclass(slots=True)
class Open:
    """A firing that has not ended, as the turn knows it."""

    id: str
    state: FiringState
    nominal: datetime
    execution: str | None
    may_ask_again: bool
    is_left: bool


async def turn(store: Store, id: str) -> Turn:
    """Do what there is to do for one schedule at this moment. Raises what the store raises."""
    seen = await store.repo(Schedule).find_by_id(id)
    start = None if seen is None else await prepare(store, seen)

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> Turn:
        return await _Turn(store, transaction, id, start).run(seen)

    return await run()


class _Turn:
    """The work of one transaction."""

    def __init__(self, store: Store, transaction: Transaction, id: str, start: Start | None) -> None:
        self._store, self._transaction, self._id = store, transaction, id
        self._start = start
        self._schedules = store.repo(Schedule, within=transaction)
        self._open: list[Open] = []
        self.did = Turn()

    async def run(self, seen: Schedule | None) -> Turn:
        if seen is None:
            await self._settle(None)
            return self.did
        if not await self._transaction.fetch("schedules.take", self._store.tenant, self._id):
            return self.did  # somebody else has it, or it is gone
        schedule = await self._schedules.get_locked(self._id)
        if _means(schedule) != _means(seen):
            self.did.more = True  # it was changed a moment ago: what it starts is looked up anew
            return self.did
        before = schedule
        schedule = await self._settle(schedule) or schedule
        now = await present(self._transaction)
        schedule = self._plan(schedule, now)
        if schedule.enabled:
            schedule = await self._start_queued(schedule, now)
            if schedule.next_run_at is not None and schedule.next_run_at <= now:
                schedule = await self._fire(schedule, now)
        if schedule != before:
            await self._schedules.update(replace(schedule, planned_revision=schedule.revision + 1))
        return self.did

    def _plan(self, schedule: Schedule, now: datetime) -> Schedule:
        if schedule.planned_revision == schedule.revision:
            return schedule
        try:
            made = planned(schedule, now)
        except InvalidSchedule as error:
            self.did.problem = error.cause
            made = replace(schedule, next_run_at=None, next_nominal_at=None)
        return replace(made, planned_revision=schedule.revision)

    # What has ended.

    async def _settle(self, schedule: Schedule | None) -> Schedule | None:
        """Write down what has ended; what is still open is known then. None: the schedule is gone."""
        rows = await self._transaction.fetch(
            "schedules.open", self._store.tenant, self._id, ASKED_AGAIN // _MICROSECOND,
            MAINTENANCE_LIMIT // _MICROSECOND,
        )  # fmt: skip
        for row in rows:
            each = _open(row)
            end = _end_of(each, row[6]) if schedule or each.state is FiringState.STARTED else None
            if schedule is None and each.state is FiringState.QUEUED:
                await self._move(each, FiringState.SKIPPED, reason="the schedule was deleted")
            elif schedule is None and each.execution is None:
                await self._move(each, FiringState.LOST, reason="the schedule was deleted")
            elif end is None:
                self._open.append(each)
            else:
                await self._move(each, end, finished=moment(row[7]))
                if schedule is not None and each.execution == schedule.last_execution:
                    schedule = replace(schedule, last_result=ScheduleResult(end))
        if schedule is not None:
            await self._take_up(schedule)
        return schedule

    async def _take_up(self, schedule: Schedule) -> None:
        """Maintenance that a process left, or that nobody has begun."""
        for each in self._open:
            if each.state is FiringState.STARTED and each.execution is None and each.is_left:
                await self._move(each, each.state, attend=True)
                self.did.maintain.append((each.id, _duty(schedule)))

    async def _start_queued(self, schedule: Schedule, now: datetime) -> Schedule:
        """Start the first that waits, when nothing is before it any more."""
        running = [each for each in self._open if each.state is FiringState.STARTED]
        waiting = [each for each in self._open if each.state is FiringState.QUEUED]
        if not waiting:
            return schedule
        if not running:
            first = waiting[0]
            self._open.remove(first)
            return await self._begin(schedule, now, first.nominal, FiringCause.TIME, queued=first)
        if schedule.overlap is Overlap.CANCEL and any(each.may_ask_again for each in waiting):
            for each in waiting:
                await self._move(each, each.state, attend=True)
            self.did.cancel += [each.execution for each in running if each.execution]
        return schedule

    # What is due.

    async def _fire(self, schedule: Schedule, now: datetime) -> Schedule:
        due = decide(schedule, now)
        if due.skipped is not None:
            schedule = await self._skip(schedule, *due.skipped, FiringCause.CATCH_UP)
        for nominal, cause in due.start:
            schedule = await self._one(schedule, now, nominal, cause)
        schedule = with_next(schedule, due.next)
        self.did.more = schedule.next_run_at is not None and schedule.next_run_at <= now
        return schedule

    async def _one(
        self, schedule: Schedule, now: datetime, nominal: datetime, cause: FiringCause
    ) -> Schedule:
        """What the policy for overlaps makes of one time."""
        running = [each for each in self._open if each.state is FiringState.STARTED]
        waiting = [each for each in self._open if each.state is FiringState.QUEUED]
        if schedule.overlap is Overlap.ALLOW or not (running or waiting):
            return await self._begin(schedule, now, nominal, cause)
        before = (running or waiting)[0]
        if schedule.overlap is Overlap.SKIP:
            said = before.execution or f"that of {before.nominal.isoformat()}"
            return await self._skip(schedule, nominal, f"the one before has not ended: {said}", cause)
        if schedule.overlap is Overlap.CANCEL:
            for each in waiting:
                await self._move(each, FiringState.SKIPPED, reason="a later one took its place")
                self._open.remove(each)
            self.did.cancel += [each.execution for each in running if each.execution]
        elif len(waiting) >= QUEUED_MAX:
            return await self._skip(schedule, nominal, f"{QUEUED_MAX} wait already", cause)
        cancels = schedule.overlap is Overlap.CANCEL
        made = await self._record(nominal, cause, FiringState.QUEUED, attend=cancels)
        if made is not None:
            self._open.append(Open(made, FiringState.QUEUED, nominal, None, False, False))
            self.did.queued += 1
        return schedule

    async def _skip(self, schedule: Schedule, nominal: datetime, reason: str, cause: FiringCause) -> Schedule:
        if await self._record(nominal, cause, FiringState.SKIPPED, reason=reason) is None:
            return schedule
        self.did.skipped += 1
        return replace(schedule, last_result=ScheduleResult.SKIPPED)  # until what runs has ended

    async def _begin(
        self,
        schedule: Schedule,
        now: datetime,
        nominal: datetime,
        cause: FiringCause,
        *,
        queued: Open | None = None,
    ) -> Schedule:
        """Record the time and start what it is for; or only start what was recorded before."""
        duty, execution = _duty(schedule), execution_id(schedule.id, nominal)
        named = None if duty else execution
        if queued is None:
            made = await self._record(nominal, cause, FiringState.STARTED, execution=named, attend=bool(duty))
            if made is None:
                return schedule  # it was recorded before: clocks were put back, or it was planned anew
            queued = Open(made, FiringState.STARTED, nominal, named, False, False)
        else:
            await self._move(queued, FiringState.STARTED, execution=named, attend=bool(duty))
            queued = replace(queued, state=FiringState.STARTED, execution=named)
        problem = None
        if duty:
            self.did.maintain.append((queued.id, duty))
        else:
            problem = await self._execute(schedule, nominal, execution)
        if problem is not None:
            await self._move(queued, FiringState.FAILED, reason=problem)
            self.did.failed += 1
            # The reason may quote the input: it stays in the store.
            self.did.problem = f"nothing could be started; see: holdfast schedules firings {schedule.id}"
            return replace(schedule, last_run_at=now, last_result=ScheduleResult.FAILED, last_execution=None)
        self._open.append(queued)
        self.did.started += 1
        return replace(schedule, last_run_at=now, last_result=None, last_execution=named)

    async def _execute(self, schedule: Schedule, nominal: datetime, execution: str) -> str | None:
        """Start an execution in this transaction; why not, if it can not be."""
        assert self._start is not None, "prepared before the transaction"
        if isinstance(self._start, HoldfastError):
            return f"{self._start.code}: {self._start.cause}"
        about = {"schedule": schedule.id, "nominal_at": nominal.astimezone(UTC).isoformat()}
        if not await start(self._store, self._transaction, schedule, self._start, execution, about):
            return f"there is an execution {execution!r} already"
        self.did.queues.add(schedule.queue)
        return None

    # The rows.

    async def _record(
        self,
        nominal: datetime,
        cause: FiringCause,
        state: FiringState,
        *,
        execution: str | None = None,
        reason: str | None = None,
        attend: bool = False,
    ) -> str | None:
        """Record one time; its firing's id, or None when it was recorded before."""
        made = firing_id(self._id, nominal)
        rows = await self._transaction.fetch(
            "schedules.record", self._store.tenant, made, self._id, bound(self._store, nominal), str(cause),
            str(state), execution, reason, attend,
        )  # fmt: skip
        return made if rows else None

    async def _move(
        self,
        firing: Open,
        state: FiringState,
        *,
        execution: str | None = None,
        reason: str | None = None,
        attend: bool = False,
        finished: datetime | None = None,
    ) -> None:
        at = None if finished is None else bound(self._store, finished)
        await self._transaction.fetch(
            "schedules.move", self._store.tenant, firing.id, str(state), execution, reason, attend, at
        )


async def end_maintenance(store: Store, firing: str, schedule: str, problem: str | None) -> None:
    """Write down how a duty ended that this process had taken on."""
    state = FiringState.COMPLETED if problem is None else FiringState.FAILED

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> None:
        schedules = store.repo(Schedule, within=transaction)
        known = await schedules.find_by_id(schedule)
        known = await schedules.get_locked(schedule) if known is not None else None
        moved = await transaction.fetch(
            "schedules.move", store.tenant, firing, str(state), None, problem, False, None
        )
        if moved and known is not None:
            await schedules.update(kept_plan(known, replace(known, last_result=ScheduleResult(state))))

    await run()


def kept_plan(before: Schedule, changed: Schedule) -> Schedule:
    """A change that leaves what is planned as it is: it is not planned anew because of it."""
    if before.planned_revision != before.revision:
        return changed
    return replace(changed, planned_revision=before.revision + 1)


def firing_id(schedule: str, nominal: datetime) -> str:
    """The id of the record of one time: the same whoever writes it."""
    return f"{schedule}@{_stamp(nominal)}"


def execution_id(schedule: str, nominal: datetime) -> str:
    """The id of the execution of one time: the same whoever starts it."""
    return f"{schedule}-{_stamp(nominal)}"


def bound(store: Store, at: datetime) -> Any:
    """A time as the statements of this store bind it."""
    from holdfast.records.declare import table_of

    return dialect_of(store.driver).writer(table_of(Schedule).column("created_at"))(at)


def _stamp(nominal: datetime) -> str:
    at = nominal.astimezone(UTC)
    return f"{at:%Y%m%dT%H%M%S}{f'.{at.microsecond:06}' if at.microsecond else ''}Z"


def _means(schedule: Schedule) -> tuple[Any, ...]:
    """What decides about what is started."""
    return schedule.workflow, schedule.version, schedule.inputs


def _duty(schedule: Schedule) -> str:
    """The duty that a schedule stands for; empty for one that starts a workflow."""
    is_duty = schedule.workflow.startswith(MAINTENANCE)
    return schedule.workflow.removeprefix(MAINTENANCE) if is_duty else ""


def _open(row: Row) -> Open:
    id, state, nominal, execution, may_ask_again, is_left, *_ = row
    return Open(id, FiringState(state), moment(nominal), execution, bool(may_ask_again), bool(is_left))


def _end_of(firing: Open, status: str | None) -> FiringState | None:
    """How the execution of a firing has ended; None while it has not, or there is none."""
    if firing.state is not FiringState.STARTED or firing.execution is None:
        return None
    return FiringState.LOST if status is None else _ENDS.get(ExecutionStatus(status))
