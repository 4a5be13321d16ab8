"""What two connections can do to each other, made to happen on purpose, on each store that two can share.

Every case comes with a twin that takes away the lock or the counter which protects it, and shows that the
damage is real: a proof that can not fail proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from holdfast.errors import IdTaken, LeaseLost, RetryLater, UnknownOutcome
from holdfast.fleet.cancelling import post
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers import mysql_flush, sqlite_flush
from holdfast.store.drivers.base import Answer, Batch, Post, Reply
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from tests.conformance.hands import (
    DEAD,
    GATE_PATH,
    bare,
    begin,
    beside,
    blocked,
    ending,
    gate,
    hand,
    is_mysql,
    is_postgresql,
    is_sqlite,
    journal_over,
    log_of,
    new_entry,
    plant,
    result,
    row_of,
    rows,
    suspending,
    take_over,
    until,
    waiters,
)

pytestmark = pytest.mark.anyio

ROW_LOCK = "FOR NO KEY UPDATE OF e SKIP LOCKED"
EPOCH_OF_ROW = " AND e.epoch = asked.epoch"


def flush_module(store: Store) -> Any:
    """The module whose `_judge` compares an entry with the fence; PostgreSQL does that in its statement."""
    return sqlite_flush if is_sqlite(store) else mysql_flush


def without_transaction(store: Store) -> None:
    """SQLite's planted defect: every write of a flush commits by itself."""
    flush: Any = store.driver._flush  # type: ignore[attr-defined]

    def write_loosely(connection: apsw.Connection, batch: Batch, write: Any) -> list[Reply]:
        replies: list[Reply] = write(connection, batch, flush._clock())
        return replies

    flush._transact = write_loosely


def without_row_lock(store: Store) -> None:
    """The fence only compares: what the comparison saw can change before the write."""
    if is_sqlite(store):
        without_transaction(store)
    elif is_mysql(store):
        plant(store, "journal.fence", "FOR UPDATE SKIP LOCKED", "")
    else:
        plant(store, "journal.append", ROW_LOCK, "")
        plant(store, "journal.flush", ROW_LOCK, "")


def without_epoch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fence locks, and forgets to compare."""
    if not is_postgresql(store):
        module = flush_module(store)
        judge = module._judge

        def lenient(write: Any, fence: Any) -> Any:
            held = fence.get(write.event.execution)
            if held is None:
                return judge(write, fence)
            return judge(write, {write.event.execution: (write.event.epoch, *held[1:])})

        monkeypatch.setattr(module, "_judge", lenient)
    else:
        for statement in ("journal.append", "journal.flush"):
            plant(store, statement, EPOCH_OF_ROW, "")
        plant(store, "journal.examine", "e.epoch IS NOT NULL AND e.epoch = v.epoch", "e.epoch IS NOT NULL")
        plant(store, "journal.append", " AND fence.epoch = v.epoch", "")
        plant(store, "journal.flush", " AND held.epoch = v.epoch", "")


async def end_of(task: asyncio.Future[Any]) -> Any:
    async with asyncio.timeout(10):
        return await task


# Takeover between two writes of a flush.


async def take_over_in_the_middle(mine: Store, theirs: Store) -> tuple[bool, Any, Holding]:
    """An execution ends while somebody takes it, the takeover arriving between event and status.

    Returns whether the takeover had to wait, its outcome, and the first owner's holding.
    """
    holding = await begin(mine)
    async with gate(mine) as stop:
        end = mine.journal.append(ending(holding, GATE_PATH))
        await stop.reached()
        taking = asyncio.ensure_future(take_over(theirs, holding.key))
        had_to_wait = await blocked(theirs, taking)
        if not had_to_wait:
            await end_of(taking)
        stop.release()
        outcome = (await asyncio.gather(end, taking, return_exceptions=True))[1]
    return had_to_wait, outcome, holding


async def test_takeover_comes_before_or_after_a_flush_never_between_its_writes(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        had_to_wait, outcome, holding = await take_over_in_the_middle(mine, theirs)
        assert had_to_wait
        assert "has completed" in str(outcome)  # it came after the whole flush and found the end
        row = await row_of(theirs, holding.key)
        assert (row.status, row.epoch) == (ExecutionStatus.COMPLETED, 1)
        assert [event[1] for event in await log_of(theirs, holding.key)][-1] == "execution.completed"


async def test_without_the_lock_a_takeover_falls_between_the_writes(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        without_row_lock(mine)
        had_to_wait, outcome, holding = await take_over_in_the_middle(mine, theirs)
        assert not had_to_wait
        assert outcome.holding.epoch == 2
        # The old owner's epoch stands in the log behind a takeover that never saw it.
        assert (await log_of(theirs, holding.key))[-1] == (2, "execution.completed", GATE_PATH, 1)
        assert (await row_of(theirs, holding.key)).epoch == 2


# Takeover while a flush waits.


@contextlib.asynccontextmanager
async def takeover_in_progress(store: Store, key: ExecutionKey) -> Any:
    """A takeover that has raised the epoch and not committed; leaving the block commits it."""
    async with store.transaction() as transaction:
        await transaction.fetch("executions.lock", key)
        yield await transaction.fetch("executions.take", key, b"\xee" * 16, 1, 1)


async def write_during_takeover(
    mine: Store, theirs: Store, holding: Holding
) -> tuple[Answer | BaseException, int]:
    """Append while a takeover holds the row; how it was answered, and how many tries found the row locked."""
    tries = 0

    async def counting(flush: Callable[[Batch], Awaitable[list[Reply]]], batch: Batch) -> list[Reply]:
        nonlocal tries
        if is_sqlite(mine):
            tries += 1  # from here on it waits for BEGIN IMMEDIATE
        replies = await flush(batch)
        tries += sum(reply.answer is Answer.BUSY for reply in replies)
        return replies

    async with journal_over(mine, counting) as journal:
        async with takeover_in_progress(theirs, holding.key):
            entry = journal.append(result(holding, "a"))

            async def tried() -> bool:
                return tries > 0 or entry.done()

            await until(tried, "the flush never came to the locked row")
            assert is_sqlite(mine) or not entry.done() or entry.exception() is None
        answer = (await asyncio.gather(entry, return_exceptions=True))[0]
    return answer, tries


async def test_flush_that_waited_for_a_takeover_is_fenced(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        answer, tries = await write_during_takeover(mine, theirs, holding)
        assert tries
        assert isinstance(answer, LeaseLost)
        assert isinstance(holding.lost, LeaseLost)
        assert [event[1] for event in await log_of(theirs, holding.key)] == ["execution.started"]


async def test_without_the_epoch_the_old_owner_writes_after_the_takeover(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        without_epoch(mine, monkeypatch)
        holding = await begin(mine)
        answer, _tries = await write_during_takeover(mine, theirs, holding)
        assert answer is Answer.WRITTEN
        assert (await row_of(theirs, holding.key)).epoch == 2
        assert (await log_of(theirs, holding.key))[-1] == (2, "step.completed", "a", 1)


@pytest.mark.parametrize("late", ["event", "result", "end"])
async def test_an_old_owner_is_fenced_although_its_number_is_taken(shared_url: str, late: str) -> None:
    """The new owner writes under the number that the old one would use next; that is not its own write."""
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        taken = (await take_over(theirs, holding.key)).holding
        taken.next_seq = holding.next_seq
        assert await theirs.journal.append(result(taken, "a", "theirs")) is Answer.WRITTEN
        entry = {
            "event": Entry(holding, EventType.STEP_STARTED, "b"),
            "result": result(holding, "a", "mine"),
            "end": ending(holding),
        }[late]
        with pytest.raises(LeaseLost):
            await mine.journal.append(entry)
        assert len(await log_of(theirs, holding.key)) == 2


# History read beside an open flush.


async def test_history_read_after_a_takeover_has_everything_acknowledged(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        async with gate(mine) as stop:
            entry = mine.journal.append(result(holding, GATE_PATH))
            await stop.reached()
            assert not entry.done()
            assert len(await log_of(theirs, holding.key)) == 1  # not committed, not seen, not acknowledged
            taking = asyncio.ensure_future(take_over(theirs, holding.key))
            assert await blocked(theirs, taking)
            stop.release()
            assert await end_of(entry) is Answer.WRITTEN
            taken = await end_of(taking)
        log = await log_of(theirs, holding.key)
        assert [(event[0], event[2]) for event in log] == [(1, None), (2, GATE_PATH)]
        assert taken.holding.epoch == 2


async def test_history_read_in_the_takeovers_own_statement_misses_the_flush(fresh_postgres: str) -> None:
    async with hand(fresh_postgres) as mine, hand(fresh_postgres) as theirs:
        holding = await begin(mine)
        connection = await beside(theirs)
        both = (
            "WITH taken AS (UPDATE holdfast.executions SET epoch = epoch + 1 WHERE key = $1 RETURNING epoch) "
            "SELECT (SELECT epoch FROM taken), "
            "(SELECT count(*) FROM holdfast.events WHERE execution = $1 AND path IS NOT NULL)"
        )
        async with gate(mine) as stop:
            entry = mine.journal.append(result(holding, GATE_PATH))
            await stop.reached()
            taking = asyncio.ensure_future(connection.fetchrow(both, holding.key))
            assert await blocked(theirs, taking)
            stop.release()
            assert await end_of(entry) is Answer.WRITTEN
            assert tuple(await end_of(taking)) == (2, 0)  # taken, and blind to what was acknowledged before
        await connection.close(timeout=5)


async def test_history_read_under_repeatable_read_misses_the_flush(made_mysql: str) -> None:
    """The servers' own default: the takeover goes through, and what was acknowledged before is not seen."""
    async with hand(made_mysql) as mine, hand(made_mysql) as theirs:
        holding = await begin(mine)
        connection = await beside(theirs)
        count = "SELECT count(*) FROM events WHERE path IS NOT NULL"
        async with gate(mine) as stop:
            entry = mine.journal.append(result(holding, GATE_PATH))
            await stop.reached()
            await connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await connection.execute("START TRANSACTION")
            assert await connection.fetchval(count) == 0
            taking = asyncio.ensure_future(connection.execute("UPDATE executions SET epoch = epoch + 1"))
            assert await blocked(theirs, taking)
            stop.release()
            assert await end_of(entry) is Answer.WRITTEN
            await end_of(taking)
            assert await connection.fetchval("SELECT epoch FROM executions") == 2
            assert await connection.fetchval(count) == 0  # taken, and blind
        await connection.execute("ROLLBACK")
        # The store's own transactions see it.
        async with theirs.transaction() as transaction:
            await transaction.fetch("executions.lock", holding.key)
            assert len(await transaction.fetch("events.history", holding.key)) == 2
        await connection.close(timeout=5)


async def test_history_read_in_a_snapshot_before_the_takeover_misses_the_flush(tmp_path: Path) -> None:
    async with hand(f"sqlite:///{tmp_path / 'holdfast.db'}") as mine:
        holding = await begin(mine)
        snapshot = bare(mine, timeout_ms=2000)
        async with gate(mine) as stop:
            entry = mine.journal.append(result(holding, GATE_PATH))
            await stop.reached()
            snapshot.execute("BEGIN")
            count = "SELECT count(*) FROM events WHERE path IS NOT NULL"
            assert snapshot.execute(count).fetchone() == (0,)
            stop.release()
            assert await end_of(entry) is Answer.WRITTEN
            assert snapshot.execute(count).fetchone() == (0,)  # acknowledged, and not in this snapshot
            # The file refuses a takeover from an old snapshot; nothing but a new transaction can take it.
            with pytest.raises(apsw.BusyError):
                snapshot.execute("UPDATE executions SET epoch = epoch + 1")
        snapshot.close()


# The same id, started in two months.

JANUARY = bytes.fromhex("019b76da8000") + b"\x70" + b"\x01" * 9
MARCH = bytes.fromhex("019ca66a8000") + b"\x70" + b"\x02" * 9


async def test_an_id_is_unique_over_months(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        await begin(mine, "report-1", key=JANUARY)
        later = Holding(ExecutionKey(MARCH), "report-1", theirs.tenant, epoch=1)
        assert await theirs.journal.append(new_entry(later)) is Answer.RECORDED
        assert await log_of(mine, later.key) == []
        found = await theirs.find_execution("report-1")
        assert found is not None and found.key == JANUARY
        if is_postgresql(mine):
            partitions = await rows(mine, "SELECT count(*) FROM {events} WHERE execution = $1", JANUARY)
            assert partitions[0][0] == 1


async def test_an_id_started_by_two_at_once_is_one_execution(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        first = Holding(ExecutionKey(JANUARY), "twice", mine.tenant, epoch=1)
        second = Holding(ExecutionKey(MARCH), "twice", theirs.tenant, epoch=1)
        entry = new_entry(first)
        entry.fields = (entry.fields[0], GATE_PATH, *entry.fields[2:])
        async with gate(mine) as stop:
            one = mine.journal.append(entry)
            await stop.reached()
            two = theirs.journal.append(new_entry(second))
            if not is_sqlite(mine):
                assert await blocked(theirs, two)  # on the other's uncommitted id
            stop.release()
            answers = await asyncio.gather(one, two)
        assert answers == [Answer.WRITTEN, Answer.RECORDED]
        counted = await rows(mine, "SELECT count(*) FROM {executions}")
        assert counted[0][0] == 1


async def test_without_the_unique_id_two_months_have_two_executions(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        await drop_unique_id(mine)
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        await begin(mine, "report-1", key=JANUARY)
        later = Holding(ExecutionKey(MARCH), "report-1", theirs.tenant, epoch=1)
        assert await theirs.journal.append(new_entry(later)) is Answer.WRITTEN
        assert (await rows(mine, "SELECT count(*) FROM {executions}"))[0][0] == 2


async def drop_unique_id(store: Store) -> None:
    if not is_sqlite(store):
        connection = await beside(store)
        await connection.execute(
            "ALTER TABLE executions DROP INDEX executions_by_id"
            if is_mysql(store)
            else "ALTER TABLE holdfast.executions DROP CONSTRAINT executions_tenant_id_id_key"
        )
        await connection.close(timeout=5)
        return
    connection = bare(store, timeout_ms=2000)
    (text,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'executions'").fetchone()
    assert "UNIQUE (tenant_id, id)," in text
    connection.execute("DROP TABLE executions")
    connection.execute(text.replace("UNIQUE (tenant_id, id),", ""))
    connection.close()


@pytest.mark.parametrize("difference", ["input", "workflow"])
async def test_an_id_that_stands_for_something_else_is_taken(shared_url: str, difference: str) -> None:
    import holdfast as hf

    async def one(n: int) -> int:
        return n

    async def other(n: int) -> int:
        return n

    app = hf.App(shared_url)
    first, second = app.workflow(one), app.workflow(other)
    async with app:
        assert await first.options(id="x")(1) == 1
        assert await first.options(id="x")(1) == 1
        with pytest.raises(IdTaken):
            await (first if difference == "input" else second).options(id="x")(
                2 if difference == "input" else 1
            )


# A message beside a suspend.


async def send(kind: str, store: Store, key: ExecutionKey) -> bytes:
    """A message by the way its kind takes: the end of a child through the journal, others directly."""
    if kind != "child":
        message = secrets.token_bytes(16)
        payload = codec.encode({"reason": "test"})
        assert await post(store, key, kind, "go" if kind == "signal" else None, payload, message)
        return message
    child = Holding(ExecutionKey(secrets.token_bytes(16)), "child", store.tenant, epoch=1)
    await store.journal.append(new_entry(child, parent=(key, "kid")))
    message = bytes(child.key)
    end = ending(child, post=Post(key, message, "child", "kid", None))
    assert await store.journal.append(end) is Answer.WRITTEN
    return message


KINDS = pytest.mark.parametrize("kind", ["signal", "child", "cancel"])


@KINDS
async def test_a_message_before_a_suspend_stops_it(shared_url: str, kind: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        message = await send(kind, theirs, holding.key)
        assert await mine.journal.append(suspending(holding, expect_wakes=0)) is Answer.WOKEN
        row = await row_of(theirs, holding.key)
        assert (row.status, row.owner, row.wakes) == (ExecutionStatus.RUNNING, DEAD, 1)
        assert holding.wakes == 1  # the owner knows now
        assert [note.id for note in await mine.inbox(holding.key)] == [message]
        # Having read it, the owner suspends after all, and the log has no hole.
        assert await mine.journal.append(suspending(holding, expect_wakes=1)) is Answer.WRITTEN
        assert [event[0] for event in await log_of(theirs, holding.key)] == [1, 2]


@KINDS
async def test_a_message_during_a_suspend_wakes_it(shared_url: str, kind: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        async with gate(mine) as stop:
            suspend = mine.journal.append(suspending(holding, expect_wakes=0, path=GATE_PATH))
            await stop.reached()
            sending = asyncio.ensure_future(send(kind, theirs, holding.key))
            if kind != "child":  # the child's flush comes back instead of waiting
                assert await blocked(theirs, sending)
            stop.release()
            assert await end_of(suspend) is Answer.WRITTEN
            message = await end_of(sending)
        row = await row_of(theirs, holding.key)
        assert (row.status, row.owner, row.wakes) == (ExecutionStatus.READY, None, 1)
        assert [note.id for note in await theirs.inbox(holding.key)] == [message]


@KINDS
async def test_without_the_counter_a_suspend_sleeps_through_a_message(shared_url: str, kind: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await send(kind, theirs, holding.key)
        assert await mine.journal.append(suspending(holding, expect_wakes=None)) is Answer.WRITTEN
        row = await row_of(theirs, holding.key)
        assert row.status is ExecutionStatus.WAITING  # with its message unread, and nobody to wake it
        assert len(await theirs.inbox(holding.key)) == 1


async def test_without_the_comparison_the_counter_is_worth_nothing(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        if not is_postgresql(mine):
            module = flush_module(mine)
            judge = module._judge

            def blind(write: Any, fence: Any) -> Any:
                transition, write.transition = write.transition, None
                try:
                    return judge(write, fence)
                finally:
                    write.transition = transition

            monkeypatch.setattr(module, "_judge", blind)
        else:
            plant(mine, "journal.flush", "effect.expect_wakes IS DISTINCT FROM fence.wakes", "false")
        holding = await begin(mine)
        await send("signal", theirs, holding.key)
        assert await mine.journal.append(suspending(holding, expect_wakes=0)) is Answer.WRITTEN
        assert (await row_of(theirs, holding.key)).status is ExecutionStatus.WAITING


async def test_without_the_wake_a_message_reaches_a_sleeper_that_goes_on_sleeping(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        plant(theirs, "executions.wake", "CASE status WHEN 'waiting' THEN 'ready' ELSE status END", "status")
        holding = await begin(mine)
        assert await mine.journal.append(suspending(holding, expect_wakes=0)) is Answer.WRITTEN
        await send("signal", theirs, holding.key)
        assert (await row_of(theirs, holding.key)).status is ExecutionStatus.WAITING


async def test_a_message_sent_twice_is_there_once(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        message = secrets.token_bytes(16)
        first = await post(theirs, holding.key, "signal", "go", None, message)
        again = await post(theirs, holding.key, "signal", "go", None, message)
        assert (first, again) == (True, False)
        assert len(await mine.inbox(holding.key)) == 1


# Sending again after a lost reply.


def lost_once(flush_again: list[Batch]) -> Any:
    """A driver whose first reply is lost after the commit; `flush_again` gets every batch that was sent."""

    async def flush(real: Callable[[Batch], Awaitable[list[Reply]]], batch: Batch) -> list[Reply]:
        flush_again.append(batch)
        replies = await real(batch)
        if len(flush_again) == 1:
            assert all(reply.answer is Answer.WRITTEN for reply in replies)
            raise UnknownOutcome("the reply was lost")
        return replies

    return flush


async def lose_reply(store: Store, entries: list[Entry]) -> list[Answer | BaseException]:
    sent: list[Batch] = []
    async with journal_over(store, lost_once(sent)) as journal:
        waiters = [journal.append(entry) for entry in entries]
        answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert len(sent) == 2 and sent[0].writes == sent[1].writes
    return answers


async def test_results_sent_again_after_a_lost_reply_are_written_once(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding, other = await begin(mine), await begin(mine, "y")
        entries = [result(holding, "a"), result(holding, "b"), result(other, "a")]
        assert await lose_reply(mine, entries) == [Answer.WRITTEN] * 3
        assert await mine.journal.append(result(holding, "c")) is Answer.WRITTEN
        log = await log_of(mine, holding.key)
        assert [(event[0], event[2]) for event in log] == [(1, None), (2, "a"), (3, "b"), (4, "c")]


async def test_a_start_sent_again_after_a_lost_reply_is_ours(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        holding = Holding(ExecutionKey(JANUARY), "x", mine.tenant, epoch=1)
        assert await lose_reply(mine, [new_entry(holding)]) == [Answer.WRITTEN]
        assert await mine.journal.append(result(holding, "a")) is Answer.WRITTEN


async def test_a_start_by_the_app_survives_a_lost_reply(shared_url: str) -> None:
    """The whole way: an owner that took its own start for somebody else's would wait for ever."""
    import holdfast as hf

    app = hf.App(shared_url)

    async def double(n: int) -> int:
        return 2 * n

    workflow = app.workflow(double)
    async with app, asyncio.timeout(10):
        real = app.store.driver.flush
        lost = 0

        async def flush(batch: Batch) -> list[Reply]:
            nonlocal lost
            replies = await real(batch)
            if lost < 2:  # the start, and the end
                lost += 1
                raise UnknownOutcome("the reply was lost")
            return replies

        app.store.driver.flush = flush  # type: ignore[method-assign]
        assert await workflow.options(id="x")(21) == 42
        assert lost == 2


async def test_a_suspend_sent_again_after_a_lost_reply_stays_written(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        sent: list[Batch] = []
        lose = lost_once(sent)

        async def flush(real: Callable[[Batch], Awaitable[list[Reply]]], batch: Batch) -> list[Reply]:
            try:
                replies: list[Reply] = await lose(real, batch)
            except UnknownOutcome:
                await send("signal", theirs, holding.key)  # comes after the commit, before we ask again
                raise
            return replies

        async with journal_over(mine, flush) as journal:
            answer = await journal.append(suspending(holding, expect_wakes=0))
        assert answer is Answer.WRITTEN
        assert (await row_of(theirs, holding.key)).status is ExecutionStatus.READY


async def test_a_child_end_sent_again_after_a_lost_reply_is_one_message(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        parent = await begin(mine, "parent")
        child = await begin(mine, "child")
        end = ending(child, post=Post(parent.key, bytes(child.key), "child", "kid", None))
        assert await lose_reply(mine, [end]) == [Answer.WRITTEN]
        assert len(await mine.inbox(parent.key)) == 1
        assert (await row_of(mine, parent.key)).wakes == 1


async def test_without_keys_a_result_sent_again_is_doubled(shared_url: str) -> None:
    """The twin: when sending again gives new numbers, and nothing makes results unique, both stand."""
    async with hand(shared_url) as mine:
        if is_sqlite(mine):
            connection = bare(mine, timeout_ms=2000)
            connection.execute("DROP INDEX events_results")
            connection.close()
        else:
            raw = await beside(mine)
            index = "events_results ON events" if is_mysql(mine) else "holdfast.events_results"
            await raw.execute(f"DROP INDEX {index}")
            await raw.close(timeout=5)
        holding = await begin(mine)
        sent: list[Batch] = []
        lose = lost_once(sent)

        async def renumbering(real: Callable[[Batch], Awaitable[list[Reply]]], batch: Batch) -> list[Reply]:
            if sent:
                for write in batch.writes:
                    write.number()  # type: ignore[attr-defined]
            replies: list[Reply] = await lose(real, batch)
            return replies

        async with journal_over(mine, renumbering) as journal:
            await journal.append(result(holding, "a"))
        assert [event[2] for event in await log_of(mine, holding.key)] == [None, "a", "a"]


# An owner that stopped inside a transaction.


async def test_a_stopped_owner_holds_up_only_its_own_execution(server_url: str) -> None:
    async with hand(server_url) as mine, hand(server_url) as theirs:
        stuck, free = await begin(mine, "stuck"), await begin(mine, "free")
        async with theirs.transaction() as transaction:
            await transaction.fetch("executions.lock", stuck.key)
            held = [mine.journal.append(result(stuck, "a")), mine.journal.append(result(stuck, "b"))]
            for n in range(5):
                assert await end_of(mine.journal.append(result(free, f"s{n}"))) is Answer.WRITTEN
            assert not any(entry.done() for entry in held)
        assert await asyncio.gather(*held) == [Answer.WRITTEN] * 2
        log = await log_of(mine, stuck.key)
        assert [(event[0], event[2]) for event in log] == [(1, None), (2, "a"), (3, "b")]
        assert len(await log_of(mine, free.key)) == 6


async def test_a_takeover_that_was_stopped_fences_when_it_goes_on(server_url: str) -> None:
    async with hand(server_url) as mine, hand(server_url) as theirs:
        stuck, free = await begin(mine, "stuck"), await begin(mine, "free")
        async with takeover_in_progress(theirs, stuck.key):
            held = mine.journal.append(result(stuck, "a"))
            assert await end_of(mine.journal.append(result(free, "a"))) is Answer.WRITTEN
            assert not held.done()
        with pytest.raises(LeaseLost):
            await held
        assert free.lost is None


async def test_without_skipping_one_stopped_owner_stops_everybody(server_url: str) -> None:
    async with hand(server_url) as mine, hand(server_url) as theirs:
        plant(mine, "journal.fence" if is_mysql(mine) else "journal.append", "SKIP LOCKED", "")
        stuck, free = await begin(mine, "stuck"), await begin(mine, "free")
        watcher = await beside(theirs)
        async with theirs.transaction() as transaction:
            await transaction.fetch("executions.lock", stuck.key)
            held = [mine.journal.append(result(stuck, "a")), mine.journal.append(result(free, "a"))]

            async def stands() -> bool:
                return bool(await waiters(watcher))

            await until(stands, "the flush did not wait")
            assert not any(entry.done() for entry in held)
        assert await asyncio.gather(*held) == [Answer.WRITTEN] * 2
        await watcher.close(timeout=5)


async def test_a_stopped_writer_of_the_file_holds_up_writers_and_no_readers(tmp_path: Path) -> None:
    async with hand(f"sqlite:///{tmp_path / 'holdfast.db'}", busy_timeout="20ms") as mine:
        holding = await begin(mine)
        failures = 0

        async def counting(flush: Callable[[Batch], Awaitable[list[Reply]]], batch: Batch) -> list[Reply]:
            nonlocal failures
            try:
                return await flush(batch)
            except RetryLater:
                failures += 1
                raise

        other = bare(mine)
        other.execute("BEGIN IMMEDIATE")
        async with journal_over(mine, counting) as journal:
            entry = journal.append(result(holding, "a"))

            async def refused() -> bool:
                return failures > 1

            await until(refused, "the flush was not refused")
            assert not entry.done()
            assert len(await log_of(mine, holding.key)) == 1
            other.execute("ROLLBACK")
            assert await end_of(entry) is Answer.WRITTEN
        other.close()
        assert [event[0] for event in await log_of(mine, holding.key)] == [1, 2]


async def test_without_repeating_a_stopped_writer_costs_the_result(tmp_path: Path) -> None:
    async with hand(f"sqlite:///{tmp_path / 'holdfast.db'}", busy_timeout="20ms") as mine:
        holding = await begin(mine)
        other = bare(mine)
        other.execute("BEGIN IMMEDIATE")

        async def plain(flush: Callable[[Batch], Awaitable[list[Reply]]], batch: Batch) -> list[Reply]:
            return await flush(batch)

        async with journal_over(mine, plain, patience_s=0.0) as journal:
            with pytest.raises(RetryLater):
                await journal.append(result(holding, "a"))
        other.execute("ROLLBACK")
        other.close()
        assert len(await log_of(mine, holding.key)) == 1


# A caller that goes away while its connection waits.


async def test_a_cancelled_caller_leaves_no_transaction_open(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)

        async def transact() -> None:
            async with mine.transaction() as transaction:
                await transaction.fetch("executions.lock", holding.key)

        async with theirs.transaction() as transaction:
            await transaction.fetch("executions.lock", holding.key)
            caller = asyncio.ensure_future(transact())
            if is_sqlite(mine):
                await asyncio.sleep(0)  # its BEGIN stands in the writer's queue now
                await asyncio.sleep(0)
            else:
                assert await blocked(theirs, caller)
            caller.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([caller])
            assert await mine.journal.append(result(holding, "a")) is Answer.WRITTEN
            assert await theirs.journal.append(result(await begin(theirs, "y"), "a")) is Answer.WRITTEN
