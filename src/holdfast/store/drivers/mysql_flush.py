"""How a journal batch is written on MySQL and MariaDB: two packets on a dedicated connection.

The first locks the rows and reads the fence, the second writes everything and commits. Events nearly always
go in as they are, many rows to a statement; when a unique index refuses one, all is rolled back and the same
batch is written entry by entry, each looked at first.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from asyncmy.errors import MySQLError

from holdfast.errors import TransactionConflict
from holdfast.store.drivers.base import Answer, Batch, Reply, Row, Transition, Write
from holdfast.store.drivers.mysql_connection import COMMIT, START, MysqlConnection
from holdfast.store.drivers.mysql_errors import DUPLICATE, number_of
from holdfast.store.drivers.mysql_text import Scripts, Step, rows_of

_MICROSECOND = timedelta(microseconds=1)
_WRITTEN = Reply(Answer.WRITTEN, 0)
_Fence = dict[bytes, tuple[int, int, str]]  # key -> epoch, wakes, tenant
_Verdict = tuple[Reply, str | None]  # the answer, and the tenant where there is something to write


class MysqlFlush:
    """Writes batches on one connection. `committing` says whether the last one may have been committed."""

    def __init__(self, connection: MysqlConnection, scripts: Scripts) -> None:
        self.connection = connection
        self.committing = False
        self._scripts = scripts
        self._timeout_s = 0.0
        text = scripts.named("journal.insert_event", connection.server.binary).steps[0]
        self._insert, self._values = _split_values(text)

    async def write(self, batch: Batch, timeout_s: float) -> list[Reply]:
        """Write `batch`; raises asyncmy's errors untranslated, and leaves no transaction open."""
        self._timeout_s, self.committing = timeout_s, False
        try:
            return await self._transact(batch.writes, self._write_all)
        except MySQLError as error:
            if number_of(error) != DUPLICATE:
                raise
        try:
            return await self._transact(batch.writes, self._write_each)
        except MySQLError as error:
            if number_of(error) == DUPLICATE:  # written elsewhere since it was looked at
                raise TransactionConflict("the batch collided with another one", where="journal") from error
            raise

    async def _transact(
        self,
        writes: Sequence[Write],
        write: Callable[[Sequence[Write], list[_Verdict]], Awaitable[list[Reply]]],
    ) -> list[Reply]:
        try:
            fence = await self._lock(writes)
            return await write(writes, await self._judge_all(writes, fence))
        except BaseException:
            # Also when the caller is cancelled: nothing of it may leak into the next batch.
            await self.connection.roll_back()
            raise

    async def _lock(self, writes: Sequence[Write]) -> _Fence:
        keys = {write.event.execution for write in writes if write.create is None}
        keys |= {write.post.target for write in writes if write.post is not None}
        statements = [START, self._text("journal.era")]
        if keys:
            statements.append(self._text("journal.fence", tuple(sorted(keys))))
        _, eras, *locked = await self._run(statements)
        if not eras:
            raise TransactionConflict("the era ended while the batch began", where="journal")
        return {row[0]: (row[1], row[2], row[3]) for rows in locked for row in rows}

    async def _judge_all(self, writes: Sequence[Write], fence: _Fence) -> list[_Verdict]:
        """The fence's verdicts. Whatever it refuses may have been written by an earlier try all the same."""
        verdicts = [_judge(write, fence) for write in writes]
        refused = [number for number, verdict in enumerate(verdicts) if verdict is None]
        if refused:
            left_out = await self._left_out(writes, fence)
            stands = await self._ask([_standing(writes[number]) for number in refused])
            for number, rows in zip(refused, stands, strict=True):
                verdicts[number] = (_refusal(writes[number], fence, left_out, bool(rows)), None)
        return [verdict for verdict in verdicts if verdict is not None]

    async def _left_out(self, writes: Sequence[Write], fence: _Fence) -> dict[bytes, tuple[int, int]]:
        keys = {write.event.execution for write in writes if write.create is None}
        keys |= {write.post.target for write in writes if write.post is not None}
        missing = tuple(sorted(keys - fence.keys()))
        if not missing:
            return {}
        (rows,) = await self._run([self._text("journal.left_out", missing)])
        return {row[0]: (row[1], row[2]) for row in rows}

    async def _write_all(self, writes: Sequence[Write], verdicts: list[_Verdict]) -> list[Reply]:
        """The hot path: assumes that nothing is recorded yet; a unique index says so if something is."""
        before, after = list[bytes](), list[bytes]()
        rows = list[bytes]()
        for write, (_, tenant) in zip(writes, verdicts, strict=True):
            if tenant is not None:
                rows.append(self._values.render((*write.event, tenant)))
                if not write.is_plain:
                    before += self._before_event(write, tenant)
                    after += self._after_event(write, tenant)
        inserts = [self._insert + part for part in rows_of(rows)]
        await self._commit([*before, *inserts, *after])
        return [reply for reply, _ in verdicts]

    async def _write_each(self, writes: Sequence[Write], verdicts: list[_Verdict]) -> list[Reply]:
        """The careful path: looks before it writes. The rows are locked, so what it sees stays true."""
        replies = []
        for write, (reply, tenant) in zip(writes, verdicts, strict=True):
            if tenant is not None:
                stands, recorded = await self._ask([_standing(write), _recorded(write)])
                if recorded and not stands:
                    reply = Reply(Answer.RECORDED, reply.wakes)
                elif not stands:
                    rows = rows_of([self._values.render((*write.event, tenant))])
                    before, after = self._before_event(write, tenant), self._after_event(write, tenant)
                    await self._run([*before, *(self._insert + part for part in rows), *after])
            replies.append(reply)
        await self._commit([])
        return replies

    async def _commit(self, statements: list[bytes]) -> None:
        self.committing = True
        await self._run([*statements, COMMIT])

    async def _ask(self, questions: Sequence[tuple[str, tuple[Any, ...]]]) -> list[list[Row]]:
        return await self._run([self._text(name, *args) for name, args in questions])

    async def _run(self, statements: Sequence[bytes]) -> list[list[Row]]:
        return await self.connection.run(statements, self._timeout_s)

    def _text(self, name: str, *args: Any) -> bytes:
        return self._scripts.named(name, self.connection.server.binary).steps[0].render(args)

    def _before_event(self, write: Write, tenant: str) -> list[bytes]:
        found = []
        if (new := write.create) is not None:
            found.append(self._text("journal.insert_execution", *new.row))
            if new.is_described:
                tags = json.dumps(list(new.tags), ensure_ascii=False)
                details = (
                    new.key, new.tenant_id, tags, new.trigger_source, new.started_by, new.metadata,
                    new.context,
                )  # fmt: skip
                found.append(self._text("journal.insert_details", *details))
        if write.body is not None:
            event = write.event
            found.append(
                self._text("journal.insert_payload", event.execution, event.payload_ref, tenant, write.body)
            )
        return found

    def _after_event(self, write: Write, tenant: str) -> list[bytes]:
        found = []
        key = write.event.execution
        if (transition := write.transition) is not None:
            found.append(self._text("journal.transition", *_transition_values(key, transition)))
            if transition.frees_slots and transition.status != "running":
                found.append(self._text("journal.free_slots", key))
        if write.take is not None:
            found.append(self._text("journal.take_message", key, write.take))
        if (post := write.post) is not None:
            message = (post.target, post.message, tenant, post.kind, post.name, post.payload)
            found.append(self._text("journal.insert_message", *message))
            found.append(self._text("journal.wake", post.target))
        return found


def _split_values(insert: Step) -> tuple[bytes, Step]:
    """An INSERT as the text up to its row, and what stands between the row's brackets."""
    first, *between, last = insert.pieces
    head, _, opening = bytes(first).rpartition(b"VALUES")
    inside = (opening.strip().removeprefix(b"("), *between, bytes(last).strip().removesuffix(b")"))
    return head + b"VALUES ", Step(inside)


def _judge(write: Write, fence: _Fence) -> _Verdict | None:
    """That an entry may be written, and its tenant; None where the fence stands against it."""
    if write.post is not None and write.post.target not in fence:
        return None
    if write.create is not None:
        return _WRITTEN, write.create.tenant_id
    held = fence.get(write.event.execution)
    if held is None or held[0] != write.event.epoch:
        return None
    transition = write.transition
    if transition is not None and transition.expect_wakes not in (None, held[1]):
        return None
    return Reply(Answer.WRITTEN, held[1]), held[2]


def _refusal(write: Write, fence: _Fence, left_out: dict[bytes, tuple[int, int]], stands: bool) -> Reply:
    """The answer to an entry that is not written now, in order of certainty."""
    key, epoch = write.event.execution, write.event.epoch
    locked = fence.get(key)
    seen = (locked[0], locked[1]) if locked is not None else left_out.get(key)
    wakes = seen[1] if seen else None
    if stands:
        return Reply(Answer.WRITTEN, wakes)
    if write.create is None and (seen is None or seen[0] != epoch):
        return Reply(Answer.FENCED, None)
    expected = write.transition.expect_wakes if write.transition else None
    if locked is not None and expected not in (None, wakes):
        return Reply(Answer.WOKEN, wakes)
    if write.post is not None and write.post.target not in fence and write.post.target not in left_out:
        # Nobody is left to hear the message; without it the entry can be written.
        write.post = None
    return Reply(Answer.BUSY, wakes)


def _standing(write: Write) -> tuple[str, tuple[Any, ...]]:
    """What asks whether an earlier try, whose reply was lost, wrote this entry."""
    event = write.event
    return "journal.stands", (event.execution, event.seq, event.epoch)


def _recorded(write: Write) -> tuple[str, tuple[Any, ...]]:
    """What asks whether an entry's place is taken."""
    event, new = write.event, write.create
    if new is not None:
        return "journal.id_taken", (new.tenant_id, new.id, new.key, new.queue, new.dedupe_key)
    return "journal.recorded", (event.execution, event.seq, event.path, event.generation, event.result)


def _transition_values(key: bytes, transition: Transition) -> tuple[Any, ...]:
    due_in = transition.due_in
    due_in_us = None if due_in is None else round(due_in / _MICROSECOND)
    return (transition.status, due_in_us, transition.final, key)
