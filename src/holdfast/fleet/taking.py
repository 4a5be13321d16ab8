"""Taking an execution up: what an earlier owner wrote is read, and that it changed hands is noted."""

from __future__ import annotations

from holdfast.errors import TooManyRecoveries
from holdfast.fleet.ownership import Claim
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Post, Transition
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from holdfast.workflows.driving import Parent
from holdfast.workflows.failures import describe
from holdfast.workflows.replay import History

MAX_RECOVERIES = 10
"""Takeovers without a new result, after which an execution ends as failed: it kills its processes."""


async def take_up(store: Store, taken: Claim, parent: Parent | None) -> History:
    """Read the log of an execution that was just claimed, and note who had it.

    Raises `TooManyRecoveries` after ending it as failed.
    """
    holding = taken.holding
    # A new statement after the commit of the takeover: it sees all that the old owner wrote.
    history = History.read(await store.driver.fetch("events.history", holding.key))
    holding.next_seq = history.last_seq + 1
    kind = EventType.LEASE_TAKEN if taken.taken_from else EventType.EXECUTION_RESUMED
    why = {"from": taken.taken_from.hex(), "recoveries": taken.recoveries} if taken.taken_from else {}
    note(store, holding, kind, why)
    if taken.recoveries > MAX_RECOVERIES:
        raise await dead_letter(store, holding, taken.recoveries, parent)
    return history


def note(store: Store, holding: Holding, kind: EventType, why: dict[str, object]) -> None:
    """Write with the next flush that an execution changed hands."""
    placed = store.journal.place_small(codec.encode(why))
    store.journal.append_soon(Entry(holding, kind, payload=placed))


async def dead_letter(
    store: Store, holding: Holding, recoveries: int, parent: Parent | None
) -> TooManyRecoveries:
    """End an execution as failed because its owners keep dying; the error that says so."""
    error = TooManyRecoveries(
        f"execution {holding.id} was taken over {recoveries} times without a new result", id=holding.id
    )
    placed = await store.journal.place(holding, codec.encode(describe(error)))
    await store.journal.append(
        Entry(
            holding,
            EventType.EXECUTION_FAILED,
            payload=placed,
            transition=Transition(ExecutionStatus.FAILED, final=True),
            post=Post(parent.key, bytes(holding.key), "child", parent.path, None) if parent else None,
        )
    )
    return error
