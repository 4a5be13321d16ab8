"""Ending sessions of a user from inside a transaction: what a new password and a deletion have in common."""

from __future__ import annotations

from holdfast.domain.clock import present
from holdfast.records.declare import table_of
from holdfast.records.identity import Session, Termination
from holdfast.store.drivers.base import Transaction
from holdfast.store.filters import Condition, Query
from holdfast.store.store import Store


async def end_sessions_of(
    store: Store, transaction: Transaction, user_id: str, reason: Termination, *, keep: str | None = None
) -> int:
    """End the open sessions of a user but the one with the id `keep`; how many there were."""
    column = table_of(Session).column
    conditions = [Condition(column("user_id"), "=", user_id), Condition(column("terminated_at"), "unset")]
    if keep is not None:
        conditions.append(Condition(column("id"), "<>", keep))
    now = await present(transaction)
    sessions = store.repo(Session, within=transaction)
    return await sessions.update_many(Query(tuple(conditions)), terminated_at=now, termination=reason)
