"""Pausing, going on and cancelling from outside: against owners that live, die, suspend or take over.

"Mine" is the connection of an owner, "theirs" that of whoever asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import (
    HoldfastError,
    InvalidArgument,
    LeaseLost,
    NoFilter,
    NotResumable,
    TransactionConflict,
    WrongStatus,
)
from holdfast.events.log import EventLog
from holdfast.fleet import bulk, cancelling, control
from holdfast.fleet.cancelling import cancel
from holdfast.fleet.claims import Lane, claim_lane
from holdfast.fleet.control import pause, resume
from holdfast.fleet.leaving import Rounds
from holdfast.fleet.ownership import Registration, claim
from holdfast.fleet.starts import new_key
from holdfast.fleet.sweeps import recover
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, NewExecution, Transition
from holdfast.store.entries import Entry, Holding
from holdfast.store.store import Store
from holdfast.workflows.engine import ExecutionRuntime
from tests.conformance.fleets import NEWEST
from tests.conformance.hands import (
    DEAD,
    GATE_PATH,
    bare,
    begin,
    beside,
    blocked,
    bytes_text,
    ending,
    gate,
    hand,
    is_mysql,
    is_sqlite,
    log_of,
    plant,
    prefixed,
    result,
    row_of,
    rows,
    statements_of,
    suspending,
)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def registered(store: Store) -> AsyncIterator[Registration]:
    registration = Registration(store)
    await registration.start()
    try:
        yield registration
    finally:
        await registration.stop()


@asynccontextmanager
async def both(url: str) -> AsyncIterator[tuple[Store, Registration, Store, Registration]]:
    """An owner and an asker, each with a connection and a registration of its own."""
    async with (
        hand(url) as mine, registered(mine) as owner, hand(url) as theirs, registered(theirs) as asker,
    ):  # fmt: skip
        yield mine, owner, theirs, asker


async def inbox(store: Store, key: ExecutionKey) -> list[str]:
    return [message.kind for message in await store.inbox(key)]


async def kinds(store: Store, key: ExecutionKey) -> list[str]:
    return [event[1] for event in await log_of(store, key)]


async def is_whole(store: Store) -> bool:
    return await EventLog(store).verify() == []


async def waiting(store: Store, *, due: timedelta | None = None, id: str = "x") -> Holding:
    """An execution that its owner has suspended."""
    holding = await begin(store, id)
    entry = Entry(
        holding,
        EventType.EXECUTION_SUSPENDED,
        transition=Transition("waiting", final=False, due_in=due),
    )
    assert await store.journal.append(entry) is Answer.WRITTEN
    return holding


async def enqueued(store: Store, id: str = "x", *, delay: timedelta | None = None) -> ExecutionKey:
    """An execution that was left to the workers and never owned."""
    holding = Holding(new_key(), id, store.tenant, epoch=0)
    delay_us = None if delay is None else round(delay / timedelta(microseconds=1))
    new = NewExecution(
        holding.key, holding.tenant, id, "proof", "1", b"d" * 32, b"f" * 16,
        "waiting" if delay_us else "ready", "work", "io", 0, delay_us, None, 0,
    )  # fmt: skip
    await store.journal.append(Entry(holding, EventType.EXECUTION_STARTED, create=new))
    return holding.key


async def sql(store: Store, text: str) -> None:
    """Change what only another part of the program does; tables as `{approvals}`."""
    names = ("executions", "approvals", "tasks", "waits", "slots", "inbox", "workers")
    if is_sqlite(store):
        connection = bare(store, timeout_ms=5000)
        connection.execute(text.format(now="1", **{name: name for name in names}))
        connection.close()
    else:
        raw = await beside(store)
        now = "now(6)" if is_mysql(store) else "now()"
        await raw.execute(text.format(now=now, **{name: prefixed(store, name) for name in names}))
        await raw.close()


# Pause: who acts.


async def test_what_nobody_owns_is_paused_by_whoever_asks(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        for key in [(await waiting(mine)).key, await enqueued(mine, "e"), (await begin(mine, "dead")).key]:
            assert await pause(theirs, asker, await row_of(theirs, key), reason="lunch")
            row = await row_of(mine, key)
            assert (row.status, row.owner) == (ExecutionStatus.PAUSED, None)
            last = (await EventLog(mine).page(row))[-1]
            assert last.type is EventType.EXECUTION_SUSPENDED
            assert last.payload == {"reason": "paused", "asked": "lunch"}
            assert await inbox(mine, key) == []
            assert await pause(theirs, asker, row)  # again changes nothing
            assert (await kinds(mine, key)).count("execution.suspended") == 1 + (row.id == "x")
        assert await is_whole(mine)


async def test_a_live_owner_is_told_and_nothing_is_taken_from_it(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine, owner=owner.boot)
        before = await row_of(mine, holding.key)
        assert not await pause(theirs, asker, before)
        assert not await cancel(theirs, asker, before, reason="enough", deadline=timedelta(seconds=3))
        row = await row_of(mine, holding.key)
        assert (row.status, row.epoch, row.owner) == (ExecutionStatus.RUNNING, before.epoch, owner.boot)
        assert row.wakes == before.wakes + 2
        messages = await mine.inbox(holding.key)
        assert [message.kind for message in messages] == ["pause", "cancel"]
        told = codec.decode(messages[1].payload or b"", what="payload")
        assert told == {"reason": "enough", "deadline_s": 3.0}
        assert await mine.journal.append(result(holding, "a")) is Answer.WRITTEN


async def test_stealing_takes_it_from_a_live_owner(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        for id, verb, status in [("p", pause, "paused"), ("c", cancel, "cancelled")]:
            holding = await begin(mine, id, owner=owner.boot)
            assert await verb(theirs, asker, await row_of(theirs, holding.key), steal=True)
            assert (await row_of(mine, holding.key)).status == status
            with pytest.raises(LeaseLost):
                await mine.journal.append(result(holding, "a"))
        assert await is_whole(mine)


async def test_an_owner_that_changed_since_the_look_is_looked_at_again(shared_url: str) -> None:
    """The row was read when a dead owner had it; by the time of the lock a live one has taken over."""
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine)
        stale = await row_of(theirs, holding.key)
        assert stale.owner == DEAD
        taken = await claim(mine, owner, stale)
        for verb in (pause, cancel):
            assert not await verb(theirs, asker, stale)
        assert (await row_of(mine, holding.key)).epoch == taken.holding.epoch
        assert await inbox(mine, holding.key) == ["pause", "cancel"]


async def test_without_the_second_look_a_live_owner_loses_its_execution(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = control.lock

    async def trusting(transaction: Any, key: ExecutionKey, *, dead: Any = None) -> Any:
        locked = await real(transaction, key, dead=dead)
        return control.Locked(
            **{name: getattr(locked, name) for name in _FIELDS} | {"owner": dead, "is_free": True}
        )

    monkeypatch.setattr(control, "lock", trusting)
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine)
        stale = await row_of(theirs, holding.key)
        await claim(mine, owner, stale)
        assert await cancel(theirs, asker, stale)
        assert (await row_of(mine, holding.key)).status is ExecutionStatus.CANCELLED


_FIELDS = control.Locked.__slots__


# A flush of the owner and the one who asks, at the same moment.


Verb = Callable[[Store, Registration, Any], Awaitable[bool]]


async def during_a_flush(url: str, entry: Callable[[Holding], Entry], verb: Verb) -> tuple[Any, Any, Store]:
    """Ask while a flush of the owner stands between its writes; what the owner and the asker got."""
    async with both(url) as (mine, _, theirs, asker):
        holding = await begin(mine)
        row = await row_of(theirs, holding.key)
        async with gate(mine) as stop:
            flushed = mine.journal.append(entry(holding))
            await stop.reached()
            asked = asyncio.ensure_future(verb(theirs, asker, row))
            assert await blocked(theirs, asked)
            stop.release()
            answers = await asyncio.gather(flushed, asked, return_exceptions=True)
        assert await is_whole(theirs)
        row = await row_of(theirs, holding.key)
        return answers, row, [event[1:3] for event in await log_of(theirs, holding.key)]  # type: ignore[return-value]


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_a_flush_under_way_comes_first_and_is_kept(shared_url: str, verb: Verb) -> None:
    answers, row, log = await during_a_flush(shared_url, lambda h: result(h, GATE_PATH), verb)
    assert answers == [Answer.WRITTEN, True]
    assert row.status == ("paused" if verb is pause else "cancelled")
    assert [event[0] for event in log][:2] == ["execution.started", "step.completed"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_an_end_under_way_comes_first_and_stays(shared_url: str, verb: Verb) -> None:
    answers, row, log = await during_a_flush(shared_url, lambda h: ending(h, GATE_PATH), verb)
    assert answers[0] is Answer.WRITTEN
    assert isinstance(answers[1], WrongStatus | NotResumable)
    assert row.status is ExecutionStatus.COMPLETED
    assert len(log) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_a_suspend_under_way_comes_first_and_is_overruled(shared_url: str, verb: Verb) -> None:
    def entry(holding: Holding) -> Entry:
        return suspending(holding, expect_wakes=0, path=GATE_PATH)

    answers, row, _ = await during_a_flush(shared_url, entry, verb)
    assert answers == [Answer.WRITTEN, True]
    assert row.status == ("paused" if verb is pause else "cancelled")


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_a_flush_that_comes_behind_is_refused(shared_url: str, verb: Verb) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        holding = await begin(mine)
        assert await verb(theirs, asker, await row_of(theirs, holding.key))
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(holding, "a"))
        assert [event[1] for event in await log_of(mine, holding.key)][1:] != ["step.completed"]
        assert await is_whole(mine)


async def test_without_the_epoch_the_old_owner_writes_into_a_cancelled_execution(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        plant(theirs, "control.release", "epoch = epoch + 1, ", "")
        holding = await begin(mine)
        holding.next_seq = 3  # the number that comes next after the end
        assert await cancel(theirs, asker, await row_of(theirs, holding.key))
        assert await mine.journal.append(result(holding, "a")) is Answer.WRITTEN
        assert [event[1] for event in await log_of(mine, holding.key)][-2:] == [
            "execution.cancelled",
            "step.completed",
        ]


async def test_a_message_to_an_owner_stops_its_suspend(shared_url: str) -> None:
    for verb, kind in ((pause, "pause"), (cancel, "cancel")):
        async with both(shared_url) as (mine, owner, theirs, asker):
            holding = await begin(mine, kind, owner=owner.boot)
            assert not await verb(theirs, asker, await row_of(theirs, holding.key))
            assert await mine.journal.append(suspending(holding, expect_wakes=0)) is Answer.WOKEN
            assert await inbox(mine, holding.key) == [kind]


# Against each other.


@pytest.mark.parametrize("first", ["pause", "cancel", "claim"])
@pytest.mark.parametrize("second", ["pause", "cancel", "claim"])
async def test_two_at_once_leave_one_story(shared_url: str, first: str, second: str) -> None:
    """Whatever the order, both end, the log has no gap, and an ended execution stays ended."""
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine)
        row = await row_of(theirs, holding.key)

        def work(name: str, store: Store, registration: Registration) -> Awaitable[Any]:
            if name == "claim":
                return claim(store, registration, row)
            verb: Verb = pause if name == "pause" else cancel
            return verb(store, registration, row)

        answers = await asyncio.gather(
            work(first, mine, owner), work(second, theirs, asker), return_exceptions=True
        )
        assert not any(isinstance(each, TransactionConflict) for each in answers)
        row = await row_of(mine, holding.key)
        log = await kinds(mine, holding.key)
        assert log.count("execution.cancelled") == (row.status == "cancelled")
        assert log.count("execution.suspended") <= 1
        if "cancel" in (first, second):
            asked = "cancel" in await inbox(mine, holding.key)
            assert row.status is ExecutionStatus.CANCELLED or (asked and row.status == "running")
        assert await is_whole(mine)


# Going on.


async def test_what_was_paused_goes_on_where_it_was(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        holding = await waiting(mine, due=timedelta(hours=1))
        ready = await enqueued(mine, "ready")
        delayed = await enqueued(mine, "delayed", delay=timedelta(hours=1))
        due = (await row_of(mine, delayed)).due_at
        for key in (holding.key, ready, delayed):
            assert await pause(theirs, asker, await row_of(theirs, key))
        assert await resume(theirs, await row_of(theirs, ready)) is ExecutionStatus.READY
        assert await resume(theirs, await row_of(theirs, delayed)) is ExecutionStatus.WAITING
        assert (await row_of(mine, delayed)).due_at == due
        # A message that came meanwhile is worth a look at once.
        await cancelling.post(mine, holding.key, "signal", "s", None, b"s" * 16)
        assert (await row_of(mine, holding.key)).status is ExecutionStatus.PAUSED
        assert await resume(theirs, await row_of(theirs, holding.key)) is ExecutionStatus.READY
        assert await inbox(mine, holding.key) == ["signal"]


async def test_a_pause_that_nobody_has_read_can_be_taken_back(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine, owner=owner.boot)
        row = await row_of(theirs, holding.key)
        assert not await pause(theirs, asker, row)
        assert not await pause(theirs, asker, row)
        assert await resume(theirs, row) is ExecutionStatus.RUNNING
        assert await inbox(mine, holding.key) == []
        # Its owner, if it has read them, is woken to find them gone.
        assert (await row_of(mine, holding.key)).wakes == 3


async def test_what_is_not_paused_can_not_go_on_from_a_pause(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, _):
        for key in [(await waiting(mine)).key, (await begin(mine, "r", owner=owner.boot)).key]:
            with pytest.raises(WrongStatus, match="not paused") as refused:
                await resume(theirs, await row_of(theirs, key))
            assert "holdfast resume" in refused.value.fix
        ended = await begin(mine, "e", owner=owner.boot)
        await mine.journal.append(ending(ended))
        with pytest.raises(WrongStatus, match="completed"):
            await resume(theirs, await row_of(theirs, ended.key))


async def test_two_that_go_on_at_once_one_does(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await waiting(mine)
        row = await row_of(theirs, holding.key)
        assert await pause(theirs, asker, row)
        answers = await asyncio.gather(resume(mine, row), resume(theirs, row), return_exceptions=True)
        assert {type(each) for each in answers} == {ExecutionStatus, WrongStatus}
        taken = await claim(mine, owner, await row_of(mine, holding.key))
        assert taken.taken_from is None


# Cancelling: what goes with it.


async def child_of(store: Store, parent: Holding, id: str, *, detached: bool = False) -> Holding:
    holding = Holding(new_key(), id, store.tenant, epoch=1)
    new = NewExecution(
        holding.key, holding.tenant, id, "proof", "1", b"d" * 32, b"f" * 16, "running", "local", "io", 0,
        None, DEAD, 1, parent.key, id, detached=detached,
    )  # fmt: skip
    assert (
        await store.journal.append(Entry(holding, EventType.EXECUTION_STARTED, create=new)) is Answer.WRITTEN
    )
    return holding


async def test_children_end_with_their_parent_and_detached_ones_live(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        parent = await waiting(mine)
        child = await child_of(mine, parent, "child")
        grandchild = await child_of(mine, child, "grandchild")
        free = await child_of(mine, parent, "free", detached=True)
        assert await cancel(theirs, asker, await row_of(theirs, parent.key), reason="enough")
        statuses = [str((await row_of(mine, each.key)).status) for each in (child, grandchild, free)]
        assert statuses == ["cancelled", "cancelled", "running"]
        assert await is_whole(mine)
        del owner


async def test_a_child_tells_its_parent_once(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        parent = await waiting(mine)
        child = await child_of(mine, parent, "child")
        row = await row_of(theirs, child.key)
        answers = await asyncio.gather(
            cancel(theirs, asker, row), cancel(mine, asker, row), return_exceptions=True
        )
        assert answers.count(True) >= 1
        messages = await mine.inbox(parent.key)
        assert [(each.kind, each.name, each.id) for each in messages] == [
            ("child", "child", bytes(child.key))
        ]
        assert (await row_of(mine, parent.key)).status is ExecutionStatus.READY


@pytest.mark.parametrize("planted", [False, True])
async def test_a_death_between_parent_and_children_strands_none(
    shared_url: str, planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies when the parent has ended: the wish is in the children's inboxes by then."""

    async def died(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    async with both(shared_url) as (mine, owner, theirs, asker):
        if planted:
            parent_of = "e.open_parent" if is_mysql(mine) else "e.parent"
            plant(theirs, "control.ask_children", f"WHERE {parent_of} =", f"WHERE FALSE AND {parent_of} =")
        parent = await waiting(mine)
        child = await child_of(mine, parent, "child")
        monkeypatch.setattr(cancelling, "cancel_children", died)
        with pytest.raises(KeyboardInterrupt):
            await cancel(theirs, asker, await row_of(theirs, parent.key))
        monkeypatch.undo()
        assert await inbox(mine, child.key) == ([] if planted else ["cancel"])
        assert await Rounds(mine, owner).look() == 1
        assert (await row_of(mine, child.key)).status is ExecutionStatus.CANCELLED
        assert await Rounds(mine, owner).look() == 0


async def test_what_it_waits_for_is_withdrawn_and_its_places_are_free(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        holding = await begin(mine)
        key = bytes_text(mine, holding.key)
        digest = ("path_digest, ", "'w', ") if is_mysql(mine) else ("", "")
        await sql(
            mine,
            f"INSERT INTO {{waits}} (execution, path, {digest[0]}tenant_id, name, created_at) "
            f"VALUES ({key}, 'w', {digest[1]}'default', 'sig', {{now}})",
        )
        await sql(
            mine,
            "INSERT INTO {approvals} (tenant_id, id, execution, path, title, status, created_at) "
            f"VALUES ('default', 'a', {key}, 'a', 'May I?', 'pending', {{now}})",
        )
        await sql(
            mine,
            "INSERT INTO {tasks} (tenant_id, id, execution, path, capability, status, lease, created_at, "
            f"updated_at) VALUES ('default', 't', {key}, 't', 'x', 'pending', 1, {{now}}, {{now}})",
        )
        await sql(mine, f"INSERT INTO {{slots}} VALUES ('q', 's', 1, {key})")
        assert await cancel(theirs, asker, await row_of(theirs, holding.key))
        for table, column in (
            ("waits", "name"),
            ("approvals", "status"),
            ("tasks", "status"),
            ("slots", "holder"),
        ):
            found = await rows(mine, f"SELECT {column} FROM {prefixed(mine, table)}")
            expected: Any = {"waits": [], "approvals": ["withdrawn"], "tasks": ["cancelled"], "slots": [None]}
            assert [row[0] for row in found] == expected[table]


async def test_what_has_ended_can_not_be_cancelled_or_paused(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine, owner=owner.boot)
        await mine.journal.append(ending(holding))
        row = await row_of(theirs, holding.key)
        with pytest.raises(NotResumable):
            await cancel(theirs, asker, row)
        with pytest.raises(WrongStatus):
            await pause(theirs, asker, row)
        assert await kinds(mine, holding.key) == ["execution.started", "execution.completed"]


async def test_a_reason_that_can_not_be_kept_is_refused(shared_url: str) -> None:
    async with both(shared_url) as (mine, _, theirs, asker):
        holding = await begin(mine)
        with pytest.raises(InvalidArgument):
            await cancel(theirs, asker, await row_of(theirs, holding.key), reason="x" * 1001)


# Against workers: claims from a queue, and what takes over from the dead.


async def test_a_worker_claims_nothing_that_is_paused_or_cancelled(shared_url: str) -> None:
    async with both(shared_url) as (mine, owner, theirs, asker):
        for id, verb in (("p", pause), ("c", cancel)):
            assert await verb(theirs, asker, await row_of(theirs, await enqueued(mine, id)))
        lane = Lane("work", "io", mine.tenant)
        assert await claim_lane(mine, owner.boot, lane, 10, schema=NEWEST) == []
        assert await resume(theirs, await theirs.get_execution("p")) is ExecutionStatus.READY
        assert [row[1] for row in await claim_lane(mine, owner.boot, lane, 10, schema=NEWEST)] == ["p"]


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_a_claim_and_a_request_at_once(shared_url: str, verb: Verb) -> None:
    """Either the worker has it and is told, or it is paused or cancelled and the worker has nothing."""
    async with both(shared_url) as (mine, owner, theirs, asker):
        lane = Lane("work", "io", mine.tenant)
        keys = [await enqueued(mine, f"x{number}") for number in range(6)]
        found = [await row_of(theirs, key) for key in keys]
        claiming = asyncio.ensure_future(claim_lane(mine, owner.boot, lane, 3, schema=NEWEST))
        done = await asyncio.gather(*(verb(theirs, asker, each) for each in found))
        claimed = await claiming
        taken = {bytes(row[0]) for row in claimed}
        for key, ours in zip(keys, done, strict=True):
            row = await row_of(mine, key)
            assert (bytes(key) in taken) != ours
            assert (row.status == "running") != ours
            assert await inbox(mine, key) == ([] if ours else ["pause" if verb is pause else "cancel"])
        assert await is_whole(mine)


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_a_recovery_and_a_request_at_once(shared_url: str, verb: Verb) -> None:
    """Both want what a dead owner left: the epochs never meet, and the request wins or finds it free."""
    async with both(shared_url) as (mine, owner, theirs, asker):
        holding = await begin(mine)
        row = await row_of(theirs, holding.key)
        _, done = await asyncio.gather(
            recover(mine, DEAD, owner.folder), verb(theirs, asker, row), return_exceptions=True
        )
        assert done is True
        assert (await row_of(mine, holding.key)).status == ("paused" if verb is pause else "cancelled")
        assert await is_whole(mine)


@pytest.mark.parametrize("verb", [pause, cancel])
async def test_nothing_of_a_request_that_breaks_off_is_seen(shared_url: str, verb: Verb) -> None:
    """Whatever statement it breaks off at, the execution is as it was, and a second try does it."""
    async with both(shared_url) as (mine, _, theirs, asker):
        parent = await waiting(mine, id="parent")
        child = await child_of(mine, parent, "child")
        before, log = await row_of(mine, child.key), await log_of(mine, child.key)
        names = ["control.lock", "control.release", "control.free_slots", "control.event"]
        if verb is cancel:
            names += ["control.withdraw_tasks", "executions.wake", "inbox.post", "control.ask_children"]
        texts = statements_of(theirs)
        for name in names:
            real = texts[name]
            texts._texts[name] = "SELECT nonsense FROM nowhere"
            with pytest.raises(HoldfastError):
                await verb(theirs, asker, before)
            texts._texts[name] = real
            assert await row_of(mine, child.key) == before
            assert await log_of(mine, child.key) == log
            assert await inbox(mine, parent.key) == []
        assert await verb(theirs, asker, before)
        assert await is_whole(mine)


# With code at work.


@asynccontextmanager
async def at_work(url: str) -> AsyncIterator[tuple[hf.App, Any, asyncio.Event, asyncio.Event, list[str]]]:
    """An app whose workflow stands in its first step until the gate opens."""
    app, there, opened, ran = hf.App(url), asyncio.Event(), asyncio.Event(), list[str]()

    @app.step
    async def work(name: str) -> str:
        if name == "first":
            there.set()
            await opened.wait()
        ran.append(name)
        return name

    @app.workflow
    async def flow() -> str:
        return await work("first") + await work("second")

    async with app:
        yield app, flow, there, opened, ran


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a run in this process has read that it is to pause."""
    event, real = asyncio.Event(), ExecutionRuntime.pause

    def pausing(runtime: ExecutionRuntime) -> None:
        real(runtime)
        event.set()

    monkeypatch.setattr(ExecutionRuntime, "pause", pausing)
    return event


async def test_a_paused_run_finishes_its_step_and_goes_on_later(
    shared_url: str, heard: asyncio.Event
) -> None:
    async with at_work(shared_url) as (app, flow, there, opened, ran), hand(shared_url) as theirs:
        await flow.options(id="x").start()
        handle = await app.handle("x")
        await there.wait()
        assert not await handle.pause("lunch")
        await heard.wait()
        opened.set()
        outcome = await handle.outcome()
        assert outcome.status is ExecutionStatus.PAUSED
        assert ran == ["first"]
        execution = await theirs.get_execution("x")
        assert (execution.status, await inbox(theirs, execution.key)) == (ExecutionStatus.PAUSED, [])
        assert await (await app.resume("x")).result() == "firstsecond"
        assert ran == ["first", "second"]
        assert await is_whole(theirs)


async def test_a_pause_that_is_taken_back_is_as_if_it_had_not_been(
    shared_url: str, heard: asyncio.Event
) -> None:
    async with at_work(shared_url) as (app, flow, there, opened, ran):
        await flow.options(id="x").start()
        handle = await app.handle("x")
        await there.wait()
        assert not await handle.pause()
        await heard.wait()
        await handle.resume()
        opened.set()
        assert await handle.result() == "firstsecond"
        assert ran == ["first", "second"]


async def test_a_cancel_from_elsewhere_meets_a_running_owner(shared_url: str) -> None:
    async with (
        at_work(shared_url) as (_, flow, there, _opened, ran),
        hand(shared_url) as theirs,
        registered(theirs) as asker,
    ):
        handle = await flow.options(id="x").start()
        await there.wait()
        assert not await cancel(theirs, asker, await theirs.get_execution("x"), reason="enough")
        assert (await handle.outcome()).status is ExecutionStatus.CANCELLED
        assert ran == []
        assert await is_whole(theirs)


async def test_an_approval_is_withdrawn_and_asked_for_again_by_a_retry(shared_url: str) -> None:
    app = hf.App(shared_url)

    @app.workflow
    async def flow() -> bool:
        return bool((await hf.approval("May I?", id="ok")).approved)

    async def state() -> list[str]:
        approvals = prefixed(app.store, "approvals")
        return [row[0] for row in await rows(app.store, f"SELECT status FROM {approvals}")]

    async with app:
        app._launcher.engine.sleep_max_s = 0.0  # type: ignore[union-attr]
        await flow.options(id="x").start()
        assert (await (await app.handle("x")).outcome()).status is ExecutionStatus.WAITING
        assert await state() == ["pending"]
        await (await app.handle("x")).cancel()
        assert await state() == ["withdrawn"]
        assert await (await app.handle("x")).retry() == []
        assert (await (await app.resume("x")).outcome()).status is ExecutionStatus.WAITING
        assert await state() == ["pending"]


# By filter.


async def test_every_execution_that_fits_is_asked_once_over_all_pages(shared_url: str) -> None:
    """Also when being asked makes it fit no more, and others refuse."""
    async with both(shared_url) as (mine, _, theirs, asker):
        keys = [await enqueued(mine, f"x{number}") for number in range(7)]
        ended = await begin(mine, "ended")
        await mine.journal.append(ending(ended))
        asked: list[str] = []

        async def act(execution: Any) -> str:
            asked.append(execution.id)
            if execution.id == "x3":
                raise WrongStatus("not this one")
            return "paused" if await pause(theirs, asker, execution) else "asked"

        query = "workflow:proof"
        assert await bulk.count(theirs, bulk.PAUSE, query) == 7
        told = {each.id: answer async for each, answer in bulk.each(theirs, bulk.PAUSE, query, act, page=2)}
        assert asked == [f"x{number}" for number in reversed(range(7))]
        assert isinstance(told.pop("x3"), WrongStatus)
        assert set(told.values()) == {"paused"}
        assert await bulk.count(theirs, bulk.PAUSE, query) == 1
        assert await bulk.count(theirs, bulk.RESUME, query) == 6
        assert {(await row_of(mine, key)).status for key in keys} == {"paused", "ready"}


async def test_without_a_filter_nothing_is_asked(shared_url: str) -> None:
    async with hand(shared_url) as mine:
        await enqueued(mine)

        async def act(execution: Any) -> str:
            raise AssertionError(execution.id)

        nothing: list[str | list[str]] = ["", " ", []]
        for empty in nothing:
            with pytest.raises(NoFilter):
                await bulk.count(mine, bulk.CANCEL, empty)
            with pytest.raises(NoFilter):
                await anext(bulk.each(mine, bulk.CANCEL, empty, act))
