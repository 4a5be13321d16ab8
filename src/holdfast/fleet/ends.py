"""How executions ended, read from the store."""

from __future__ import annotations

import asyncio
import time

from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.workflows.driving import Outcome
from holdfast.workflows.parking import Reason

POLL_S = 1.0


async def read_outcome(store: Store, key: ExecutionKey) -> Outcome:
    """How a finished execution ended, from its log."""
    rows = await store.driver.fetch("events.end", key)
    kind, payload = rows[0]
    if kind == EventType.EXECUTION_COMPLETED:
        return Outcome(status=ExecutionStatus.COMPLETED, output=payload)
    error = codec.decode(payload, what="error") if payload else {}
    if kind == EventType.EXECUTION_CANCELLED:
        error = {"type": "cancelled", "message": str(error.get("reason", "")) or "it was cancelled"}
        return Outcome(status=ExecutionStatus.CANCELLED, error=error)
    return Outcome(status=ExecutionStatus.FAILED, error=error)


async def read_waits(store: Store, execution: Execution) -> tuple[Reason, ...]:
    """What a suspended execution waits for; nothing when it does not wait, or for a start that is delayed."""
    if execution.status is not ExecutionStatus.WAITING:
        return ()
    rows = await store.driver.fetch("events.waits", execution.key)
    told = codec.decode(rows[0][0], what="suspension") if rows and rows[0][0] else {}
    reasons = told.get("waiting") if isinstance(told, dict) else None
    if not isinstance(reasons, list):
        return ()
    return tuple(Reason(str(each["kind"]), str(each["name"])) for each in reasons)


async def wait_for_end(store: Store, id: str, *, timeout_s: float | None = None) -> Execution | None:
    """Poll until the execution has ended; None when `timeout_s` passes first."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = 0.02
    while True:
        execution = await store.get_execution(id)
        if execution.status.is_final:
            return execution
        if deadline is not None and time.monotonic() + pause_s > deadline:
            return None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, POLL_S)
