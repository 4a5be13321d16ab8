"""A new execution that begins where another one was.

Its log starts with copies of the results that stood before a step, so it runs that step and what follows, and
nothing before. One transaction writes it whole: until its commit nobody sees any of it. The other execution,
in whatever state it is, is only read.
"""

from __future__ import annotations

import json
from typing import Any

from holdfast.errors import ExecutionNotFound, IdTaken
from holdfast.fleet.control import Locked, write
from holdfast.fleet.resets import Log
from holdfast.fleet.starts import Origin, fingerprint, new_key
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus, key_text
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.store import Store


async def fork(
    store: Store,
    execution: Execution,
    *,
    at: str | None = None,
    input: bytes | None = None,
    id: str | None = None,
    started_by: str | None = None,
) -> Execution:
    """Make a new execution with the results that `execution` recorded before step `at`, ready in its queue.

    Without `at` it has none and runs from the first step. `input` replaces the encoded input; the recorded
    arguments of what was copied are compared as ever, so a step in front of `at` that would now be called
    with others stops the run with `DefinitionChanged`. Raises `StepNotFound`, and `IdTaken` when `id`
    exists.
    """
    origin = Origin(id=id, trigger="fork", started_by=started_by)
    key = new_key()
    new_id = origin.id or key_text(key)

    @store.transactional(isolation=Isolation.REPEATABLE_READ)
    async def run(transaction: Transaction) -> bool:
        log = Log(await transaction.fetch("events.history", execution.key))
        first = log.first_of(at) if at is not None else 0
        kept = [line.seq for line in log.results() if line.seq < first]
        given = log.input or b"" if input is None else input
        made = await transaction.fetch(
            "control.fork", execution.key, key, new_id, fingerprint(execution.workflow, given)
        )
        if not made:
            return False
        await transaction.fetch("control.fork_details", execution.key, key, origin.started_by)
        await write(transaction, _unborn(execution, key, new_id), EventType.EXECUTION_STARTED, given)
        await transaction.fetch("control.fork_results", execution.key, key, _numbers(store, kept))
        await transaction.fetch("control.fork_payloads", execution.key, key)
        return True

    if not await run():
        raise IdTaken(f"execution {new_id!r} exists already", id=new_id)
    store.hints.ready(execution.queue)
    made = await store.execution_by_key(key)
    if made is None:
        raise ExecutionNotFound(f"execution {new_id!r} vanished while it was made", id=new_id)
    return made


def _unborn(execution: Execution, key: ExecutionKey, id_: str) -> Locked:
    """The new row as `write` wants it: nobody else can see it yet."""
    return Locked(
        key, None, 0, ExecutionStatus.READY, id_, execution.tenant, execution.queue, execution.workflow,
        execution.definition, None, None, False, True,
    )  # fmt: skip


def _numbers(store: Store, numbers: list[int]) -> Any:
    return numbers if store.driver.dialect == "postgresql" else json.dumps(numbers)
