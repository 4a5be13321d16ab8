"""The journal's promises: batches and their bounds, refusals, answers, and nothing told before the commit.

What concerns the data runs on real databases; what concerns time and order runs on a driver made of a list,
where a test decides when a flush returns and with what.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast.errors import (
    ConstraintViolated,
    HoldfastError,
    InvalidData,
    LeaseLost,
    Misuse,
    RetryLater,
    StoreUnavailable,
    UnknownOutcome,
)
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionKey
from holdfast.store import journal as journals
from holdfast.store.drivers.base import Answer, Batch, Post, Reply
from holdfast.store.entries import Entry, Holding, Placed
from holdfast.store.journal import Journal
from tests.conformance.hands import (
    begin,
    ending,
    hand,
    journal_over,
    log_of,
    new_entry,
    result,
    rows,
    suspending,
    take_over,
)

pytestmark = pytest.mark.anyio

Flush = Callable[[Batch], Awaitable[list[Reply]]]


class ListDriver:
    """Keeps what it was given; `answer` decides, `gate` (when set) holds every flush up."""

    dialect = "sqlite"
    flushes_here = True

    def __init__(self) -> None:
        self.batches: list[list[Entry]] = []
        self.written: dict[ExecutionKey, list[int]] = defaultdict(list)
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.fail: Callable[[list[Entry]], Exception | None] = lambda _entries: None
        self.answer: Callable[[Entry], Answer] = lambda _entry: Answer.WRITTEN
        self.payloads: list[bytes] = []

    async def flush(self, batch: Batch) -> list[Reply]:
        entries = [entry for entry in batch.writes if isinstance(entry, Entry)]
        self.batches.append(entries)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        failure = self.fail(entries)
        if failure is not None:
            raise failure
        replies = []
        for entry in entries:
            answer = self.answer(entry)
            if answer is Answer.WRITTEN:
                self.written[entry.holding.key].append(entry.event.seq)
            replies.append(Reply(answer, 0))
        return replies

    async def put_payload(self, execution: ExecutionKey, digest: bytes, tenant: str, body: bytes) -> None:
        self.payloads.append(body)


def holding_of(name: str) -> Holding:
    return Holding(ExecutionKey(name.encode().ljust(16, b"\0")), name, "default", epoch=1)


@pytest.fixture
def driver() -> ListDriver:
    return ListDriver()


def started(driver: ListDriver, **options: Any) -> Journal:
    journal = Journal(driver, **options)  # type: ignore[arg-type]
    journal.start()
    return journal


async def ends(*waiters: asyncio.Future[Any]) -> list[Any]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*waiters, return_exceptions=True)


# Refusals.


def bad_entry(holding: Holding, kind: str) -> Entry:
    """An entry whose data a database refuses, each in its own way."""
    if kind == "type":
        return Entry(holding, "no.such.type", "bad", result=True)
    if kind == "missing":
        return Entry(holding, EventType.STEP_COMPLETED, None, result=True)  # a result without a path
    if kind == "surrogate":
        return result(holding, "bad\ud800")
    return result(holding, "bad", duration_us=2**70)  # more than 64 bits


BAD = pytest.mark.parametrize("kind", ["type", "missing", "surrogate", "integer"])


@BAD
async def test_one_bad_entry_is_refused_alone(shared_url: str, kind: str) -> None:
    async with hand(shared_url) as store, asyncio.timeout(20):
        holdings = [await begin(store, f"x{n}") for n in range(7)]
        waiters = [store.journal.append(result(holding, "a")) for holding in holdings]
        refused = store.journal.append(bad_entry(holdings[3], kind))
        waiters += [store.journal.append(result(holding, "b")) for holding in holdings]
        answers = await ends(*waiters)
        assert answers == [Answer.WRITTEN] * 14
        (error,) = await ends(refused)
        assert isinstance(error, InvalidData | ConstraintViolated)
        assert all(holding.lost is None for holding in holdings)
        assert await store.journal.append(result(holdings[3], "c")) is Answer.WRITTEN
        for holding in holdings:
            log = await log_of(store, holding.key)
            assert [event[0] for event in log] == list(range(1, len(log) + 1))
        assert await store.driver.fetch("events.gaps", store.tenant) == []


async def test_a_path_that_no_index_takes_is_refused_alone(shared_url: str) -> None:
    long = "".join(hashlib.sha512(bytes([number])).hexdigest() for number in range(50))
    async with hand(shared_url) as store, asyncio.timeout(20):
        one, other = await begin(store, "x"), await begin(store, "y")
        waiters = [store.journal.append(result(one, "a")), store.journal.append(result(other, long))]
        answers = await ends(*waiters)
        assert answers[0] is Answer.WRITTEN
        assert answers[1] is Answer.WRITTEN or isinstance(answers[1], InvalidData | ConstraintViolated)
        assert await store.journal.append(result(other, "b")) is Answer.WRITTEN


async def test_a_bad_start_is_refused_alone(shared_url: str) -> None:
    async with hand(shared_url) as store, asyncio.timeout(20):
        good = [new_entry(holding_of(f"x{n}")) for n in range(3)]
        bad = new_entry(Holding(ExecutionKey(b"k" * 16), "i" * 256, "default", epoch=1))
        waiters = [store.journal.append(entry) for entry in [*good[:2], bad, good[2]]]
        answers = await ends(*waiters)
        assert answers[:2] + answers[3:] == [Answer.WRITTEN] * 3
        assert isinstance(answers[2], InvalidData | ConstraintViolated)
        assert (await rows(store, "SELECT count(*) FROM {executions}"))[0][0] == 3


async def test_splitting_keeps_order_and_numbers(driver: ListDriver) -> None:
    driver.gate = asyncio.Event()
    journal = started(driver)
    holdings = [holding_of(f"x{n}") for n in range(5)]
    first = journal.append(result(holdings[0], "first"))
    await driver.reached.wait()
    poison = result(holdings[2], "poison")
    entries = [result(holding, path) for path in "ab" for holding in holdings]
    entries.insert(7, poison)
    driver.fail = lambda batch: InvalidData("a value is wrong") if poison in batch else None
    waiters = {entry: journal.append(entry) for entry in entries}
    driver.gate.set()
    answers = dict(zip(entries, await ends(*waiters.values()), strict=True))
    assert isinstance(answers.pop(poison), InvalidData)
    assert set(answers.values()) == {Answer.WRITTEN}
    await journal.close()
    assert await first is Answer.WRITTEN
    assert {name: sorted(seqs) == seqs for name, seqs in driver.written.items()} == dict.fromkeys(
        (holding.key for holding in holdings), True
    )
    for holding in holdings:
        assert driver.written[holding.key] == list(range(1, holding.next_seq))


async def test_splitting_beside_a_locked_row_loses_nothing(driver: ListDriver) -> None:
    """Every part of a split may find its row locked; all of them have to come back, in order."""
    holding = holding_of("x")
    entries = [result(holding, path) for path in ("a", "poison", "b", "c")]
    driver.fail = lambda batch: (
        InvalidData("a value is wrong") if any(e.fields[1] == "poison" for e in batch) else None
    )
    tries: dict[Entry, int] = defaultdict(int)

    def locked_at_first(entry: Entry) -> Answer:
        tries[entry] += 1
        return Answer.BUSY if tries[entry] < 3 else Answer.WRITTEN

    driver.answer = locked_at_first
    journal = started(driver)
    answers = await ends(*[journal.append(entry) for entry in entries])
    assert isinstance(answers.pop(1), InvalidData)
    assert answers == [Answer.WRITTEN] * 3
    assert driver.written[holding.key] == [1, 2, 3]
    assert [entry.event.seq for entry in entries if entry.fields[1] != "poison"] == [1, 2, 3]
    await journal.close()


async def test_only_data_errors_split(driver: ListDriver) -> None:
    failures = iter([StoreUnavailable("gone"), UnknownOutcome("lost"), None])
    driver.fail = lambda _batch: next(failures)
    journal = started(driver)
    holdings = [holding_of(f"x{n}") for n in range(4)]
    answers = await ends(*[journal.append(result(holding, "a")) for holding in holdings])
    assert answers == [Answer.WRITTEN] * 4
    assert [len(batch) for batch in driver.batches] == [4, 4, 4]
    assert driver.batches[0] == driver.batches[2]
    await journal.close()


# Bounds.


async def blocked_journal(driver: ListDriver) -> tuple[Journal, asyncio.Future[Answer]]:
    """A journal whose first flush does not return before the gate opens; the rest queues up."""
    driver.gate = asyncio.Event()
    journal = started(driver)
    first = journal.append(result(holding_of("first"), "a"))
    await driver.reached.wait()
    return journal, first


async def test_a_batch_has_at_most_a_thousand_entries(driver: ListDriver) -> None:
    journal, first = await blocked_journal(driver)
    holdings = [holding_of(f"x{n}") for n in range(10)]
    waiters = [journal.append(result(holdings[n % 10], f"s{n}")) for n in range(2_500)]
    assert driver.gate is not None
    driver.gate.set()
    await ends(first, *waiters)
    assert [len(batch) for batch in driver.batches] == [1, 1_000, 1_000, 500]
    for holding in holdings:
        assert driver.written[holding.key] == list(range(1, 251))
    await journal.close()


async def test_a_batch_has_at_most_four_mebibytes_and_one_entry(driver: ListDriver) -> None:
    journal, first = await blocked_journal(driver)
    holding = holding_of("x")
    value = b"v" * (60 * 1024)
    waiters = [
        journal.append(result(holding, f"s{n}", payload=await journal.place(holding, value + bytes([n]))))
        for n in range(150)
    ]
    assert driver.gate is not None
    driver.gate.set()
    await ends(first, *waiters)
    bytes_of = [sum(entry.size for entry in batch) for batch in driver.batches]
    assert max(bytes_of) < journals.BATCH_BYTES_MAX + 64 * 1024
    assert len(driver.batches) == 4
    await journal.close()


# Acknowledgement.


async def test_nothing_is_answered_before_the_commit(driver: ListDriver) -> None:
    journal, first = await blocked_journal(driver)
    holding = holding_of("x")
    waiters = [journal.append(result(holding, f"s{n}")) for n in range(3)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert not first.done() and not any(waiter.done() for waiter in waiters)
    assert len(driver.batches) == 1
    assert driver.gate is not None
    driver.gate.set()
    assert await ends(first, *waiters) == [Answer.WRITTEN] * 4
    await journal.close()


async def test_on_a_database_nothing_is_answered_before_the_commit(shared_url: str) -> None:
    async with hand(shared_url) as store, hand(shared_url) as other:
        holding = await begin(store)
        committed, tell = asyncio.Event(), asyncio.Event()

        async def slow(flush: Flush, batch: Batch) -> list[Reply]:
            assert len(await log_of(other, holding.key)) == 1
            replies = await flush(batch)
            committed.set()
            await tell.wait()
            return replies

        async with journal_over(store, slow) as journal:
            waiter = journal.append(result(holding, "a"))
            await asyncio.wait_for(committed.wait(), 10)
            assert not waiter.done()
            assert (
                len(await log_of(other, holding.key)) == 2
            )  # and what is answered now, stands there already
            tell.set()
            assert await waiter is Answer.WRITTEN


async def test_a_caller_that_goes_away_leaves_its_entry(shared_url: str) -> None:
    async with hand(shared_url) as store:
        holding = await begin(store)
        waiter = store.journal.append(result(holding, "a"))
        waiter.cancel()
        assert await store.journal.append(result(holding, "b")) is Answer.WRITTEN
        assert [event[2] for event in await log_of(store, holding.key)] == [None, "a", "b"]


async def test_a_caller_cancelled_during_the_flush_leaves_its_entry(driver: ListDriver) -> None:
    journal, first = await blocked_journal(driver)
    holding = driver.batches[0][0].holding
    second = journal.append(result(holding, "b"))
    first.cancel()
    second.cancel()
    assert driver.gate is not None
    driver.gate.set()
    await journal.close()
    assert driver.written[holding.key] == [1, 2]


async def test_close_writes_what_waits(driver: ListDriver) -> None:
    journal, first = await blocked_journal(driver)
    holding = holding_of("x")
    waiters = [journal.append(result(holding, f"s{n}")) for n in range(1_500)]
    journal.append_soon(Entry(holding, EventType.STEP_STARTED, "later"))
    closing = asyncio.ensure_future(journal.close())
    await asyncio.sleep(0)
    assert not closing.done()
    assert driver.gate is not None
    driver.gate.set()
    async with asyncio.timeout(10):
        await closing
    assert first.done() and all(waiter.result() is Answer.WRITTEN for waiter in waiters)
    assert driver.written[holding.key] == list(range(1, 1_502))
    with pytest.raises(StoreUnavailable):
        await journal.append(result(holding, "late"))


async def test_close_waits_for_entries_of_a_locked_row(driver: ListDriver) -> None:
    answers = iter([Answer.BUSY, Answer.BUSY, Answer.WRITTEN])
    driver.answer = lambda _entry: next(answers)
    journal = started(driver)
    waiter = journal.append(result(holding_of("x"), "a"))
    await driver.reached.wait()
    async with asyncio.timeout(10):
        await journal.close()
    assert waiter.result() is Answer.WRITTEN


async def test_a_cancelled_close_does_not_take_the_flusher_along(driver: ListDriver) -> None:
    """A second Ctrl-C while the journal drains must not lose what was handed over."""
    journal, first = await blocked_journal(driver)
    closing = asyncio.ensure_future(journal.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert driver.gate is not None
    driver.gate.set()
    assert await ends(first) == [Answer.WRITTEN]


# Entries nobody awaits.


class Timers:
    """Stands in for the timers of a journal: keeps what was asked for, and the test lets it happen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[float, Callable[[], None]]] = []
        loop = asyncio.get_running_loop()
        real = loop.call_later

        def call_later(delay: float, callback: Any, *args: Any, **options: Any) -> Any:
            if getattr(callback, "__self__", None).__class__ is Journal:
                self.asked.append((delay, callback))
                return real(3600, lambda: None)
            return real(delay, callback, *args, **options)

        monkeypatch.setattr(loop, "call_later", call_later)


async def test_an_entry_nobody_awaits_leaves_within_fifty_milliseconds(
    driver: ListDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch)
    journal = started(driver)
    await asyncio.sleep(0)
    holding = holding_of("x")
    journal.append_soon(Entry(holding, EventType.STEP_STARTED, "a"))
    journal.append_soon(Entry(holding, EventType.STEP_STARTED, "b"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert driver.batches == []  # it waits for company
    assert [delay for delay, _ in timers.asked] == [journals.SOON_S] and journals.SOON_S <= 0.05
    timers.asked[0][1]()
    await asyncio.wait_for(driver.reached.wait(), 10)
    assert [len(batch) for batch in driver.batches] == [2]
    await journal.close()


async def test_an_entry_nobody_awaits_leaves_with_the_next_flush(driver: ListDriver) -> None:
    journal = started(driver)
    await asyncio.sleep(0)
    holding = holding_of("x")
    journal.append_soon(Entry(holding, EventType.STEP_STARTED, "a"))
    assert await journal.append(result(holding, "a")) is Answer.WRITTEN
    assert [[entry.fields[0] for entry in batch] for batch in driver.batches] == [
        ["step.started", "step.completed"]
    ]
    await journal.close()


# Payloads.


@pytest.mark.parametrize(
    ("length", "place"),
    [(8_192, "row"), (8_193, "batch"), (65_536, "batch"), (65_537, "before"), (3_000_000, "before")],
)
async def test_where_a_value_goes(shared_url: str, length: int, place: str) -> None:
    async with hand(shared_url) as store:
        holding = await begin(store)
        value = b"\0\0\0" + b"v" * (length - 3)
        flushes = store.journal.flushes
        placed = await store.journal.place(holding, value)
        stored = (await rows(store, "SELECT count(*) FROM {payloads}"))[0][0]
        assert stored == (place == "before")
        assert (placed.inline is not None, placed.body is not None) == (place == "row", place == "batch")
        assert await store.journal.append(result(holding, "a", payload=placed)) is Answer.WRITTEN
        assert store.journal.flushes == flushes + 1
        history = await store.driver.fetch("events.history", holding.key)
        assert bytes(history[-1][11]) == value
        in_row = (await rows(store, "SELECT payload IS NOT NULL FROM {events} ORDER BY seq DESC LIMIT 1"))[0][
            0
        ]
        assert bool(in_row) == (place == "row")
        # The same value again costs no second copy.
        again = await store.journal.place(holding, value)
        assert await store.journal.append(result(holding, "b", payload=again)) is Answer.WRITTEN
        assert (await rows(store, "SELECT count(*) FROM {payloads}"))[0][0] == (place != "row")
        assert await store.driver.fetch("events.orphans", store.tenant) == []


async def test_a_fenced_result_leaves_no_value_behind(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        holding = await begin(mine)
        await take_over(theirs, holding.key)
        placed = Placed(None, b"n" * 16, b"v" * 9_000)
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(holding, "a", payload=placed))
        assert (await rows(mine, "SELECT count(*) FROM {payloads}"))[0][0] == 0


# Answers.


async def test_a_result_that_stands_already_is_answered_recorded(shared_url: str) -> None:
    async with hand(shared_url) as store:
        holding = await begin(store)
        assert await store.journal.append(result(holding, "a", 1)) is Answer.WRITTEN
        assert await store.journal.append(result(holding, "a", 2)) is Answer.RECORDED
        assert len(await log_of(store, holding.key)) == 2
        # What follows leaves no hole: a log with one can never be read again.
        assert await store.journal.append(result(holding, "b")) is Answer.WRITTEN
        assert await store.driver.fetch("events.gaps", store.tenant) == []


async def test_a_fenced_execution_stops_alone(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        lost, kept = await begin(mine, "lost"), await begin(mine, "kept")
        await take_over(theirs, lost.key)
        answers = await ends(
            mine.journal.append(result(kept, "a")),
            mine.journal.append(result(lost, "a")),
            mine.journal.append(result(kept, "b")),
            mine.journal.append(result(lost, "b")),
        )
        assert answers[0] is answers[2] is Answer.WRITTEN
        assert isinstance(answers[1], LeaseLost) and isinstance(answers[3], LeaseLost)
        assert kept.lost is None
        flushes = mine.journal.flushes
        with pytest.raises(LeaseLost):
            await mine.journal.append(result(lost, "c"))
        assert mine.journal.flushes == flushes  # not even asked any more


async def test_an_entry_is_written_whole_or_not_at_all(shared_url: str) -> None:
    """An end whose event can not be written changes no row, and takes or leaves no message."""
    async with hand(shared_url) as store:
        holding, parent = await begin(store), await begin(store, "parent")
        from holdfast.store.drivers.base import Post

        bad = ending(holding, post=Post(parent.key, b"m" * 16, "no such kind", None, None))
        (error,) = await ends(store.journal.append(bad))
        assert isinstance(error, InvalidData | ConstraintViolated)
        row = await store.execution_by_key(holding.key)
        assert row is not None and not row.status.is_final
        assert len(await log_of(store, holding.key)) == 1
        assert await store.inbox(parent.key) == []
        assert await store.journal.append(ending(holding)) is Answer.WRITTEN


async def test_one_batch_never_changes_a_row_twice(driver: ListDriver) -> None:
    journal, first = await blocked_journal(driver)
    holding = holding_of("x")
    waiters = [
        journal.append(result(holding, "a")),
        journal.append(suspending(holding, expect_wakes=0)),
        journal.append(result(holding, "b")),
        journal.append(ending(holding)),
    ]
    assert driver.gate is not None
    driver.gate.set()
    await ends(first, *waiters)
    assert [len(batch) for batch in driver.batches] == [1, 2, 2]
    assert driver.written[holding.key] == [1, 2, 3, 4]
    await journal.close()


async def test_woken_gives_its_number_back(driver: ListDriver) -> None:
    driver.answer = lambda entry: Answer.WOKEN if entry.transition is not None else Answer.WRITTEN
    journal = started(driver)
    holding = holding_of("x")
    answers = await ends(
        journal.append(result(holding, "a")),
        journal.append(suspending(holding, expect_wakes=0)),
        journal.append(result(holding, "b")),
    )
    assert answers == [Answer.WRITTEN, Answer.WOKEN, Answer.WRITTEN]
    assert driver.written[holding.key] == [1, 2]
    await journal.close()


# Busy and out of reach.


async def test_a_locked_row_is_tried_again_and_holds_nobody_else_up(driver: ListDriver) -> None:
    locked = True
    stuck, free = holding_of("stuck"), holding_of("free")
    driver.answer = lambda e: Answer.BUSY if locked and e.holding is stuck else Answer.WRITTEN
    journal = started(driver)
    held = [journal.append(result(stuck, path)) for path in "ab"]
    await asyncio.wait_for(driver.reached.wait(), 10)
    behind = journal.append(result(stuck, "c"))
    assert await ends(*[journal.append(result(free, f"s{n}")) for n in range(20)]) == [Answer.WRITTEN] * 20
    assert not any(waiter.done() for waiter in [*held, behind])
    locked = False
    assert await ends(*held, behind) == [Answer.WRITTEN] * 3
    assert driver.written[stuck.key] == [1, 2, 3]
    assert [e.fields[1] for batch in driver.batches for e in batch if e.holding is stuck][-3:] == [
        "a",
        "b",
        "c",
    ]
    await journal.close()


async def test_when_patience_ends_callers_hear_and_their_executions_stop(driver: ListDriver) -> None:
    driver.fail = lambda batch: StoreUnavailable("gone") if batch[0].holding.id != "later" else None
    journal = started(driver, patience_s=0.0)
    holding = holding_of("x")
    answers = await ends(journal.append(result(holding, "a")), journal.append(result(holding, "b")))
    assert all(isinstance(answer, RetryLater) for answer in answers)
    assert isinstance(holding.lost, RetryLater)
    assert isinstance((await ends(journal.append(result(holding, "c"))))[0], RetryLater)
    assert (
        await journal.append(result(holding_of("later"), "a")) is Answer.WRITTEN
    )  # the journal itself goes on
    await journal.close()


async def test_a_defect_of_the_driver_leaves_nobody_waiting(driver: ListDriver) -> None:
    driver.fail = lambda _batch: ZeroDivisionError("a defect")
    journal = started(driver)
    (answer,) = await ends(journal.append(result(holding_of("x"), "a")))
    assert isinstance(answer, HoldfastError) and not isinstance(answer, Misuse)
    await journal.close()


async def test_new_messages_are_told_once(driver: ListDriver) -> None:
    holding = holding_of("x")
    told: list[int] = []
    holding.on_wake = lambda: told.append(holding.wakes)
    for wakes in (0, 1, 1, 3, 2):
        holding.saw_wakes(wakes)
    assert told == [1, 3]
    holding.lose(LeaseLost("gone"))
    holding.lose(LeaseLost("gone again"))
    assert len(told) == 3


async def test_flushes_tell_of_new_messages(shared_url: str) -> None:
    async with hand(shared_url) as mine, hand(shared_url) as theirs:
        from holdfast.fleet.cancelling import post

        holding, quiet = await begin(mine), await begin(mine, "quiet")
        await post(theirs, holding.key, "signal", "go", None, b"m" * 16)
        await ends(mine.journal.append(result(holding, "a")), mine.journal.append(result(quiet, "a")))
        assert (holding.wakes, quiet.wakes) == (1, 0)


async def test_many_messages_for_one_execution_share_a_batch_and_each_wakes_it(store_url: str) -> None:
    """Forty children that end together shall not take forty flushes."""
    async with hand(store_url) as store:
        parent = await begin(store, "parent")
        children = [await begin(store, f"child-{n}") for n in range(40)]
        before = store.journal.flushes
        posts = [
            Post(parent.key, bytes(child.key), "child", f"c[{n}]", None) for n, child in enumerate(children)
        ]
        ends = [ending(child, post=post) for child, post in zip(children, posts, strict=True)]
        answers = await asyncio.gather(*[store.journal.append(entry) for entry in ends])
        assert set(answers) == {Answer.WRITTEN}
        assert store.journal.flushes - before <= 2
        assert len(await store.inbox(parent.key)) == 40
        assert (await store.get_execution("parent")).wakes == 40


async def test_a_status_change_and_a_message_for_the_same_row_do_not_share_a_batch(store_url: str) -> None:
    async with hand(store_url) as store:
        parent, child = await begin(store, "parent"), await begin(store, "child")
        post = Post(parent.key, bytes(child.key), "child", "c", None)
        before = store.journal.flushes
        answers = await asyncio.gather(
            store.journal.append(ending(child, post=post)), store.journal.append(ending(parent))
        )
        assert answers == [Answer.WRITTEN, Answer.WRITTEN]
        assert store.journal.flushes - before == 2
