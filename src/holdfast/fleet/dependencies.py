"""Tasks that wait for other tasks.

What waits is blocked until everything it depends on is completed, and ends with the first that fails or is
called off. Both happen in the transaction that ends the task which is waited for. Rows are locked from there
to what waits, so two that end at once meet at the row of a task which waits for both: the second one sees the
first.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.records.tasks import DependencyPolicy, TaskStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Transaction
from holdfast.store.query import bound_list
from holdfast.store.store import Store

_ENDS = {DependencyPolicy.FAIL: TaskStatus.FAILED, DependencyPolicy.CANCEL: TaskStatus.CANCELLED}


async def follow_up(
    store: Store, transaction: Transaction, tenant: str, ended: Sequence[str], status: TaskStatus
) -> None:
    """What the end of tasks means for those that wait for them; `status` is how all of `ended` did."""
    if status is TaskStatus.COMPLETED:
        waiting = await _lock_dependents(store, transaction, tenant, ended)
        await release(store, transaction, tenant, [id for id, _ in waiting])
        return
    cause = ended[0]
    layer = list(ended)
    while layer:
        waiting = await _lock_dependents(store, transaction, tenant, layer)
        for policy, end in _ENDS.items():
            ids = [id for id, chosen in waiting if chosen is policy]
            if ids:
                message = f"task {cause!r}, which it depends on, has {_told(status)}"
                error = codec.encode({"type": "DependencyFailed", "message": message, "task": cause})
                asked = bound_list(store.driver.dialect, ids)
                await transaction.fetch("dependencies.end", tenant, asked, end, error)
        layer = [id for id, _ in waiting]


async def release(store: Store, transaction: Transaction, tenant: str, ids: Sequence[str]) -> None:
    """Let agents claim those of some locked tasks that wait for nothing any more."""
    if not ids:
        return
    dialect = store.driver.dialect
    rows = await transaction.fetch("dependencies.held", tenant, bound_list(dialect, ids))
    held = {row[0] for row in rows}
    free = [id for id in ids if id not in held]
    if free:
        await transaction.fetch("dependencies.release", tenant, bound_list(dialect, free))


async def lock(
    store: Store, transaction: Transaction, tenant: str, ids: Sequence[str]
) -> dict[str, tuple[TaskStatus, bool]]:
    """Lock tasks: the status of each that is there, and whether it is a step of an execution."""
    rows = await transaction.fetch("dependencies.lock", tenant, bound_list(store.driver.dialect, ids))
    return {row[0]: (TaskStatus(row[1]), row[2] is not None) for row in rows}


async def _lock_dependents(
    store: Store, transaction: Transaction, tenant: str, ids: Sequence[str]
) -> list[tuple[str, DependencyPolicy]]:
    asked = bound_list(store.driver.dialect, ids)
    rows = await transaction.fetch("dependencies.lock_dependents", tenant, asked)
    return [(row[0], DependencyPolicy(row[1])) for row in rows]


def _told(status: TaskStatus) -> str:
    return "been cancelled" if status is TaskStatus.CANCELLED else str(status)
