"""Setting executions aside and going on with them, from any process.

Nobody but the holder of an execution's epoch writes its log. Whoever wants something of an execution
therefore looks, in one transaction, whether somebody alive owns it. If so, the wish is left in its inbox and
the owner acts on it within about a second. If not, the one who asks raises the epoch and writes the outcome
himself, so that nothing waits for an owner that never comes. The transaction makes the two cases exclude
each other: an owner that suspends, dies or takes over meanwhile comes wholly before or wholly after it.

Locks are taken in the order that all of the fleet keeps: worker, mailboxes, approvals and tasks, parent,
execution, inbox.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from holdfast.errors import ExecutionNotFound, InvalidArgument, WrongStatus
from holdfast.fleet.ownership import Life, Registration, look_at
from holdfast.records.events import EventType
from holdfast.records.executions import BootId, Execution, ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Executor, Isolation, Transaction
from holdfast.store.journal import INLINE_BYTES_MAX
from holdfast.store.store import Store

REASON_CHARACTERS_MAX = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Locked:
    """An execution's row under its lock. `is_free`: nobody alive owns it."""

    key: ExecutionKey
    owner: BootId | None
    epoch: int
    status: ExecutionStatus
    id: str
    tenant: str
    queue: str
    workflow: str
    definition: bytes
    parent: ExecutionKey | None
    parent_path: str | None
    detached: bool
    is_free: bool


async def pause(
    store: Store, registration: Registration, execution: Execution, *, reason: str = "", steal: bool = False
) -> bool:
    """Set `execution` aside. True: it is paused now; False: its owner was told, and does it.

    An owner pauses when the steps that run have ended, and starts none. Messages and timers that come
    meanwhile wait. With `steal` a live owner is not asked: its running steps are lost and run again. Raises
    `WrongStatus` when it has ended.
    """
    why = check_reason(reason) or "paused by request"

    async def act(transaction: Transaction, locked: Locked) -> bool:
        if locked.status.is_final:
            raise WrongStatus(f"execution {locked.id} has {locked.status} already", id=locked.id)
        if locked.status is ExecutionStatus.PAUSED:
            return True
        if not (locked.is_free or steal):
            await ask(transaction, locked.key, "pause", codec.encode({"reason": why}))
            return False
        await release(transaction, locked, ExecutionStatus.PAUSED)
        await transaction.fetch("control.forget_pauses", locked.key)
        payload = codec.encode({"reason": "paused", "asked": why})
        await write(transaction, locked, EventType.EXECUTION_SUSPENDED, payload)
        return True

    done = await settle(store, registration, execution, act)
    store.hints.message()
    return done


async def resume(store: Store, execution: Execution) -> ExecutionStatus:
    """Take a pause back, also one that its owner has not acted on; where the execution stands now.

    It goes back to its queue, or waits on for the delay it was started with. Raises `WrongStatus` when it is
    neither paused nor about to be.
    """

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> tuple[ExecutionStatus, str]:
        locked = await lock(transaction, execution.key)
        forgotten = await transaction.fetch("control.forget_pauses", execution.key)
        if locked.status is ExecutionStatus.PAUSED:
            rows = await transaction.fetch("control.unpause", execution.key)
            return ExecutionStatus(rows[0][0]), locked.queue
        if locked.status.is_final or not forgotten:
            raise _not_paused(locked)
        # An owner that has read the request finds it gone before it acts on it.
        await transaction.fetch("executions.wake", execution.key)
        return locked.status, locked.queue

    status, queue = await run()
    if status is ExecutionStatus.READY:
        store.hints.ready(queue)
    else:
        store.hints.message()
    return status


async def unpaused(store: Store, id: str) -> Execution:
    """The execution with this id, no longer paused if it was: for whoever goes on with it at once."""
    execution = await store.get_execution(id)
    if execution.status is ExecutionStatus.PAUSED:
        with suppress(WrongStatus):  # somebody was faster
            await resume(store, execution)
        execution = await store.get_execution(execution.id)
    return execution


def _not_paused(locked: Locked) -> WrongStatus:
    if locked.status.is_final:
        return WrongStatus(
            f"execution {locked.id} has {locked.status}: nothing is left to go on with",
            where=locked.id,
            fix=f"holdfast executions retry {locked.id}        or fork it: holdfast fork {locked.id}",
            id=locked.id,
        )
    return WrongStatus(
        f"execution {locked.id} is {locked.status}, not paused",
        where=locked.id,
        fix=f"go on with an interrupted or waiting one here: holdfast resume {locked.id}",
        id=locked.id,
    )


# What all requests are made of.


async def settle(
    store: Store,
    registration: Registration,
    execution: Execution,
    act: Callable[[Transaction, Locked], Awaitable[T]],
) -> T:
    """Run `act` in a transaction that holds the execution, and its owner if there is one, under their locks.

    What stands outside of it (waits, approvals, tasks) and its parent are locked too, in the order of the
    fleet. A deadlock with others is tried again.
    """
    owner = execution.owner

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def attempt(transaction: Transaction) -> tuple[bool, Any]:
        is_dead = owner is None or await _is_dead(transaction, registration, owner)
        await lock_outside(transaction, execution.key)
        if execution.parent is not None:
            await transaction.fetch("executions.lock", execution.parent)
        locked = await lock(transaction, execution.key, dead=owner if is_dead else None)
        if locked.owner not in (None, owner):
            return False, locked.owner  # it changed hands: whether the new owner lives is looked at first
        return True, await act(transaction, locked)

    while True:
        is_done, result = await attempt()
        if is_done:
            answer: T = result
            return answer
        owner = result


async def _is_dead(transaction: Transaction, registration: Registration, owner: BootId) -> bool:
    rows = await transaction.fetch("workers.lock", owner)
    return not rows or rows[0][2] <= 0 or look_at(registration.folder, owner) is Life.GONE


async def lock_outside(transaction: Transaction, key: ExecutionKey) -> None:
    """Lock what stands before an execution in the order of locks: mailboxes, approvals, tasks."""
    for name in ("control.lock_mailboxes", "control.lock_approvals", "control.lock_tasks"):
        await transaction.fetch(name, key)


async def lock(transaction: Transaction, key: ExecutionKey, *, dead: BootId | None = None) -> Locked:
    """Lock an execution's row; `dead` is an owner that counts as none. Raises `ExecutionNotFound`."""
    rows = await transaction.fetch("control.lock", key)
    if not rows:
        raise ExecutionNotFound(f"execution {bytes(key).hex()} is gone")
    owner, epoch, status, id_, tenant, queue, workflow, definition, parent, path, detached = rows[0]
    return Locked(
        key,
        None if owner is None else BootId(owner),
        epoch,
        ExecutionStatus(status),
        id_,
        tenant,
        queue,
        workflow,
        bytes(definition),
        None if parent is None else ExecutionKey(parent),
        path,
        bool(detached),
        owner is None or owner == dead,
    )


async def ask(executor: Executor, key: ExecutionKey, kind: str, payload: bytes) -> None:
    """Leave a message for the owner of an execution whose row is locked."""
    await executor.fetch("executions.wake", key)
    await executor.fetch("inbox.post", key, secrets.token_bytes(16), kind, None, payload)


async def release(transaction: Transaction, locked: Locked, status: ExecutionStatus) -> None:
    """Take an execution from whoever had it: the epoch rises, and the places it held are free."""
    await transaction.fetch("control.release", locked.key, str(status), status.is_final)
    await transaction.fetch("control.free_slots", locked.key)


async def write(transaction: Transaction, locked: Locked, kind: EventType, payload: bytes) -> None:
    """Add an event of the execution itself, by the epoch that this transaction has raised."""
    inline, ref = await place(transaction, locked.key, locked.tenant, payload)
    await transaction.fetch("control.event", locked.key, str(kind), inline, ref)


async def place(
    transaction: Transaction, key: ExecutionKey, tenant: str, data: bytes
) -> tuple[bytes | None, bytes | None]:
    """A value as the two columns of an event; a large one is stored beside it in the same transaction."""
    if len(data) <= INLINE_BYTES_MAX:
        return data, None
    digest = codec.digest(data)
    await transaction.fetch("journal.put_payload", key, digest, tenant, data)
    return None, digest


def check_reason(reason: str) -> str:
    """`reason`, if it can be kept with an execution; `InvalidArgument` otherwise."""
    if len(reason) > REASON_CHARACTERS_MAX:
        raise InvalidArgument(
            f"the reason has {len(reason):,} characters", fix=f"use at most {REASON_CHARACTERS_MAX:,}"
        )
    return reason
