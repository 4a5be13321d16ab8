"""Events from the log as progress: what a view shows of a run that another process carries out."""

from __future__ import annotations

from holdfast.records.events import Event, EventType
from holdfast.workflows.progress import Happening, Progress

_KINDS = {
    EventType.STEP_STARTED: Happening.STEP_RUNNING,
    EventType.STEP_COMPLETED: Happening.STEP_COMPLETED,
    EventType.STEP_FAILED: Happening.STEP_FAILED,
    EventType.STEP_SKIPPED: Happening.STEP_SKIPPED,
    EventType.ATTEMPT_FAILED: Happening.ATTEMPT_FAILED,
    EventType.TIMER_STARTED: Happening.TIMER_WAITING,
    EventType.TIMER_FIRED: Happening.STEP_COMPLETED,
    EventType.SIGNAL_RECEIVED: Happening.STEP_COMPLETED,
    EventType.CHILD_STARTED: Happening.CHILD_RUNNING,
    EventType.CHILD_COMPLETED: Happening.STEP_COMPLETED,
    EventType.CHILD_FAILED: Happening.STEP_FAILED,
}
_FAILURES = (EventType.STEP_FAILED, EventType.ATTEMPT_FAILED, EventType.CHILD_FAILED)


def progress_of(event: Event) -> Progress | None:
    """What an observer in the process that wrote the event was told; None for what is about no step."""
    kind = _KINDS.get(event.type)
    if kind is None or event.path is None:
        return None
    timer = event.type is EventType.TIMER_STARTED  # its duration lies ahead
    return Progress(
        kind=kind,
        execution=event.execution_id,
        path=event.path,
        attempt=event.attempt or 1,
        duration=None if timer else event.duration,
        error=event.payload if event.type in _FAILURES and isinstance(event.payload, dict) else None,
        until=event.duration.total_seconds() if timer and event.duration else None,
    )
