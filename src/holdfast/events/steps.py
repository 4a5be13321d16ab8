"""The steps of an execution, derived from its events; nothing else is kept about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from holdfast.events.log import PAGE_MAX, value_of
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, Step, StepStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Row
from holdfast.store.rows import lasting, moment
from holdfast.store.store import Store

_NUMBER = re.compile(r"\[\d+\]$|#\d+$")
_STATUS = {
    EventType.STEP_STARTED: StepStatus.RUNNING,
    EventType.ATTEMPT_FAILED: StepStatus.RETRYING,
    EventType.TIMER_STARTED: StepStatus.WAITING,
    EventType.CHILD_STARTED: StepStatus.RUNNING,
    EventType.STEP_COMPLETED: StepStatus.COMPLETED,
    EventType.CHILD_COMPLETED: StepStatus.COMPLETED,
    EventType.TIMER_FIRED: StepStatus.COMPLETED,
    EventType.SIGNAL_RECEIVED: StepStatus.COMPLETED,
    EventType.STEP_FAILED: StepStatus.FAILED,
    EventType.CHILD_FAILED: StepStatus.FAILED,
    EventType.STEP_SKIPPED: StepStatus.SKIPPED,
}
UNFINISHED = frozenset({StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING})
"""Where a step stands that will still change."""


@dataclass(slots=True)
class _Draft:
    path: str
    status: StepStatus = StepStatus.RUNNING
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: timedelta | None = None
    input: Any = None
    output: Any = None
    error: dict[str, Any] | None = field(default=None)

    def take(self, row: Row, values: bool) -> None:
        kind, at, spent = EventType(row[1]), moment(row[4]), lasting(row[5])
        self.status = _STATUS[kind]
        self.attempts = max(self.attempts, row[3] or 0)
        timer = kind is EventType.TIMER_STARTED  # its duration lies ahead, that of a body behind
        if self.started_at is None:
            self.started_at = at if timer or spent is None else at - spent
        if kind is not EventType.STEP_STARTED:
            self.duration = spent if spent is not None else self.duration
        if kind is EventType.SIGNAL_RECEIVED:
            self.duration = at - self.started_at  # the length of its timer was what it could have waited
        if self.status not in UNFINISHED:
            self.finished_at = at
        failed = kind in (EventType.ATTEMPT_FAILED, EventType.STEP_FAILED, EventType.CHILD_FAILED)
        if failed:
            self.error = value_of(row[6], f"error of {self.path}")
        elif self.status is StepStatus.COMPLETED:
            self.error = None
        if values and row[9] is not None:
            self.input = value_of(row[9], f"input of {self.path}")
        if values and not failed and self.status in (StepStatus.COMPLETED, StepStatus.SKIPPED):
            self.output = value_of(row[6], f"output of {self.path}")

    def step(self) -> Step:
        last = self.path.rpartition("/")[2]
        return Step(
            path=self.path,
            name=_NUMBER.sub("", last),
            status=self.status,
            attempts=self.attempts,
            started_at=self.started_at,
            finished_at=self.finished_at,
            duration=self.duration,
            input=self.input,
            output=self.output,
            error=self.error,
        )


async def read_steps(store: Store, execution: Execution, *, values: bool = True) -> list[Step]:
    """The steps in the order of their first events; without `values`, inputs and outputs stay behind."""
    drafts: dict[str, _Draft] = {}  # what a retry has taken back is not shown until it is there again
    after = 0
    while rows := await store.driver.fetch("events.page", execution.key, after, PAGE_MAX):
        after = rows[-1][0]
        for row in rows:
            if row[1] == EventType.STEP_RESET:
                for path in codec.decode(row[6], what="step.reset")["paths"]:
                    drafts.pop(path, None)
            elif row[2] is not None and row[1] in _STATUS:
                draft = drafts.get(row[2])
                if draft is None:
                    draft = drafts[row[2]] = _Draft(row[2])
                draft.take(row, values)
    return [draft.step() for draft in drafts.values()]
