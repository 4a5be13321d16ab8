"""Schedules: when a workflow is to be started by itself, and what became of each time."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from holdfast.records.declare import Record, field, record


class CatchUp(StrEnum):
    """What is done about times that passed while nothing could start."""

    SKIP = "skip"  # they are left out
    LATEST = "latest"  # one start makes up for all of them
    ALL = "all"  # each is started, of more than `catch_up_max` the newest


class Overlap(StrEnum):
    """What is done when it is time and the execution before has not ended."""

    SKIP = "skip"  # nothing is started
    QUEUE = "queue"  # it starts when the one before has ended
    CANCEL = "cancel"  # the one before is asked to stop, and it starts when that has ended
    ALLOW = "allow"  # both run


class ScheduleResult(StrEnum):
    """What came of the last time."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    LOST = "lost"


class FiringCause(StrEnum):
    """Why something was to start."""

    TIME = "time"
    CATCH_UP = "catch_up"  # its time had passed while nothing could start
    TRIGGER = "trigger"  # somebody asked for it


class FiringState(StrEnum):
    """What became of one time of a schedule."""

    QUEUED = "queued"  # it waits for the one before
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # nothing was started; `reason` says why
    LOST = "lost"  # its execution was removed before anybody saw how it ended

    @property
    def is_open(self) -> bool:
        """Whether something of it is still to come."""
        return self in (FiringState.QUEUED, FiringState.STARTED)


@record(table="schedules")
class Schedule(Record):
    """A workflow that is to be started by the clock: `cron` in the time zone `zone`.

    `cron` is what `holdfast.domain.timetables` reads. Without a `version` it is what a bare name means at
    that time; `maintenance:NAME` is a duty of Holdfast's own. Its id is what executions name as their
    schedule; they stay when it is deleted. `next_run_at` is `next_nominal_at`, the time that the text means,
    and the part of `jitter` that belongs to it; it is empty while nothing is to come. What starts at one time
    is recorded once as a `ScheduleFiring`. The `last_…` fields tell of the newest start; after a time that
    was skipped the result says so until that start has ended.
    """

    workflow: str
    version: str | None = None
    cron: str = field(filter=None)
    zone: str = "UTC"
    inputs: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_max: int = field(default=100, filter=None)
    overlap: Overlap = Overlap.SKIP
    jitter: timedelta = field(default=timedelta(0), filter=None)
    starts_at: datetime | None = field(default=None, filter=None)
    ends_at: datetime | None = field(default=None, filter=None)
    queue: str = "default"
    description: str | None = field(default=None, filter=None)
    tags: tuple[str, ...] = field(default=(), filter="tag")
    next_run_at: datetime | None = field(default=None, filter="next")
    next_nominal_at: datetime | None = field(default=None, filter=None)
    last_run_at: datetime | None = field(default=None, filter="last")
    last_result: ScheduleResult | None = field(default=None, filter="result")
    last_execution: str | None = field(default=None, filter=None)
    planned_revision: int = field(default=0, filter=None)


@record(table="schedule_firings", sealed=True)
class ScheduleFiring(Record):
    """One time of a schedule, `nominal_at`, recorded once whatever number of schedulers saw it come.

    `execution` is what was started for it, if anything was. Missed times that follow each other are one row,
    at the first of them. `attended_at` is when a process last saw to it beyond recording it.
    """

    schedule: str = field(immutable=True)
    nominal_at: datetime = field(immutable=True, filter="nominal")
    cause: FiringCause = field(default=FiringCause.TIME, immutable=True)
    state: FiringState = FiringState.STARTED
    execution: str | None = None
    reason: str | None = field(default=None, filter=None)
    attended_at: datetime | None = field(default=None, filter=None)
    finished_at: datetime | None = field(default=None, filter="finished")
