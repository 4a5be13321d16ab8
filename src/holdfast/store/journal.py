"""The durable write path: fenced group commit.

Everything an execution must not lose goes through here as an entry: one event, and what happens with it (the
execution's status, a message taken or left, a new execution). Callers hand an entry over and await; one
flusher takes all that wait and has the driver write them in one transaction, then answers every caller. When
idle it flushes at once; when busy the batch is what arrived during the last flush. Nothing is answered before
the commit.

    caller ── append ──▶ queue ──▶ batch (sequence numbers) ──▶ driver.flush ──▶ answers ──▶ caller
                           ▲                                        │
                           └──────────── busy: again after 2 ms ◀───┘

An execution is owned by whoever holds its newest epoch. The driver compares the epoch under the row's lock in
the same transaction that writes; an entry of an older epoch is answered `fenced`, and its execution stops
here with `LeaseLost`. After a lost reply the very same batch, with the same numbers, is sent again and the
answers tell what had been written. A caller that is cancelled while it waits leaves its entry in the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from holdfast.errors import (
    ConstraintViolated,
    HoldfastError,
    InvalidData,
    LeaseLost,
    RetryLater,
    StoreUnavailable,
)
from holdfast.records.executions import ExecutionKey
from holdfast.store.backoff import Backoff
from holdfast.store.codec import digest
from holdfast.store.drivers.base import Answer, Batch, Driver, Reply
from holdfast.store.entries import Entry, Holding, Placed

BATCH_ENTRIES_MAX = 1_000
BATCH_BYTES_MAX = 4 * 2**20
INLINE_BYTES_MAX = 8 * 2**10
BATCHED_BYTES_MAX = 64 * 2**10
SOON_S = 0.05
BUSY_RETRY_S = 0.002
_BACKOFF = Backoff(first_s=0.02, most_s=2.0)


class Journal:
    """The one flusher of a store. `start` and `close` belong to the loop that uses it.

    `patience_s` bounds how long a batch is repeated against a store that can not be reached; after that its
    callers get the error and its executions stop, to be resumed later. `on_ready` is called after a commit
    that gave others something to do: an execution for the workers, or a message.
    """

    def __init__(self, driver: Driver, *, patience_s: float = 120.0) -> None:
        self._driver = driver
        self._patience_s = patience_s
        self._queue: deque[Entry] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._delayed = 0
        self.on_ready: Callable[[], None] | None = None
        self.flushes = 0
        self.entries = 0

    def start(self) -> None:
        """Start the flusher on the running loop. Safe twice."""
        if self._task is None:
            self._closing = False
            self._task = asyncio.get_running_loop().create_task(self._run(), name="holdfast-journal")
            self._task.add_done_callback(self._died)

    def _died(self, task: asyncio.Task[None]) -> None:
        """The flusher ended by a defect of its own: nobody may wait for it."""
        if task.cancelled() or task.exception() is None:
            return
        failure = HoldfastError(f"the journal stopped: {task.exception()!r}", where="journal")
        self._task = None
        while self._queue:
            entry = self._queue.popleft()
            entry.holding.lose(failure)
            _refuse(entry, failure)

    async def close(self) -> None:
        """Write all that waits, then stop. Safe twice."""
        self._closing = True
        self._wake()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        task, self._task = self._task, None
        if task is not None:
            # A caller that loses patience must not take the flusher along, with what was handed over.
            await asyncio.shield(task)

    def append(self, entry: Entry) -> asyncio.Future[Answer]:
        """Hand over an entry; the future is answered after the commit.

        Result: `WRITTEN`, `RECORDED` (its place is taken: read what stands there) or `WOKEN` (a suspend that
        lost against a message). Raises `LeaseLost`, the data error that refused this entry alone, or
        `RetryLater` when the store stayed out of reach. Cancelling the caller does not take the entry back.
        """
        entry.waiter = waiter = asyncio.get_running_loop().create_future()
        if self._task is None:
            waiter.set_exception(StoreUnavailable("the journal is closed", fix="open the store first"))
            return waiter
        self._queue.append(entry)
        self._wake()
        return waiter

    def append_soon(self, entry: Entry) -> None:
        """Hand over an entry nobody awaits: it leaves with the next flush, at the latest after 50 ms."""
        self._queue.append(entry)
        if self._idle is not None and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self._wake_soon)

    @staticmethod
    def place_small(data: bytes) -> Placed | None:
        """The place of a value that goes with the batch; None for one that `place` has to write first."""
        size = len(data)
        if size <= INLINE_BYTES_MAX:
            return Placed(data, None, None)
        return Placed(None, digest(data), data) if size <= BATCHED_BYTES_MAX else None

    async def place(self, holding: Holding, data: bytes) -> Placed:
        """Decide where an encoded value goes; a very large one is written now, on another connection.

        What is written early belongs to the execution whether or not an event ever refers to it.
        """
        small = self.place_small(data)
        if small is not None:
            return small
        name = digest(data)
        await self._driver.put_payload(holding.key, name, holding.tenant, data)
        return Placed(None, name, None)

    def _wake(self) -> None:
        idle = self._idle
        if idle is not None:
            self._idle = None
            if not idle.done():
                idle.set_result(None)

    def _wake_soon(self) -> None:
        self._soon = None
        self._wake()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                if self._closing and not self._delayed:
                    return
                self._idle = loop.create_future()
                await self._idle
                continue
            if self._driver.flushes_here:
                # Those who were just answered hand in their next entry first, so that batches stay whole. A
                # database with a processor of its own is better kept busy with smaller ones.
                await asyncio.sleep(0)
            entries = self._take_batch()
            if entries:
                await self._send(entries)

    def _take_batch(self) -> list[Entry]:
        """The next batch in queue order; what may not stand beside something in it stays for the next."""
        queue, batch, kept = self._queue, list[Entry](), list[Entry]()
        closed: set[ExecutionKey] = set()  # nothing more of these executions fits in this batch
        moved: set[ExecutionKey] = set()  # rows that this batch creates or whose status it changes
        woken: set[ExecutionKey] = set()  # rows that get messages in this batch, however many
        size = 0
        while queue and len(batch) < BATCH_ENTRIES_MAX and size < BATCH_BYTES_MAX:
            entry = queue.popleft()
            holding = entry.holding
            if holding.lost is not None:
                _refuse(entry, holding.lost)
                continue
            if holding.delayed is not None:
                holding.delayed.append(entry)
                continue
            if closed and holding.key in closed:
                kept.append(entry)
                continue
            if not entry.is_plain:
                moves = entry.create is not None or entry.transition is not None
                target = entry.post.target if entry.post is not None else None
                # One statement can not change a row twice.
                if target in moved or (moves and (holding.key in moved or holding.key in woken)):
                    closed.add(holding.key)
                    kept.append(entry)
                    continue
                if moves:
                    moved.add(holding.key)
                if target is not None:
                    woken.add(target)
                if entry.is_last:
                    closed.add(holding.key)
            entry.number()
            batch.append(entry)
            size += entry.size
        queue.extendleft(reversed(kept))
        return batch

    async def _send(self, entries: list[Entry]) -> None:
        """Have a batch written, whatever it takes, and answer its callers."""
        deadline = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            try:
                replies = await self._driver.flush(Batch(entries))
            except (InvalidData, ConstraintViolated) as error:
                await self._split(entries, error)
                return
            except RetryLater as error:
                if time.monotonic() > deadline:
                    _stop(entries, error)
                    return
                attempt += 1
                await asyncio.sleep(_BACKOFF.rest_s(attempt))
            except HoldfastError as error:
                _stop(entries, error)
                return
            except Exception as error:  # a defect must not leave callers waiting for ever
                failure = HoldfastError(f"writing a batch failed: {error!r}", where="journal")
                failure.__cause__ = error
                _stop(entries, failure)
                return
            else:
                break
        self.flushes += 1
        self.entries += len(entries)
        self._settle(entries, replies)
        if self.on_ready is not None and any(_gives_work(entry) for entry in entries):
            self.on_ready()

    async def _split(self, entries: list[Entry], error: HoldfastError) -> None:
        """Nothing was written: find the entry whose data is at fault, so that it alone is refused."""
        keys = list(dict.fromkeys(entry.holding.key for entry in entries))
        if len(keys) > 1:
            half = set(keys[: len(keys) // 2])
            await self._send([entry for entry in entries if entry.holding.key in half])
            await self._send([entry for entry in entries if entry.holding.key not in half])
        elif len(entries) > 1:
            # One execution: one at a time, each numbered again, so that a refused one leaves no gap.
            entries[0].holding.next_seq = entries[0].event.seq
            for entry in entries:
                if entry.holding.lost is not None:
                    _refuse(entry, entry.holding.lost)
                    continue
                if entry.holding.delayed is not None:
                    entry.holding.delayed.append(entry)  # its row is locked: behind those that found out
                    continue
                entry.number()
                await self._send([entry])
        else:
            entries[0].holding.next_seq = entries[0].event.seq
            _refuse(entries[0], error)

    def _settle(self, entries: list[Entry], replies: Sequence[Reply]) -> None:
        busy: dict[Holding, list[Entry]] = {}
        for entry, (answer, wakes) in zip(entries, replies, strict=True):
            if wakes:
                entry.holding.saw_wakes(wakes)
            if answer is Answer.WRITTEN or answer is Answer.RECORDED:
                waiter = entry.waiter
                if waiter is not None and not waiter.done():
                    waiter.set_result(answer)
                if answer is Answer.RECORDED and entry.holding.next_seq == entry.event.seq + 1:
                    entry.holding.next_seq = entry.event.seq  # not used: the next entry leaves no gap
            elif answer is Answer.BUSY:
                busy.setdefault(entry.holding, []).append(entry)
            elif answer is Answer.WOKEN:
                entry.holding.next_seq = entry.event.seq
                _answer(entry, answer)
            else:
                cause = LeaseLost(f"execution {entry.holding.id} was taken over by another owner")
                entry.holding.lose(cause)
                _refuse(entry, cause)
        for holding, again in busy.items():
            self._delay(holding, again)

    def _delay(self, holding: Holding, entries: list[Entry]) -> None:
        """Put entries of a locked row aside for 2 ms; what follows of its execution queues behind them."""
        holding.next_seq = entries[0].event.seq
        holding.delayed = entries
        self._delayed += 1

        def again() -> None:
            waiting, holding.delayed = holding.delayed or [], None
            self._delayed -= 1
            self._queue.extendleft(reversed(waiting))
            self._wake()

        asyncio.get_running_loop().call_later(BUSY_RETRY_S, again)


def _gives_work(entry: Entry) -> bool:
    """Whether others may have something to do once this is written."""
    if entry.is_plain:
        return False
    left_alone = entry.create is not None and entry.create.owner is None
    handed_back = entry.transition is not None and not entry.transition.final
    return left_alone or handed_back or entry.post is not None


def _answer(entry: Entry, answer: Answer) -> None:
    if entry.waiter is not None and not entry.waiter.done():
        entry.waiter.set_result(answer)


def _refuse(entry: Entry, error: HoldfastError) -> None:
    if entry.waiter is not None and not entry.waiter.done():
        entry.waiter.set_exception(error)


def _stop(entries: list[Entry], error: HoldfastError) -> None:
    """Give up on a batch: what became of it is unknown, so its executions stop writing here."""
    for entry in entries:
        entry.holding.lose(error)
        _refuse(entry, error)
