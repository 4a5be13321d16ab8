"""Running an ended execution again from where it failed, or from a step.

One transaction under the row's lock: the epoch rises, a `step.reset` event names what is taken back, and the
execution is ready again. Nothing is deleted: the old results stay in the log under their generation.
Children that failed or were cancelled go on under their own ids in the same transaction; with `from_step`,
the children of steps that are taken back start anew, under ids of that generation, since they may get other
inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from holdfast.errors import ConstraintViolated, WrongStatus
from holdfast.fleet import resets
from holdfast.fleet.control import Locked, ask, lock, lock_outside, write
from holdfast.fleet.resets import Log
from holdfast.fleet.starts import child_id
from holdfast.records.events import EventType
from holdfast.records.executions import Execution, ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Isolation, Transaction
from holdfast.store.query import bound_list
from holdfast.store.store import Store

_AGAIN = (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
_REPLACED = codec.encode({"reason": "its parent runs this step again"})


async def retry(store: Store, execution: Execution, *, from_step: str | None = None) -> list[str]:
    """Make a failed or cancelled execution ready again; the paths of the steps that will run again.

    Without `from_step` these are the steps that failed: see `resets` for what that means where the workflow
    caught a failure. With it, everything recorded from the first result of that step on. Raises
    `WrongStatus` for one that has not ended or has completed, and for a child, which goes on with its
    parent; `StepNotFound`.
    """

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> tuple[Locked, list[str]]:
        await lock_outside(transaction, execution.key)
        locked = await lock(transaction, execution.key)
        await _check(transaction, locked)
        return locked, await _again(store, transaction, locked, from_step)

    try:
        locked, paths = await run()
    except ConstraintViolated as error:
        raise WrongStatus(
            f"execution {execution.id} can not be retried: an unfinished one has its deduplication key",
            id=execution.id,
            fix="wait for that one, or cancel it",
        ) from error
    store.hints.ready(locked.queue)
    return paths


async def _check(transaction: Transaction, locked: Locked) -> None:
    if locked.status not in _AGAIN:
        has = "has completed" if locked.status.is_final else f"is {locked.status}"
        raise WrongStatus(
            f"execution {locked.id} {has}: only a failed or cancelled one can be retried",
            where=locked.id,
            fix=f"run it again from a step as a new execution: holdfast fork {locked.id} --at STEP"
            if locked.status.is_final
            else f"look at it: holdfast executions show {locked.id}",
            id=locked.id,
        )
    if locked.parent is not None and not locked.detached:
        rows = await transaction.fetch("executions.by_key", locked.parent)
        parent = rows[0][1] if rows else "gone"
        raise WrongStatus(
            f"execution {locked.id} is a child and goes on with its parent, {parent}",
            where=locked.id,
            fix=f"holdfast executions retry {parent}        or fork the child: holdfast fork {locked.id}",
            id=locked.id,
        )


async def _again(store: Store, transaction: Transaction, locked: Locked, from_step: str | None) -> list[str]:
    """Take back what has to be, for one locked execution and its children."""
    log = Log(await transaction.fetch("events.history", locked.key))
    if from_step is None:
        taken = resets.failed(log, await _caught(store, locked.definition))
    else:
        taken = resets.from_step(log, from_step)
    children = await _children(transaction, locked, log)
    recorded = {line.path for line in log.results()}
    renewed = set[str]()
    if from_step is not None:
        renewed = {path for path in children if path in taken or path not in recorded}
        taken |= renewed
    await transaction.fetch("control.reopen", locked.key)
    await transaction.fetch("control.forget_requests", locked.key)
    paths = sorted(taken)
    named = bound_list(store.driver.dialect, paths)
    await transaction.fetch("control.forget_approvals", locked.key, named)
    # Tasks are named by the generation of their step: those of steps that run again are called off, the
    # others are offered again by their steps.
    await transaction.fetch("control.withdraw_tasks_at", locked.key, named)
    await transaction.fetch("control.forget_answers", locked.key, named)
    value = {"paths": log.raised(paths), "renewed": sorted(renewed), "from": from_step}
    await write(transaction, locked, EventType.STEP_RESET, codec.encode(value, what="step.reset"))
    told = _told_ends(log, taken)
    for path, child in children.items():
        if path in renewed:
            if not child.status.is_final:
                await ask(transaction, child.key, "cancel", _REPLACED)
        elif path not in told:
            await _child_again(store, transaction, child)
    return paths


async def _child_again(store: Store, transaction: Transaction, child: _Child) -> None:
    """A child whose end the parent has not kept goes on under its own id, if it failed or was cancelled."""
    if child.status in _AGAIN:
        await lock_outside(transaction, child.key)
        await _again(store, transaction, await lock(transaction, child.key), None)
    elif not child.status.is_final:
        await transaction.fetch("control.forget_requests", child.key)  # what came with its parent's end


@dataclass(frozen=True, slots=True)
class _Child:
    key: ExecutionKey
    status: ExecutionStatus


async def _children(transaction: Transaction, locked: Locked, log: Log) -> dict[str, _Child]:
    """The children that count now and are not detached, by the path of the call that started them."""
    found: dict[str, _Child] = {}
    for key, id_, status, path, detached in await transaction.fetch("control.children", locked.key):
        if not detached and id_ == child_id(locked.id, path, log.renewed.get(path, 0)):
            found[path] = _Child(ExecutionKey(key), ExecutionStatus(status))
    return found


def _told_ends(log: Log, taken: Container[str]) -> set[str]:
    """The paths of children whose end the parent has recorded and keeps.

    A child that was started at one path and awaited at another is known by its input, which both record.
    """
    kept = [line for line in log.results() if line.path not in taken]
    ends = [line for line in kept if line.type in (EventType.CHILD_COMPLETED, EventType.CHILD_FAILED)]
    inputs = {line.digest for line in ends}
    return {line.path for line in ends} | {line.path for line in kept if line.digest in inputs}


async def _caught(store: Store, definition: bytes) -> Callable[[str], bool]:
    """Whether a step of a YAML definition goes on when it fails."""
    stored = await store.get_definition(definition)
    if stored is None or stored.kind != "yaml":
        return lambda _step: False
    from holdfast.workflows.definition import from_document

    going_on = {step.id for step in from_document(stored.document).steps if step.continue_on_error}
    return lambda step: step in going_on
