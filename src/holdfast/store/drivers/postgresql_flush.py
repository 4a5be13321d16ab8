"""How a journal batch is written on PostgreSQL: one autocommitted statement on a dedicated connection.

A batch travels as arrays of rows. When as many events were written as were sent, every entry was; only
otherwise a second statement looks at what became of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from holdfast.store.drivers.base import Answer, Batch, Reply, Write
from holdfast.store.drivers.postgresql_pooler import PooledSession
from holdfast.store.sql import Statements

_MICROSECOND = timedelta(microseconds=1)
_NO_TRANSITION = (None, None, None, None)
_NO_POST = (None, None, None, None, None)
_NO_DETAILS = (None, None, None, None, None)


class PostgresqlFlush:
    """Writes batches on one connection with its prepared statements."""

    def __init__(self, connection: asyncpg.Connection[Any] | PooledSession, statements: Statements) -> None:
        self.connection = connection
        self._sql = statements
        self._append: Any = None
        self._flush: Any = None

    async def prepare(self) -> None:
        """Prepare the two statements of the write path."""
        self._append = await self.connection.prepare(self._sql["journal.append"])
        self._flush = await self.connection.prepare(self._sql["journal.flush"])

    async def write(self, batch: Batch, timeout_s: float) -> list[Reply]:
        """Write `batch`; raises asyncpg's errors untranslated."""
        try:
            return await self._write(batch.writes, timeout_s, self._append, self._flush)
        except asyncpg.UniqueViolationError:
            # Something is recorded already: a batch that is sent again after a lost reply, most likely.
            append = await self.connection.prepare(_careful(self._sql["journal.append"]))
            flush = await self.connection.prepare(_careful(self._sql["journal.flush"]))
            return await self._write(batch.writes, timeout_s, append, flush)

    async def _write(self, writes: Sequence[Write], timeout_s: float, append: Any, flush: Any) -> list[Reply]:
        keys, epochs = _fence_columns(writes)
        events = [write.event for write in writes]
        if all(write.is_plain for write in writes):
            row = await append.fetchrow(keys, epochs, events, timeout=timeout_s)
        else:
            receivers = [write.post.target for write in writes if write.post is not None]
            creates = [write.create.row for write in writes if write.create is not None]
            effects = [_effect(write) for write in writes if not write.is_plain]
            freed = [
                write.event.execution
                for write in writes
                if write.transition is not None and write.transition.frees_slots
            ]
            row = await flush.fetchrow(
                keys, epochs, receivers, creates, events, effects, freed, timeout=timeout_s
            )
        written, woken_keys, woken_counts = row
        wakes = dict(zip(woken_keys, woken_counts, strict=True)) if woken_keys else {}
        if written == len(writes):
            if not wakes:
                return [_WRITTEN] * len(writes)
            return [Reply(Answer.WRITTEN, wakes.get(write.event.execution, 0)) for write in writes]
        return await self._examine(writes, timeout_s)

    async def _examine(self, writes: Sequence[Write], timeout_s: float) -> list[Reply]:
        columns = zip(*(_examined(write) for write in writes), strict=True)
        rows = await self.connection.fetch(self._sql["journal.examine"], *columns, timeout=timeout_s)
        return [_answer(write, *row) for write, row in zip(writes, rows, strict=True)]


def _careful(text: str) -> str:
    """The form of a flush that passes over events that stand already."""
    return text.replace("-- careful: ", "")


_WRITTEN = Reply(Answer.WRITTEN, 0)


def _fence_columns(writes: Sequence[Write]) -> tuple[list[bytes], list[int]]:
    held = {(write.event.execution, write.event.epoch) for write in writes if write.create is None}
    return [key for key, _ in held], [epoch for _, epoch in held]


def _effect(write: Write) -> tuple[Any, ...]:
    """What goes with an event, as a `flush_effect`."""
    event, transition, new = write.event, write.transition, write.create
    moved: tuple[Any, ...] = _NO_TRANSITION
    if transition is not None:
        due_in = transition.due_in
        due_in_us = None if due_in is None else round(due_in / _MICROSECOND)
        moved = (transition.status, transition.final, due_in_us, transition.expect_wakes)
    details: tuple[Any, ...] = _NO_DETAILS
    if new is not None and new.is_described:
        details = (
            json.dumps(new.tags), new.trigger_source, new.started_by, new.metadata, new.context,
        )  # fmt: skip
    digest = None if write.body is None else event.payload_ref
    post = write.post or _NO_POST
    return (event.execution, event.seq, *moved, write.take, *post, digest, write.body, *details)


def _examined(write: Write) -> tuple[Any, ...]:
    event, new, post = write.event, write.create, write.post
    return (
        event.execution, event.seq, event.epoch, event.path, event.generation, event.result,
        new.tenant_id if new else None, new.id if new else None, post.target if post else None,
        new.queue if new else None, new.dedupe_key if new else None,
    )  # fmt: skip


def _answer(
    write: Write, stands: bool, taken: bool, is_ours: bool, wakes: int | None, receiver_gone: bool
) -> Reply:
    """The answer to an entry from what `journal.examine` found, in order of certainty."""
    if stands:
        return Reply(Answer.WRITTEN, wakes)
    if not is_ours and write.create is None:
        # Whatever took its place is not ours: a new owner counts on from the same number.
        return Reply(Answer.FENCED, None)
    if taken:
        return Reply(Answer.RECORDED, wakes)
    expected = write.transition.expect_wakes if write.transition else None
    if expected is not None and wakes != expected:
        return Reply(Answer.WOKEN, wakes)
    if receiver_gone:
        # Nobody is left to hear the message; without it the entry can be written.
        write.post = None
    return Reply(Answer.BUSY, wakes)
