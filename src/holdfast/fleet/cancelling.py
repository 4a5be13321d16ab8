"""Asking an execution to stop, from any process.

The request is a message in the execution's inbox. A live owner reads it within about a second and ends the
execution itself; when there is none, whoever asks takes the execution and writes its end, so that nothing
waits for an owner that never comes. Children that have not ended go the same way.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from holdfast.errors import ExecutionNotFound, NotResumable, OwnedElsewhere
from holdfast.fleet.ownership import Registration, claim
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Post, Transition
from holdfast.store.journal import Entry
from holdfast.store.rows import execution_of
from holdfast.store.store import Store


async def post(
    store: Store, key: ExecutionKey, kind: str, name: str | None, payload: bytes | None, message: bytes
) -> bool:
    """Leave a message and wake the execution, in one transaction. False: it was there, or has ended."""
    async with store.transaction() as transaction:
        # The execution's row is locked first, as every flush does, and only then the inbox is written.
        if not await transaction.fetch("executions.wake", key):
            return False
        return bool(await transaction.fetch("inbox.post", key, message, kind, name, payload))


async def cancel(store: Store, registration: Registration, execution: Execution, *, reason: str = "") -> bool:
    """Ask `execution` to stop. True: it is cancelled now; False: its owner was told and will end it.

    Raises `NotResumable` when it has ended already.
    """
    if execution.status.is_final:
        raise NotResumable(f"execution {execution.id} has {execution.status} already", id=execution.id)
    payload = codec.encode({"reason": reason or "cancelled by request"}, what="reason")
    message = secrets.token_bytes(16)
    await post(store, execution.key, "cancel", None, payload, message)
    current = await store.execution_by_key(execution.key)
    if current is None:
        raise ExecutionNotFound(f"execution {execution.id} vanished while it was cancelled", id=execution.id)
    try:
        taken = await claim(store, registration, current)
    except OwnedElsewhere:
        return False
    except NotResumable as ended:
        return ExecutionStatus(ended.details["status"]) is ExecutionStatus.CANCELLED
    holding = taken.holding
    rows = await store.driver.fetch("events.last_seq", holding.key)
    holding.next_seq = rows[0][0] + 1
    parent = None
    if current.parent is not None:
        path = await store.driver.fetch("executions.parent_path", current.key)
        parent = Post(current.parent, bytes(current.key), "child", path[0][0], None)
    await store.journal.append(
        Entry(
            holding,
            EventType.EXECUTION_CANCELLED,
            payload=await store.journal.place(holding, payload),
            transition=Transition(ExecutionStatus.CANCELLED, final=True),
            take=message,
            post=parent,
        )
    )
    await cancel_children(store, registration, current.key, reason=reason)
    return True


async def cancel_children(
    store: Store, registration: Registration, parent: ExecutionKey, *, reason: str = ""
) -> None:
    """Cancel what an execution that was cancelled has left of children, and theirs."""
    for row in await store.driver.fetch("executions.unfinished_children", parent):
        with suppress(NotResumable):  # it has ended meanwhile
            await cancel(store, registration, execution_of(row), reason=reason)
