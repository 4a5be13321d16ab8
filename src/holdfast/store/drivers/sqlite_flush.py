"""How a journal batch is written on SQLite: one `BEGIN IMMEDIATE` … `COMMIT` in the writer's thread.

`BEGIN IMMEDIATE` is the lock that the fence needs, since it excludes every other writer. The common batch
meets no surprise and is written with a handful of calls: rows go in by the dozen per statement, because each
call into SQLite gives the interpreter lock away and a busy event loop is slow to give it back. When a unique
index refuses, everything is rolled back and the same batch is written entry by entry, each checked first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import apsw

from holdfast.errors import InvalidData, UnknownOutcome
from holdfast.store.drivers.base import Answer, Batch, Post, Reply, Transition, Write
from holdfast.store.drivers.sqlite_errors import is_deadly, primary_code, translate
from holdfast.store.drivers.sqlite_threads import ConnectionDead
from holdfast.store.sql import Statements

_CHUNKS = (64, 16, 4, 1)
_UNBINDABLE = (UnicodeError, OverflowError)  # lone surrogates, integers over 64 bits: SQLite never saw them
_FENCE_KEYS = (1, 8, 64, 512)
_WRITTEN = Reply(Answer.WRITTEN, 0)
_Fence = dict[bytes, tuple[int, int, str]]  # key -> epoch, wakes, tenant


class SqliteFlush:
    """Writes batches on the writer's connection; used by that one thread only."""

    def __init__(self, statements: Statements, clock: Callable[[], int]) -> None:
        self._sql = statements
        self._clock = clock
        insert = statements["journal.insert_event"]
        head, _, row = insert.rpartition("VALUES")
        self._inserts = {size: f"{head}VALUES {', '.join([row.strip()] * size)}" for size in _CHUNKS}
        fence = statements["journal.fence"]
        self._fences = {size: fence.replace("(?)", f"({', '.join('?' * size)})") for size in _FENCE_KEYS}

    def write(self, connection: apsw.Connection, batch: Batch) -> list[Reply]:
        """Write `batch` and return its answers; the connection is never left inside a transaction."""
        try:
            return self._transact(connection, batch, self._write_all)
        except apsw.ConstraintError:
            pass
        except (apsw.Error, *_UNBINDABLE) as error:
            raise self._failure(error, "journal flush") from error
        try:
            return self._transact(connection, batch, self._write_each)
        except (apsw.Error, *_UNBINDABLE) as error:
            raise self._failure(error, "journal flush") from error

    @staticmethod
    def _failure(error: Exception, where: str) -> Exception:
        if not isinstance(error, apsw.Error):
            return InvalidData(f"a value can not be stored ({type(error).__name__})", where=where)
        translated = translate(error, where)
        translated.__cause__ = error
        if not is_deadly(error):
            return translated
        # The sync failed, or the reply of one: whether the batch is on disk is unknown until it is read.
        if primary_code(error) == apsw.SQLITE_IOERR:
            unknown = UnknownOutcome("the disk reported an error while a batch was written", where=where)
            unknown.__cause__ = error
            return ConnectionDead(unknown)
        return ConnectionDead(translated)

    def _transact(
        self,
        connection: apsw.Connection,
        batch: Batch,
        write: Callable[[apsw.Connection, Batch, int], list[Reply]],
    ) -> list[Reply]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            replies = write(connection, batch, self._clock())
            connection.execute("COMMIT")
        except BaseException:
            # Some errors roll back by themselves; what is left open must not leak into the next batch.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return replies

    def _write_all(self, connection: apsw.Connection, batch: Batch, now: int) -> list[Reply]:
        """The hot path: assumes that nothing is recorded yet; a unique index says so if something is."""
        fence = self._read_fence(connection, batch)
        replies: list[Reply] = []
        rows: list[tuple[Any, ...]] = []
        written: list[tuple[Write, str]] = []
        for write in batch.writes:
            reply, tenant = _judge(write, fence)
            if reply.answer is not Answer.WRITTEN and self._stands(connection, write):
                replies.append(Reply(Answer.WRITTEN, reply.wakes))
                continue
            replies.append(reply)
            if reply.answer is Answer.WRITTEN:
                rows.append((*write.event, tenant, now))
                if not write.is_plain:
                    written.append((write, tenant))
        for write, tenant in written:
            self._before_event(connection, write, tenant, now)
        self._insert_events(connection, rows)
        for write, tenant in written:
            self._after_event(connection, write, tenant, now)
        return replies

    def _write_each(self, connection: apsw.Connection, batch: Batch, now: int) -> list[Reply]:
        """The careful path: looks before it writes. The lock is held, so what it sees stays true."""
        fence = self._read_fence(connection, batch)
        replies: list[Reply] = []
        for write in batch.writes:
            reply, tenant = _judge(write, fence)
            if self._stands(connection, write):
                replies.append(Reply(Answer.WRITTEN, reply.wakes))
                continue
            if reply.answer is Answer.WRITTEN and self._is_recorded(connection, write):
                reply = Reply(Answer.RECORDED, reply.wakes)
            if reply.answer is Answer.WRITTEN:
                self._before_event(connection, write, tenant, now)
                self._insert_events(connection, [(*write.event, tenant, now)])
                self._after_event(connection, write, tenant, now)
            replies.append(reply)
        return replies

    def _read_fence(self, connection: apsw.Connection, batch: Batch) -> _Fence:
        keys: list[bytes] = [
            *{write.event.execution for write in batch.writes if write.create is None},
            *(write.post.target for write in batch.writes if write.post is not None),
        ]
        fence: _Fence = {}
        for start in range(0, len(keys), _FENCE_KEYS[-1]):
            part = keys[start : start + _FENCE_KEYS[-1]]
            size = next(size for size in _FENCE_KEYS if size >= len(part))
            # Filled up with NULL, which no key equals: one statement, of few kinds.
            padded = (*part, *(None,) * (size - len(part)))
            for key, epoch, wakes, tenant in connection.execute(self._fences[size], padded):
                fence[key] = (epoch, wakes, tenant)
        return fence

    def _insert_events(self, connection: apsw.Connection, rows: list[tuple[Any, ...]]) -> None:
        for size, part in _in_chunks(rows):
            connection.execute(self._inserts[size], tuple(chain.from_iterable(part)))

    def _stands(self, connection: apsw.Connection, write: Write) -> bool:
        """Whether an earlier try, whose reply was lost, wrote this entry; before any other verdict."""
        event = write.event
        found = connection.execute(self._sql["journal.stands"], (event.execution, event.seq, event.epoch))
        return found.fetchone() is not None

    def _is_recorded(self, connection: apsw.Connection, write: Write) -> bool:
        event, new = write.event, write.create
        if new is not None:
            taken = connection.execute(
                self._sql["journal.id_taken"], (new.tenant_id, new.id, new.key, new.queue, new.dedupe_key)
            )
            return taken.fetchone() is not None
        found = connection.execute(
            self._sql["journal.recorded"],
            (event.execution, event.seq, event.path, event.generation, event.result),
        )
        return found.fetchone() is not None

    def _before_event(self, connection: apsw.Connection, write: Write, tenant: str, now: int) -> None:
        if (new := write.create) is not None:
            connection.execute(self._sql["journal.insert_execution"], (*new.row, now))
            if new.is_described:
                details = (
                    new.key, new.tenant_id, _json_list(new.tags), new.trigger_source, new.started_by,
                    new.metadata, new.context,
                )  # fmt: skip
                connection.execute(self._sql["journal.insert_details"], details)
        if write.body is not None:
            event = write.event
            connection.execute(
                self._sql["journal.insert_payload"], (event.execution, event.payload_ref, tenant, write.body)
            )

    def _after_event(self, connection: apsw.Connection, write: Write, tenant: str, now: int) -> None:
        key = write.event.execution
        if write.transition is not None:
            connection.execute(
                self._sql["journal.transition"], _transition_values(key, write.transition, now)
            )
            if write.transition.frees_slots and write.transition.status != "running":
                connection.execute(self._sql["journal.free_slots"], (key,))
        if write.take is not None:
            connection.execute(self._sql["journal.take_message"], (key, write.take))
        if write.post is not None:
            self._post(connection, write.post, tenant, now)

    def _post(self, connection: apsw.Connection, post: Post, tenant: str, now: int) -> None:
        values = (post.target, post.message, tenant, post.kind, post.name, post.payload, now)
        connection.execute(self._sql["journal.insert_message"], values)
        connection.execute(self._sql["journal.wake"], (post.target,))


def _judge(write: Write, fence: _Fence) -> tuple[Reply, str]:
    """The fence's verdict on one entry, and the tenant of its execution."""
    if write.create is not None:
        return Reply(Answer.WRITTEN, 0), write.create.tenant_id
    held = fence.get(write.event.execution)
    if held is None or held[0] != write.event.epoch:
        return Reply(Answer.FENCED, None), ""
    transition = write.transition
    if transition is not None and transition.expect_wakes not in (None, held[1]):
        return Reply(Answer.WOKEN, held[1]), held[2]
    return Reply(Answer.WRITTEN, held[1]), held[2]


def _transition_values(key: bytes, transition: Transition, now: int) -> tuple[Any, ...]:
    due_in = transition.due_in
    due_at = None if due_in is None else now + round(due_in.total_seconds() * 1_000_000)
    return (transition.status, due_at, now if transition.final else None, key)


def _json_list(values: Sequence[str]) -> str:
    import json

    return json.dumps(list(values), ensure_ascii=False)


def _in_chunks(items: list[Any]) -> Iterator[tuple[int, list[Any]]]:
    """`items` in runs of a few fixed sizes, so that few distinct statements are ever prepared."""
    position = 0
    for size in _CHUNKS:
        while len(items) - position >= size:
            yield size, items[position : position + size]
            position += size
