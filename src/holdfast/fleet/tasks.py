"""Tasks: what an agent carries out, wherever it runs.

An execution offers a task and waits; an agent that has the capability claims it, renews a lease while it
works, and completes it. The answer goes into the execution's inbox in the transaction that ends the task, so
neither can be without the other. In the same way tasks go on that waited for one which stands by itself. A
claim raises the task's epoch: an agent that was thought lost and comes back finds its answer refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from holdfast.errors import TaskNotFound, TaskTaken
from holdfast.fleet.dependencies import follow_up
from holdfast.fleet.ownership import hold
from holdfast.records.executions import Execution, ExecutionKey
from holdfast.records.tasks import Task, TaskStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Isolation, Row, Transaction
from holdfast.store.entries import Holding
from holdfast.store.rows import moment
from holdfast.store.store import Store
from holdfast.workflows.outside import TaskSpec

_LAPSED_AT_ONCE = 100
_MICROSECOND = timedelta(microseconds=1)


async def offer(store: Store, holding: Holding, path: str, id: str, spec: TaskSpec) -> None:
    """Make the task of the step at `path`; making it again changes nothing, unless it was called off.

    Fenced by the execution's epoch under its row's lock: raises `LeaseLost` when another owner has it.
    """
    payload = codec.encode(spec.payload, what=f"task {id}")
    async with store.transaction() as transaction:
        await transaction.fetch("tasks.lock", holding.tenant, id)  # before the execution, as all do
        await hold(transaction, holding)
        made = await transaction.fetch(
            "tasks.offer",
            holding.tenant, id, holding.key, path, spec.capability, spec.type, spec.priority, payload,
            spec.max_attempts, round(spec.lease / _MICROSECOND),
        )  # fmt: skip
    if made:
        store.hints.message()


async def withdraw(store: Store, holding: Holding, id: str) -> bool:
    """Take a task back because its deadline has passed. False: an agent has answered first."""
    async with store.transaction() as transaction:
        rows = await transaction.fetch("tasks.lock", holding.tenant, id)
        await hold(transaction, holding)
        if not rows or TaskStatus(rows[0][0]) not in (TaskStatus.PENDING, TaskStatus.CLAIMED):
            return not rows
        await transaction.fetch("tasks.end", holding.tenant, id, TaskStatus.CANCELLED, None, None)
    return True


# The agent's side.


async def claim(store: Store, agent: str, capabilities: Sequence[str]) -> Task | None:
    """The next pending task that asks for one of `capabilities`, in that order; None when there is none."""
    for capability in capabilities:
        rows = await store.driver.fetch("tasks.claim", store.tenant, capability, agent)
        if rows:
            return _task(rows[0])
    return None


async def get(store: Store, id: str) -> Task:
    """A task by its id; `TaskNotFound`."""
    rows = await store.driver.fetch("tasks.get", store.tenant, id)
    if not rows:
        raise TaskNotFound(f"there is no task {id!r}", id=id)
    return _task(rows[0])


async def agents_of(store: Store, execution: Execution) -> list[str]:
    """The agents that have carried out steps of an execution, or do so now, by id."""
    rows = await store.driver.fetch("tasks.agents_of", execution.tenant, execution.id, execution.key)
    return [str(row[0]) for row in rows]


async def renew(store: Store, task: Task) -> bool:
    """Extend the lease of a claimed task by the database's clock. False: it is not this claim's any more."""
    return bool(await store.driver.fetch("tasks.renew", task.tenant, task.id, task.epoch))


async def complete(store: Store, task: Task, result: object) -> None:
    """Answer a task. The execution's step gets `result`; both are on disk when this returns.

    Completing it again after a lost reply is harmless. Raises `TaskTaken` when the claim is not the newest
    one, or nobody waits for the task any more.
    """
    encoded = codec.encode(result, what=f"result of task {task.id}")
    answer = codec.encode({"result": result, "agent": task.agent}, what=f"result of task {task.id}")
    await _end(store, task, TaskStatus.COMPLETED, answer, result=encoded)


async def fail(store: Store, task: Task, error: dict[str, Any], *, retry: bool = True) -> bool:
    """Say that an attempt failed. True: the task went back for another one; False: it has failed for good.

    Raises what `complete` raises.
    """
    return await _give_up(store, task.tenant, task.id, task.epoch, error, retry=retry)


async def return_lapsed(store: Store) -> int:
    """Put back the tasks of agents whose lease ran out; those without an attempt left fail. How many."""
    returned = 0
    error = {"type": "AgentLost", "message": "the agent stopped renewing its lease"}
    for tenant, id, epoch in await store.driver.fetch("tasks.lapsed", _LAPSED_AT_ONCE):
        try:
            await _give_up(store, tenant, id, epoch, error, retry=True)
        except TaskTaken:
            continue  # it was answered, or claimed anew, since the look
        returned += 1
    return returned


async def _give_up(
    store: Store, tenant: str, id: str, epoch: int, error: dict[str, Any], *, retry: bool
) -> bool:
    encoded = codec.encode(error, what=f"error of task {id}")
    answer = codec.encode({"error": error}, what=f"error of task {id}")

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def give_up(transaction: Transaction) -> bool:
        row = await _claimed_row(transaction, tenant, id, epoch)
        _status, _epoch, attempts, max_attempts, _execution, _path = row
        again = retry and attempts < max_attempts
        if again:
            await transaction.fetch("tasks.give_back", tenant, id, encoded)
        else:
            await transaction.fetch("tasks.end", tenant, id, TaskStatus.FAILED, None, encoded)
            await tell(store, transaction, tenant, id, row, TaskStatus.FAILED, answer)
        return again

    again = await give_up()
    store.hints.message()
    return again


async def _end(store: Store, task: Task, status: TaskStatus, answer: bytes, *, result: bytes) -> None:
    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def end(transaction: Transaction) -> None:
        rows = await transaction.fetch("tasks.lock", task.tenant, task.id)
        if rows and rows[0][0] == status and rows[0][1] == task.epoch:
            return  # ours, by an earlier try
        row = await _claimed_row(transaction, task.tenant, task.id, task.epoch)
        await transaction.fetch("tasks.end", task.tenant, task.id, status, result, None)
        await tell(store, transaction, task.tenant, task.id, row, status, answer)

    await end()
    store.hints.message()


async def _claimed_row(transaction: Transaction, tenant: str, id: str, epoch: int) -> Row:
    """The locked row of a task, if it still belongs to the claim of `epoch`."""
    rows = await transaction.fetch("tasks.lock", tenant, id)
    if not rows:
        raise TaskNotFound(f"there is no task {id!r}", id=id)
    if rows[0][0] != TaskStatus.CLAIMED or rows[0][1] != epoch:
        raise TaskTaken(f"task {id!r} is {rows[0][0]}, and not by this claim", id=id, status=rows[0][0])
    return rows[0]


async def tell(
    store: Store, transaction: Transaction, tenant: str, id: str, row: Row, status: TaskStatus, answer: bytes
) -> None:
    """Tell whoever waits for a task how it ended; `row` is the one that `tasks.lock` gave.

    Its execution is woken and finds the answer for its step; one that has ended hears nothing. A task that
    stands by itself may have others that wait for it.
    """
    execution, path = row[4], row[5]
    if execution is None:
        await follow_up(store, transaction, tenant, [id], status)
        return
    key = ExecutionKey(bytes(execution))
    if await transaction.fetch("executions.wake", key):
        await transaction.fetch("inbox.post", key, secrets.token_bytes(16), "signal", path, answer)


def _task(row: Row) -> Task:
    return Task(
        id=row[0], tenant=row[1], capability=row[2], type=row[3], priority=row[4], status=TaskStatus(row[5]),
        payload=codec.decode(row[6], what=f"task {row[0]}") if row[6] else None, agent=row[7], epoch=row[8],
        attempts=row[9], max_attempts=row[10], lease=row[11] * _MICROSECOND, created_at=moment(row[12]),
    )  # fmt: skip
