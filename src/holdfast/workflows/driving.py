"""Drives one owned execution to an end, a suspension or a stop, and writes which one it was.

Three things can end a program from outside: a message in the inbox (cancel, pause), the loss of the
execution, and the end of the process (Ctrl-C), which hands the execution back so that the next run goes on at
once. Each cancels the task, but only while the program itself is at work: the end of a run, once it is being
written, is never torn. A program that does nothing but wait, or that is being paused and has nothing at work
any more, is suspended by a compare-and-set on `wakes`: a message that came in between is read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from holdfast.errors import DefinitionChanged, HoldfastError, LeaseLost, Misuse, RetryLater, StepFailed
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionKey, ExecutionStatus
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, Post, Transition
from holdfast.store.entries import Entry
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.failures import describe
from holdfast.workflows.inbox import Inbox, Request
from holdfast.workflows.parking import Reason

Program = Callable[[ExecutionRuntime], Awaitable[object]]
SETTLE_S = 0.02
"""How long nothing may move before an execution counts as waiting: finished branches go on first."""
_WORTH_SUSPENDING = timedelta(seconds=1)
_REASONS_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run of an execution ended.

    `saved` results came from storage, `run` were recorded now. A suspended one waits for `waits_for`, at the
    longest until `until`. With `reaches_out` other rows or executions may refer to one that has ended.
    """

    status: ExecutionStatus
    value: Any = None
    output: bytes | None = None
    error: dict[str, Any] | None = None
    until: datetime | None = None
    waits_for: tuple[Reason, ...] = ()
    reaches_out: bool = True
    saved: int = 0
    run: int = 0


@dataclass(frozen=True, slots=True)
class Parent:
    """Whom to tell of the end: the parent's inbox gets a message named by the child's key."""

    key: ExecutionKey
    path: str
    runtime: ExecutionRuntime | None = None


class Drive:
    """One run of one execution; `run` is called once."""

    def __init__(
        self,
        runtime: ExecutionRuntime,
        program: Program,
        *,
        annotation: Any = Any,
        parent: Parent | None = None,
    ) -> None:
        self._runtime = runtime
        self._program = program
        self._annotation = annotation
        self._parent = parent
        self._task: asyncio.Task[Any] | None = None
        self._inbox = Inbox(runtime, self._obey_cancel)
        self._forced: asyncio.Task[Outcome] | None = None  # the end of one that would not stop
        self._deadline: asyncio.TimerHandle | None = None
        self._suspended: Outcome | None = None
        self._handed_back = False
        self._last: asyncio.Future[Answer] | None = None  # the entry that ends this run
        self._at_work = False  # whether the task may be cancelled: the program runs, nothing final is written
        self._reading: asyncio.Task[None] | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._suspending: asyncio.Task[None] | None = None

    @property
    def cancelled(self) -> dict[str, Any] | None:
        """Why the execution was asked to stop for good; None if it was not."""
        if self._inbox.cancel is not None:
            return self._inbox.cancel.why
        parent = self._parent.runtime if self._parent else None
        above: Drive | None = getattr(parent, "drive", None)
        return above.cancelled if above is not None else None

    async def run(self) -> Outcome:
        """Run the program and write the end of this run.

        Raises `LeaseLost` when another owner has the execution, `DefinitionChanged` and `RetryLater` when it
        could not go on (it is handed back, not ended), and `CancelledError` when the caller was cancelled,
        also after handing it back.
        """
        runtime = self._runtime
        runtime.drive = self
        self._join_parent()
        runtime.quiet = self._look_quiet
        self._task = asyncio.current_task()
        runtime.holding.on_wake = self._woken
        try:
            if runtime.holding.wakes:
                await self._inbox.read()
            if self._inbox.cancel is not None:
                return await self._end_cancelled()
            return await self._work()
        finally:
            runtime.holding.on_wake = None
            if runtime.above is not None:
                runtime.above.inner.discard(runtime)
            self._leave()
            for helper in (self._reading, self._suspending):
                if helper is not None and not helper.done():
                    helper.cancel()
            for timer in (self._settling, self._deadline):
                if timer is not None:
                    timer.cancel()

    def _join_parent(self) -> None:
        runtime, above = self._runtime, self._parent.runtime if self._parent else None
        if above is not None:
            runtime.above = above
            above.inner.add(runtime)
            if above.pausing:
                runtime.pause()

    def _leave(self) -> None:
        """A step that the program left behind in a task of its own must not write after the end of this run.

        Whoever drops the run while its end is being written leaves that end in the queue.
        """
        holding = self._runtime.holding

        def leave(last: asyncio.Future[Answer] | None) -> None:
            if last is not None and not last.cancelled():
                last.exception()  # looked at, since nobody may be left who awaits it
            holding.lose(LeaseLost(f"execution {holding.id} does not run here any more"))

        if self._last is None or self._last.done():
            leave(self._last)
        else:
            self._last.add_done_callback(leave)

    async def _work(self) -> Outcome:
        runtime = self._runtime
        self._at_work = True
        if runtime.pausing:
            runtime.look_quiet()
        try:
            try:
                value = await self._program(runtime)
            finally:
                self._at_work = False
            if runtime.history.results:
                runtime.history.check_consumed()
        except asyncio.CancelledError:
            return await self._stopped()
        except HoldfastError as error:
            if runtime.is_sound and not isinstance(error, DefinitionChanged | RetryLater):
                return await self._end_failed(describe_end(error))
            runtime.fatal = runtime.fatal or error
        except Exception as error:
            if runtime.is_sound:
                return await self._end_failed(describe(error))
        if self._forced is not None:
            return await asyncio.shield(self._forced)
        if runtime.holding.lost is not None:
            raise runtime.holding.lost
        if runtime.fatal is not None:
            stopped = {"reason": "stopped", "error": describe(runtime.fatal)}
            if (ended := await self._hand_back(stopped)) is not None:
                return ended
            raise runtime.fatal
        return await self._end_completed(value)

    async def _stopped(self) -> Outcome:
        """The program was cancelled: find out by whom. What is written now is queued before it is awaited."""
        if self._forced is not None:
            self._uncancel()
            return await asyncio.shield(self._forced)
        if self._runtime.holding.lost is not None:
            self._uncancel()
            raise self._runtime.holding.lost
        if self._suspended is not None:
            self._uncancel()
            return self._suspended
        if (fatal := self._runtime.fatal) is not None:
            self._uncancel()
            if (ended := await self._hand_back({"reason": "stopped", "error": describe(fatal)})) is not None:
                return ended
            raise fatal
        if self.cancelled is not None:
            outcome = await self._end_cancelled()
            if self._inbox.cancel is None:
                raise asyncio.CancelledError  # the parent is being cancelled, and waits for this
            self._uncancel()
            return outcome
        await self._hand_back({"reason": "interrupted"})
        raise asyncio.CancelledError

    def _uncancel(self) -> None:
        """The cancellation was our own way to stop the program; it ends here."""
        if self._task is not None:
            self._task.uncancel()

    async def _end_completed(self, value: object) -> Outcome:
        try:
            output = codec.encode(value, self._annotation, what="output")
        except Misuse as error:
            return await self._end_failed(describe(error))
        placed = await self._runtime.engine.journal.place(self._runtime.holding, output)
        await self._write_end(EventType.EXECUTION_COMPLETED, ExecutionStatus.COMPLETED, payload=placed)
        return self._outcome(ExecutionStatus.COMPLETED, value=value, output=output)

    async def _end_failed(self, error: dict[str, Any]) -> Outcome:
        placed = await self._runtime.engine.journal.place(self._runtime.holding, codec.encode(error))
        await self._write_end(EventType.EXECUTION_FAILED, ExecutionStatus.FAILED, payload=placed)
        return self._outcome(ExecutionStatus.FAILED, error=error)

    async def _end_cancelled(self) -> Outcome:
        reason = self.cancelled or {}
        placed = await self._runtime.engine.journal.place(self._runtime.holding, codec.encode(reason))
        take = self._inbox.cancel.message if self._inbox.cancel else None
        await self._write_end(
            EventType.EXECUTION_CANCELLED, ExecutionStatus.CANCELLED, payload=placed, take=take
        )
        message = str(reason.get("reason", "")) or "it was cancelled"
        return self._outcome(ExecutionStatus.CANCELLED, error={"type": "cancelled", "message": message})

    async def _write_end(self, kind: EventType, status: ExecutionStatus, **fields: Any) -> None:
        holding, parent = self._runtime.holding, self._parent
        post = None
        if parent is not None:
            post = Post(parent.key, bytes(holding.key), "child", parent.path, None)
        transition = Transition(status, final=True)
        entry = Entry(holding, kind, transition=transition, post=post, **fields)
        self._last = waiter = self._runtime.engine.journal.append(entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():  # the entry stays in the queue, and `_leave` has to hear of it
                self._last = entry.waiter = asyncio.get_running_loop().create_future()
            raise

    async def _hand_back(self, why: dict[str, Any]) -> Outcome | None:
        """Give the execution up without ending it: the next `run` or worker goes on at once.

        A message that has come is read first, since nobody may be there to read it afterwards: what was asked
        to pause is set aside, and for what was cancelled the outcome of that is returned.
        """
        journal, holding = self._runtime.engine.journal, self._runtime.holding
        if holding.lost is not None or self._handed_back:
            return None
        self._handed_back = True
        placed = await journal.place(holding, codec.encode(why))
        while True:
            pause = self._inbox.pause
            status = ExecutionStatus.READY if pause is None else ExecutionStatus.PAUSED
            entry = Entry(
                holding,
                EventType.EXECUTION_SUSPENDED,
                payload=placed,
                transition=Transition(status, final=False, expect_wakes=self._inbox.seen),
                take=None if pause is None else pause.message,
            )
            self._last = journal.append(entry)
            if await asyncio.shield(self._last) is not Answer.WOKEN:
                return None
            await self._inbox.read()
            if self._inbox.cancel is not None:
                return await self._end_cancelled()

    # Messages.

    def _woken(self) -> None:
        if self._runtime.holding.lost is not None:
            self._interrupt()
        elif self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def _interrupt(self) -> None:
        """Stop the program. Once it has ended, writing its end decides, and tells of a lost execution."""
        if self._at_work and self._task is not None:
            self._task.cancel()

    async def _read(self) -> None:
        await self._inbox.read_until_heard()
        self._look_quiet()  # a suspension waits until what has come is read

    def _obey_cancel(self) -> None:
        self._interrupt()
        request = self._inbox.cancel
        limit_s = None if request is None else request.why.get("deadline_s")
        if isinstance(limit_s, int | float) and self._at_work:
            self._deadline = asyncio.get_running_loop().call_later(max(0.0, limit_s), self._force)

    def _force(self) -> None:
        """The time to stop is over: the execution ends now, whatever its steps still do."""
        runtime = self._runtime
        if self._at_work and runtime.is_sound:
            runtime.fatal = LeaseLost(f"execution {runtime.holding.id} was ended: it did not stop in time")
            self._forced = asyncio.get_running_loop().create_task(self._end_by_force(runtime.fatal))

    async def _end_by_force(self, cause: HoldfastError) -> Outcome:
        outcome = await self._end_cancelled()
        self._runtime.holding.lose(cause)
        return outcome

    # Suspending.

    def _look_quiet(self) -> None:
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._settling = None
        runtime = self._runtime
        if not self._at_work or runtime.active or self._inbox.cancel is not None:
            return
        if any(task is not None and not task.done() for task in (self._suspending, self._reading)):
            return
        # A message that comes behind those that have been read refuses the suspension.
        seen = self._inbox.seen
        if self._inbox.pause is not None:
            if runtime.is_at_work:
                return
            ending = self._set_aside(self._inbox.pause, seen)
        elif runtime.parked and not runtime.sitting:
            due = runtime.parking.next_due
            if due is not None and due - runtime.now() <= _WORTH_SUSPENDING:
                return
            ending = self._suspend(seen, due)
        else:
            return
        self._suspending = asyncio.get_running_loop().create_task(ending)

    async def _suspend(self, seen: int, due: datetime | None) -> None:
        due_in = None if due is None else max(due - self._runtime.now(), timedelta(0))
        reasons = self._runtime.parking.waits_for
        payload = {"waiting": [reason._asdict() for reason in reasons[:_REASONS_MAX]], "until": due}
        await self._put_down(
            Transition(ExecutionStatus.WAITING, final=False, due_in=due_in, expect_wakes=seen),
            payload,
            self._outcome(ExecutionStatus.WAITING, until=due, waits_for=reasons),
        )

    async def _set_aside(self, pause: Request, seen: int) -> None:
        transition = Transition(ExecutionStatus.PAUSED, final=False, expect_wakes=seen)
        outcome = self._outcome(ExecutionStatus.PAUSED)
        await self._put_down(transition, pause.why, outcome, take=pause.message)

    async def _put_down(
        self, transition: Transition, payload: dict[str, Any], outcome: Outcome, *, take: bytes | None = None
    ) -> None:
        """Give the execution up until something wakes it, unless a message has come meanwhile."""
        runtime = self._runtime
        try:
            placed = await runtime.engine.journal.place(runtime.holding, codec.encode(payload))
            answer = await runtime.engine.journal.append(
                Entry(
                    runtime.holding,
                    EventType.EXECUTION_SUSPENDED,
                    payload=placed,
                    transition=transition,
                    take=take,
                )
            )
        except HoldfastError as error:
            runtime.fatal = runtime.fatal or error
            self._interrupt()
            return
        if answer is Answer.WOKEN:
            await self._read()
            return
        self._handed_back = True
        self._suspended = outcome
        self._interrupt()

    def _outcome(self, status: ExecutionStatus, **fields: Any) -> Outcome:
        runtime = self._runtime
        fields.setdefault("reaches_out", runtime.reaches_out or status is ExecutionStatus.CANCELLED)
        return Outcome(status=status, saved=runtime.replayed, run=runtime.run, **fields)


def describe_end(error: BaseException) -> dict[str, Any]:
    """The error of a failed execution: that of the step that failed, with its path, or the program's own."""
    if isinstance(error, StepFailed) and isinstance(error.details.get("error"), dict):
        return {**error.details["error"], "step": error.details.get("path")}
    return describe(error)
