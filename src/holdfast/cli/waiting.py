"""Waiting for executions of other processes to end, and asking them to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.cli.endings import Ending, ending_of, tell
from holdfast.cli.failures import report
from holdfast.cli.reading import with_store
from holdfast.cli.running import common_code
from holdfast.cli.sessions import resume_command
from holdfast.errors import HoldfastError, NotResumable
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.ends import read_outcome, wait_for_end
from holdfast.fleet.ownership import Registration
from holdfast.records.executions import Execution, ExecutionStatus

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

CANCEL_TIMEOUT_S = 30.0
WAITING = 9


def wait_for(invocation: Invocation, ids: Sequence[str]) -> int:
    """Wait for the end of all; the exit code."""
    timeout = invocation.timeout
    limit_s = None if timeout is None else timeout.total_seconds()

    async def run(store: Store) -> list[Ending]:
        chosen = [await store.get_execution(id) for id in ids]
        return list(await asyncio.gather(*(_ending(store, each, limit_s) for each in chosen)))

    endings = with_store(invocation, run)
    if not invocation.output.is_table:
        rows = [ending.record() for ending in endings]
        invocation.output.records(rows, ["id", "workflow", "status", "duration"])
    else:
        for ending in endings:
            if ending.exit_code == WAITING:
                invocation.say(f"⏸ {ending.id} is still {ending.status}")
            else:
                tell(ending, invocation, resume=resume_command(ending.id, invocation))
    return common_code([ending.exit_code for ending in endings])


async def _ending(store: Store, execution: Execution, limit_s: float | None) -> Ending:
    ended = await wait_for_end(store, execution.id, timeout_s=limit_s)
    if ended is None:
        current = await store.get_execution(execution.id)
        return Ending(
            id=current.id, workflow=current.workflow, status=str(current.status), until=current.due_at
        )
    seconds = ended.duration.total_seconds() if ended.duration is not None else 0.0
    outcome = await read_outcome(store, ended.key)
    return replace(ending_of(ended.id, ended.workflow, outcome, seconds=seconds), counted=False)


def cancel_all(invocation: Invocation, ids: Sequence[str], *, reason: str, wait: bool) -> int:
    """Ask every execution to stop, and with `wait` see that it did; the exit code."""
    timeout = invocation.timeout
    limit_s = CANCEL_TIMEOUT_S if timeout is None else timeout.total_seconds()

    async def run(store: Store) -> list[dict[str, Any] | HoldfastError]:
        chosen = [await store.get_execution(id) for id in ids]
        if invocation.flags.dry_run:
            return [_row(e, "has ended" if e.status.is_final else "would be cancelled") for e in chosen]
        # Only who owns an execution may end it: this process registers for as long as it takes.
        registration = Registration(store, program="cancel")
        await registration.start()
        try:
            limit = limit_s if wait else None
            return [await _cancel(store, registration, each, reason, limit) for each in chosen]
        finally:
            await registration.stop()

    results = with_store(invocation, run)
    codes = []
    rows = [each for each in results if isinstance(each, dict)]
    for each in results:
        if isinstance(each, HoldfastError):
            codes.append(report(each, invocation))
            continue
        codes.append(0 if each["result"] != "asked" else WAITING)
    if invocation.output.is_table:
        for row in rows:
            invocation.say(_sentence(row))
    else:
        invocation.output.records(rows, ["id", "workflow", "status", "result"])
    return common_code(codes)


async def _cancel(
    store: Store, registration: Registration, execution: Execution, reason: str, limit_s: float | None
) -> dict[str, Any] | HoldfastError:
    if execution.status is ExecutionStatus.CANCELLED:
        return _row(execution, "cancelled")
    deadline = time.monotonic() + (limit_s or 0.0)
    try:
        done = await cancel(store, registration, execution, reason=reason)
    except HoldfastError as error:
        return error
    if not done and limit_s is not None:
        await wait_for_end(store, execution.id, timeout_s=max(deadline - time.monotonic(), 0))
    current = await store.get_execution(execution.id)
    if current.status.is_final and current.status is not ExecutionStatus.CANCELLED:
        cause = f"execution {current.id} had {current.status} before it could be cancelled"
        return NotResumable(cause, id=current.id)
    return _row(current, "cancelled" if current.status is ExecutionStatus.CANCELLED else "asked")


def _row(execution: Execution, result: str) -> dict[str, Any]:
    return {
        "id": execution.id,
        "workflow": execution.workflow,
        "status": str(execution.status),
        "result": result,
    }


def _sentence(row: dict[str, Any]) -> str:
    if row["result"] == "asked":
        id = row["id"]
        return f"⏸ {id} was asked to stop and is still {row['status']}; holdfast executions wait {id}"
    verb = "is" if row["result"] == "cancelled" else ""
    return f"⊘ {row['id']} {verb} {row['result']}".replace("  ", " ")
