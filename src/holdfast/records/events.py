"""The event log: one append-only line per thing that happened, and the results themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from holdfast.records.executions import ExecutionKey


class EventType(StrEnum):
    """The closed set of event types. Those in `RESULTS` are results: unique per path and generation."""

    EXECUTION_STARTED = "execution.started"  # payload: the input
    EXECUTION_SUSPENDED = "execution.suspended"  # payload: what it waits for
    EXECUTION_RESUMED = "execution.resumed"
    EXECUTION_COMPLETED = "execution.completed"  # payload: the output
    EXECUTION_FAILED = "execution.failed"  # payload: the error
    EXECUTION_CANCELLED = "execution.cancelled"  # payload: the reason
    LEASE_TAKEN = "lease.taken"  # payload: from whom and why
    STEP_STARTED = "step.started"
    STEP_COMPLETED = "step.completed"  # payload: the output
    STEP_FAILED = "step.failed"  # payload: the error, final
    STEP_SKIPPED = "step.skipped"  # payload: why
    STEP_RESET = "step.reset"  # payload: paths whose generation rises
    ATTEMPT_FAILED = "attempt.failed"  # payload: the error of one attempt
    TIMER_STARTED = "timer.started"  # payload: when it is due
    TIMER_FIRED = "timer.fired"
    SIGNAL_RECEIVED = "signal.received"  # payload: the message
    CHILD_STARTED = "child.started"  # payload: id of the child
    CHILD_COMPLETED = "child.completed"  # payload: the child's output
    CHILD_FAILED = "child.failed"  # payload: the child's error
    CONTROL_CANCEL = "control.cancel"  # payload: who asked and why


RESULTS = frozenset(
    {
        EventType.STEP_COMPLETED,
        EventType.STEP_FAILED,
        EventType.STEP_SKIPPED,
        EventType.TIMER_FIRED,
        EventType.SIGNAL_RECEIVED,
        EventType.CHILD_COMPLETED,
        EventType.CHILD_FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of an execution's log. `seq` counts from 1 without gaps within an execution."""

    execution: ExecutionKey
    execution_id: str
    seq: int
    type: EventType
    path: str | None
    attempt: int
    at: datetime
    duration: timedelta | None
    payload: Any
    cursor: str  # position in the whole log; pass it to `tail` to go on behind this event
