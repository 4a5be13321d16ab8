"""Waiting for executions of other processes to end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.cli.endings import Ending, ending_of, tell
from holdfast.cli.output import one_line
from holdfast.cli.reading import with_store
from holdfast.cli.running import common_code
from holdfast.cli.sessions import resume_command
from holdfast.fleet.ends import read_outcome, read_waits, wait_for_end
from holdfast.records.executions import Execution

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
                what = ", ".join(one_line(str(reason)) for reason in ending.waits_for)
                invocation.say(f"⏸ {ending.id} is still {ending.status}{f' for {what}' if what else ''}")
            else:
                tell(ending, invocation, resume=resume_command(ending.id, invocation))
    return common_code([ending.exit_code for ending in endings])


async def _ending(store: Store, execution: Execution, limit_s: float | None) -> Ending:
    ended = await wait_for_end(store, execution.id, timeout_s=limit_s)
    if ended is None:
        current = await store.get_execution(execution.id)
        return Ending(
            id=current.id,
            workflow=current.workflow,
            status=str(current.status),
            until=current.due_at,
            waits_for=await read_waits(store, current),
        )
    seconds = ended.duration.total_seconds() if ended.duration is not None else 0.0
    outcome = await read_outcome(store, ended.key)
    return replace(ending_of(ended.id, ended.workflow, outcome, seconds=seconds), counted=False)
