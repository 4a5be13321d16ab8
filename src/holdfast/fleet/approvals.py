"""Approvals: decisions that an execution asks people for.

The row is made fenced by the execution's epoch, and its lock decides who comes first: somebody who decides,
the deadline, or the end of the execution. A decision, the message that tells the step, and its wake-up are
one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from holdfast.errors import AlreadyDecided, ApprovalIdTaken, ApprovalNotFound, InvalidArgument
from holdfast.fleet.ownership import hold
from holdfast.records.executions import ExecutionKey
from holdfast.store import codec
from holdfast.store.drivers.base import Isolation, Row, Transaction
from holdfast.store.entries import Holding
from holdfast.store.rows import microseconds, moment
from holdfast.store.store import Store
from holdfast.workflows.forms import check_answer

LISTED_MAX = 1_000
COMMENT_CHARACTERS_MAX = 4_000
BY_CHARACTERS_MAX = 255


class ApprovalStatus(StrEnum):
    """Where an approval stands. All but the first are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"  # nobody decided in time
    WITHDRAWN = "withdrawn"  # its execution has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRecord:
    """An approval as the store has it. `answer` is what was filled into `form`, a JSON Schema."""

    id: str
    execution: str
    path: str
    title: str
    form: dict[str, Any] | None
    status: ApprovalStatus
    deadline: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    answer: Any
    comment: str | None
    created_at: datetime


async def decide(
    store: Store,
    id: str,
    *,
    approved: bool,
    by: str | None = None,
    answer: Any = None,
    comment: str | None = None,
) -> ApprovalRecord:
    """Approve or reject; on disk, with the message that wakes the execution, when this returns.

    Raises `ApprovalNotFound`; `AlreadyDecided` when somebody else, the deadline (by the database's clock) or
    the end of the execution came first; `InvalidAnswer` when an approval's answer does not fit its form.
    """
    _check_texts(by, comment)

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> None:
        rows = await transaction.fetch("approvals.lock", store.tenant, id)
        if not rows:
            raise _unknown(id)
        key, path, status, form, decided_by, is_late = rows[0]
        filled = answer
        _refuse_decided(id, status, decided_by, late=bool(is_late))
        if approved:
            asked = None if form is None else codec.decode(form, what="form")
            filled = {} if answer is None and asked is not None else answer
            check_answer(asked, filled, id)
        said = codec.encode({"answer": filled, "comment": comment}, what="answer")
        closed = ApprovalStatus.APPROVED if approved else ApprovalStatus.REJECTED
        rows = await transaction.fetch("approvals.close", store.tenant, id, closed, by, said)
        at = moment(rows[0][0]).astimezone(UTC).isoformat().replace("+00:00", "Z")
        told = {"approved": approved, "by": by, "at": at, "answer": filled, "comment": comment}
        if not await transaction.fetch("executions.wake", ExecutionKey(key)):
            raise _withdrawn(id)
        await transaction.fetch(
            "inbox.post", ExecutionKey(key), _message(id), "signal", path, codec.encode(told, what="answer")
        )

    await run()
    store.hints.message()
    return await get(store, id)


def _check_texts(by: str | None, comment: str | None) -> None:
    for what, text, most in (("by", by, BY_CHARACTERS_MAX), ("comment", comment, COMMENT_CHARACTERS_MAX)):
        if text is not None and (len(text) > most or "\0" in text):
            raise InvalidArgument(f"{what} is longer than {most} characters, or has a NUL in it")


def _refuse_decided(id: str, status: str, by: str | None, *, late: bool) -> None:
    if status in (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED):
        who = f" by {by}" if by else ""
        raise AlreadyDecided(f"approval {id} was {status}{who} already", where=id, status=status, by=by)
    if status == ApprovalStatus.WITHDRAWN:
        raise _withdrawn(id)
    if late or status == ApprovalStatus.EXPIRED:
        raise AlreadyDecided(f"the deadline of approval {id} has passed", where=id, status="expired")


def _withdrawn(id: str) -> AlreadyDecided:
    return AlreadyDecided(
        f"approval {id} was withdrawn: its execution has ended", where=id, status="withdrawn"
    )


def _unknown(id: str) -> ApprovalNotFound:
    return ApprovalNotFound(f"there is no approval {id!r}", id=id)


def _message(id: str) -> bytes:
    """Telling a decision twice is telling it once."""
    return codec.digest(b"approval\0" + id.encode())[:16]


async def get(store: Store, id: str) -> ApprovalRecord:
    """One approval; `ApprovalNotFound`."""
    rows = await store.driver.fetch("approvals.get", store.tenant, id)
    if not rows:
        raise _unknown(id)
    return _record(rows[0])


async def listed(
    store: Store, *, everything: bool = False, limit: int = LISTED_MAX
) -> Sequence[ApprovalRecord]:
    """The pending approvals, the longest pending first; or all, the newest first."""
    statement = "approvals.all" if everything else "approvals.pending"
    return [_record(row) for row in await store.driver.fetch(statement, store.tenant, limit)]


def _record(row: Row) -> ApprovalRecord:
    id_, execution, path, title, form, status, deadline, by, at, answer, created = row
    said = {} if answer is None else codec.decode(answer, what=f"answer of {id_}")
    return ApprovalRecord(
        id=id_,
        execution=execution,
        path=path,
        title=title,
        form=None if form is None else codec.decode(form, what=f"form of {id_}"),
        status=ApprovalStatus(status),
        deadline=moment(deadline),
        decided_by=by,
        decided_at=moment(at),
        answer=said.get("answer"),
        comment=said.get("comment"),
        created_at=moment(created),
    )


# The asking side.


async def ask(
    store: Store,
    holding: Holding,
    path: str,
    id: str,
    title: str,
    form: dict[str, Any] | None,
    deadline: datetime | None,
) -> None:
    """See `Outside.ask_for_approval`. Raises `ApprovalIdTaken` when the id stands for another step."""
    due_us = None if deadline is None else microseconds(deadline)
    encoded = None if form is None else codec.encode(form, what="form")

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> None:
        await transaction.fetch(
            "approvals.ask", holding.tenant, id, holding.key, path, title, encoded, due_us
        )
        rows = await transaction.fetch("approvals.lock", holding.tenant, id)
        if bytes(rows[0][0]) != bytes(holding.key) or rows[0][1] != path:
            raise ApprovalIdTaken(f"approval {id!r} belongs to another step", where=id, id=id)
        await hold(transaction, holding)

    await run()


async def expire(store: Store, holding: Holding, id: str) -> bool:
    """See `Outside.expire_approval`."""

    @store.transactional(isolation=Isolation.READ_COMMITTED)
    async def run(transaction: Transaction) -> bool:
        rows = await transaction.fetch("approvals.lock", holding.tenant, id)
        await hold(transaction, holding)
        if rows and rows[0][2] in (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED):
            return False
        await transaction.fetch("approvals.close", holding.tenant, id, ApprovalStatus.EXPIRED, None, None)
        return True

    return await run()
