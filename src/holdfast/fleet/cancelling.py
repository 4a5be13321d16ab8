"""Asking an execution to stop for good, from any process.

A live owner is told and ends the execution itself; without one, whoever asks writes the end. See `control`
for why the two never happen both. What the execution waited for outside (signals, approvals, tasks) is
withdrawn in the same transaction, its parent is told, and its children are asked to stop, except those that
were detached: the wish is on disk with the end of the parent, so that none is forgotten if this process dies
before it sees to them.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import timedelta

from holdfast.errors import ExecutionNotFound, NotResumable
from holdfast.fleet.control import Locked, ask, check_reason, lock, lock_outside, release, settle, write
from holdfast.fleet.ownership import Registration
from holdfast.fleet.signals import return_unclaimed
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Isolation, Transaction
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
        posted = bool(await transaction.fetch("inbox.post", key, message, kind, name, payload))
    store.hints.message()
    return posted


async def cancel(
    store: Store,
    registration: Registration,
    execution: Execution,
    *,
    reason: str = "",
    deadline: timedelta | None = None,
    steal: bool = False,
    orphaned: bool = False,
) -> bool:
    """Ask `execution` to stop. True: it is cancelled now; False: its owner was told and will end it.

    The owner lets running steps clean up, until `deadline` if there is one. With `steal` it is not asked: the
    execution is taken from it and ended here. With `orphaned` nothing happens unless its parent has ended by
    then, for that may have been retried meanwhile. Raises `NotResumable` when it has ended already.
    """
    why: dict[str, object] = {"reason": check_reason(reason) or "cancelled by request"}
    if deadline is not None:
        why["deadline_s"] = deadline.total_seconds()
    payload = codec.encode(why, what="reason")

    async def act(transaction: Transaction, locked: Locked) -> bool:
        if orphaned and not await transaction.fetch("signals.lock_ended", locked.parent):
            return False
        if locked.status.is_final:
            if locked.status is ExecutionStatus.CANCELLED and execution.status is not locked.status:
                return True  # by somebody else, a moment ago
            raise NotResumable(
                f"execution {locked.id} has {locked.status} already", id=locked.id, status=str(locked.status)
            )
        if not (locked.is_free or steal):
            await ask(transaction, locked.key, "cancel", payload)
            return False
        await _end(transaction, locked, payload)
        return True

    done = await settle(store, registration, execution, act)
    store.hints.message()
    if done:
        await return_unclaimed(store, execution.key)
        await cancel_children(store, registration, execution.key, reason=reason)
    return done


async def _end(transaction: Transaction, locked: Locked, payload: bytes) -> None:
    """Write the end of an execution that this transaction holds, and all that goes with it."""
    await release(transaction, locked, ExecutionStatus.CANCELLED)
    await transaction.fetch("control.take_requests", locked.key)
    await write(transaction, locked, EventType.EXECUTION_CANCELLED, payload)
    await _withdraw(transaction, locked.key)
    if locked.parent is not None and await transaction.fetch("executions.wake", locked.parent):
        await transaction.fetch(
            "inbox.post", locked.parent, bytes(locked.key), "child", locked.parent_path, None
        )
    await transaction.fetch("control.wake_children", locked.key)
    await transaction.fetch("control.ask_children", locked.key, secrets.token_bytes(16), payload)


async def cancel_children(
    store: Store, registration: Registration, parent: ExecutionKey, *, reason: str = ""
) -> None:
    """Cancel what an execution that has ended has left of children, and theirs; detached ones live."""
    for row in await store.driver.fetch("control.unfinished_children", parent):
        with suppress(NotResumable):  # it has ended meanwhile
            await cancel(store, registration, execution_of(row), reason=reason, orphaned=True)


async def withdraw(store: Store, key: ExecutionKey) -> None:
    """Take back what an execution that has ended still asks of people, agents and senders. Safe twice."""

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> None:
        await lock_outside(transaction, key)
        with suppress(ExecutionNotFound):
            if (await lock(transaction, key)).status.is_final:
                await _withdraw(transaction, key)

    await run()


async def _withdraw(transaction: Transaction, key: ExecutionKey) -> None:
    for name in ("control.withdraw_waits", "control.withdraw_approvals", "control.withdraw_tasks"):
        await transaction.fetch(name, key)
