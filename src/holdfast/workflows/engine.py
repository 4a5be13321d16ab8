"""Runs one execution that this process owns: replay, steps with attempts, timers, children, and its end.

A step costs one awaited durable write, its result. What is recorded is given back instead of run. Nobody but
the holder of the execution's epoch writes its history, and everything is written through the journal, so a
process that lost its execution finds out at its next write and stops.

    program ──▶ ExecutionRuntime ──▶ journal
                  ▲     │ results, attempts, timers
                  │     ▼
               History (what an earlier owner recorded)
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Protocol

from holdfast.errors import (
    Conflict,
    HoldfastError,
    StepFailed,
    StepTimeout,
    UnsupportedValue,
)
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, Executor
from holdfast.store.journal import Entry, Holding, Journal
from holdfast.workflows.failures import describe, error_type
from holdfast.workflows.progress import Happening, Observer, Progress
from holdfast.workflows.replay import History, Recorded, arguments_changed
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.runtime import StepCall

INPUT_BYTES_MAX = 8 * 2**10
STARTED_AFTER_S = 0.05
SHOWN_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child execution ended, and the message in the parent's inbox that says so.

    With `until` it has not ended but waits for that moment.
    """

    output: bytes | None
    error: dict[str, Any] | None
    message: bytes
    until: datetime | None = None


class Children(Protocol):
    """Starts child executions and waits for their end."""

    async def run(
        self, parent: ExecutionRuntime, path: str, workflow: str, version: str | None, input: bytes
    ) -> ChildEnd:
        """Run the child that belongs to `path`, or go on with it; the same path is the same child."""
        ...


class Engine:
    """What all executions of a process share: the journal, chance for jitter, and one watch on long steps."""

    def __init__(
        self,
        journal: Journal,
        reader: Executor,
        *,
        children: Children | None = None,
        observer: Observer | None = None,
        chance: Callable[[], float] = random.random,
        sleep_max_s: float | None = None,
    ) -> None:
        self.journal = journal
        self.reader = reader
        self.children = children
        self.observer = observer
        self.chance = chance
        self.sleep_max_s = sleep_max_s
        self._young: dict[int, tuple[int, ExecutionRuntime, str, int, int | None]] = {}
        self._begun = 0
        self._watch: asyncio.TimerHandle | None = None

    def step_begins(self, runtime: ExecutionRuntime, path: str, attempt: int, ordinal: int | None) -> int:
        """Note a running body, for `step_ends`; one that lasts gets a `step.started` event."""
        self._begun = mark = self._begun + 1
        self._young[mark] = (time.monotonic_ns(), runtime, path, attempt, ordinal)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(STARTED_AFTER_S, self._tell_started)
        return mark

    def step_ends(self, mark: int) -> None:
        """The body is done, however it went."""
        self._young.pop(mark, None)

    def _tell_started(self) -> None:
        self._watch = None
        # Half the period: a step is noticed between one half and one and a half periods after it began.
        border = time.monotonic_ns() - round(STARTED_AFTER_S * 0.5e9)
        told = []
        for mark, (began, runtime, path, attempt, ordinal) in self._young.items():
            if began > border:
                break  # kept in order of their beginning
            told.append(mark)
            elapsed_us = (time.monotonic_ns() - began) // 1000
            self.journal.append_soon(
                Entry(
                    runtime.holding, EventType.STEP_STARTED, path,
                    ordinal=ordinal, attempt=attempt, duration_us=elapsed_us,
                )
            )  # fmt: skip
        for mark in told:
            del self._young[mark]
        if self._young:
            self._watch = asyncio.get_running_loop().call_later(STARTED_AFTER_S, self._tell_started)

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


class ExecutionRuntime:
    """One execution at work; see `Runtime` for what a program may ask of it."""

    def __init__(
        self, engine: Engine, holding: Holding, history: History, *, clock_offset: timedelta = timedelta(0)
    ) -> None:
        self.execution_id = holding.id
        self.engine = engine
        self.holding = holding
        self.history = history
        # The database's clock as an offset to ours, so that a deadline set by another host means the same.
        self._clock_offset = clock_offset
        self.fatal: HoldfastError | None = None
        self.active = 0
        self.parked: dict[str, datetime] = {}
        self.quiet: Callable[[], None] | None = None
        self.drive: object | None = None
        self.run = 0
        self.replayed = 0

    async def step(self, call: StepCall) -> Any:
        """See `Runtime.step`."""
        encoded = codec.encode(call.arguments, what=call.path)
        return await self.perform(
            call.path, None, encoded, call.body, call.retry, call.timeout, call.annotation
        )

    async def perform(
        self,
        path: str,
        ordinal: int | None,
        encoded: bytes,
        body: Callable[[int], Awaitable[object]],
        retry: RetryPolicy,
        timeout: timedelta | None,
        annotation: Any,
    ) -> Any:
        """The step at `path`, its arguments encoded; the hot path of everything."""
        digest = codec.digest(encoded)
        recorded = self.history.results.pop(path, None)
        if recorded is not None:
            return await self._replay(path, recorded, digest, encoded, annotation)
        self.active += 1
        try:
            attempt = self.history.attempts.get(path, 0) + 1 if self.history.attempts else 1
            while True:
                if self.engine.observer is not None:
                    self._tell(Happening.STEP_RUNNING, path, attempt)
                mark = self.engine.step_begins(self, path, attempt, ordinal)
                began = time.monotonic_ns()
                failure = None
                try:
                    work = body(attempt)
                    value = await (work if timeout is None else _bounded(work, timeout, path))
                    result = codec.encode(value, annotation, what=path)
                except (Exception, asyncio.CancelledError) as error:
                    failure = _failure(error)
                finally:
                    self.engine.step_ends(mark)
                spent_us = (time.monotonic_ns() - began) // 1000
                if failure is None:
                    break
                await self._attempt_failed(path, ordinal, attempt, failure, retry, digest, encoded, spent_us)
                attempt += 1
            journal = self.engine.journal
            entry = Entry(
                self.holding,
                EventType.STEP_COMPLETED,
                path,
                generation=self.history.generations.get(path, 0) if self.history.generations else 0,
                ordinal=ordinal,
                attempt=attempt,
                result=True,
                duration_us=spent_us,
                input_digest=digest,
                input=encoded if len(encoded) <= INPUT_BYTES_MAX else None,
                payload=journal.place_small(result) or await journal.place(self.holding, result),
            )
            if await journal.append(entry) is Answer.RECORDED:
                self._stop_recorded(path)
            self.run += 1
            if self.engine.observer is not None:
                self._tell(Happening.STEP_COMPLETED, path, attempt, spent_us)
            return value
        finally:
            self.active -= 1
            if self.parked:
                self._look_quiet()

    async def _replay(
        self, path: str, recorded: Recorded, digest: bytes, encoded: bytes, annotation: Any
    ) -> Any:
        if recorded.input_digest is not None and recorded.input_digest != digest:
            await self._arguments_differ(path, encoded)
        self.replayed += 1
        if self.engine.observer is not None:
            self._tell(Happening.STEP_REPLAYED, path, recorded.attempt)
        if recorded.type in (EventType.STEP_FAILED, EventType.CHILD_FAILED):
            raise _failed(path, codec.decode(recorded.payload or b"", what=path))
        return None if recorded.payload is None else codec.decode(recorded.payload, annotation, what=path)

    async def _arguments_differ(self, path: str, encoded: bytes) -> NoReturn:
        generation = self.history.generations.get(path, 0)
        rows = await self.engine.reader.fetch("events.input", self.holding.key, path, generation)
        before = shown(rows[0][0]) if rows else "(too large to keep)"
        self.stop(arguments_changed(path, before, shown(encoded)))

    async def _attempt_failed(
        self,
        path: str,
        ordinal: int | None,
        attempt: int,
        error: Exception,
        retry: RetryPolicy,
        digest: bytes,
        encoded: bytes,
        spent_us: int,
    ) -> None:
        """Record a failed attempt; return after the rest before the next one, or raise `StepFailed`."""
        described = describe(error)
        again = not isinstance(error, UnsupportedValue) and retry.retries(error_type(error), attempt)
        placed = await self.engine.journal.place(self.holding, codec.encode(described, what=path))
        await self._write(
            EventType.ATTEMPT_FAILED if again else EventType.STEP_FAILED,
            path,
            ordinal=ordinal,
            attempt=attempt,
            result=not again,
            duration_us=spent_us,
            input_digest=digest,
            input=encoded if len(encoded) <= INPUT_BYTES_MAX else None,
            payload=placed,
        )
        if not again:
            self.run += 1
            self._tell(Happening.STEP_FAILED, path, attempt, spent_us, described)
            raise _failed(path, described) from error
        rest_s = retry.delay(attempt, self.engine.chance).total_seconds()
        self._tell(Happening.ATTEMPT_FAILED, path, attempt, spent_us, described, until=rest_s)
        await asyncio.sleep(rest_s)

    async def skip(self, path: str, name: str, reason: str) -> None:
        """See `Runtime.skip`."""
        if self.history.results.pop(path, None) is not None:
            self.replayed += 1
            self._tell(Happening.STEP_REPLAYED, path, 0)
            return
        placed = await self.engine.journal.place(self.holding, codec.encode({"reason": reason}))
        await self._write(EventType.STEP_SKIPPED, path, result=True, payload=placed)
        self.run += 1
        self._tell(Happening.STEP_SKIPPED, path, 0)

    async def sleep(self, path: str, name: str, duration: timedelta, *, ordinal: int | None = None) -> None:
        """See `Runtime.sleep`."""
        recorded = self.history.results.pop(path, None)
        if recorded is not None:
            self.replayed += 1
            self._tell(Happening.STEP_REPLAYED, path, 0)
            return
        timer = self.history.timers.get(path)
        if timer is None:
            due = self.now() + duration
            await self._write(
                EventType.TIMER_STARTED,
                path,
                ordinal=ordinal,
                duration_us=round(duration / timedelta(microseconds=1)),
            )
        else:
            due = timer.due
        await self._wait_until(path, due)
        await self._write(EventType.TIMER_FIRED, path, ordinal=ordinal, result=True)
        self.run += 1
        self._tell(Happening.STEP_COMPLETED, path, 0)

    async def _wait_until(self, path: str, due: datetime) -> None:
        limit_s = self.engine.sleep_max_s
        remaining_s = (due - self.now()).total_seconds()
        if self.engine.observer is not None and remaining_s > 0:
            self._tell(Happening.TIMER_WAITING, path, 0, until=remaining_s)
        if limit_s is not None and remaining_s > limit_s:
            await self._park(path, due)
            return
        self.active += 1  # a timer that is sat through keeps the execution here
        try:
            await self._until(due)
        finally:
            self.active -= 1
            self._look_quiet()

    async def _park(self, path: str, due: datetime) -> None:
        """Too long to sit through: when nothing else moves, the execution is suspended, which cancels this.

        Returns when other branches kept the execution busy until `due`.
        """
        self.parked[path] = due
        self._look_quiet()
        try:
            await self._until(due)
        finally:
            del self.parked[path]

    async def _until(self, due: datetime) -> None:
        # In bounded rests, since the clock may be set meanwhile.
        while (remaining_s := (due - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(min(remaining_s, 60.0))

    async def child(self, path: str, name: str, workflow: str, version: str | None, input: object) -> Any:
        """See `Runtime.child`."""
        return await self.descend(path, None, workflow, version, codec.encode(input, what=path), Any)

    async def descend(
        self,
        path: str,
        ordinal: int | None,
        workflow: str,
        version: str | None,
        encoded: bytes,
        annotation: Any,
    ) -> Any:
        """The child execution at `path`, its input encoded."""
        digest = codec.digest(encoded)
        recorded = self.history.results.pop(path, None)
        if recorded is not None:
            return await self._replay(path, recorded, digest, encoded, annotation)
        if self.engine.children is None:
            raise StepFailed(f"step {path!r} starts a child, but this engine runs none", where=path)
        self.active += 1
        try:
            self._tell(Happening.CHILD_RUNNING, path, 1)
            began = time.monotonic_ns()
            end = await self.engine.children.run(self, path, workflow, version, encoded)
            while end.until is not None:
                self.active -= 1
                try:
                    await self._park(path, end.until)
                finally:
                    self.active += 1
                end = await self.engine.children.run(self, path, workflow, version, encoded)
            await self._write(
                EventType.CHILD_COMPLETED if end.error is None else EventType.CHILD_FAILED,
                path,
                ordinal=ordinal,
                attempt=1,
                result=True,
                duration_us=(time.monotonic_ns() - began) // 1000,
                input_digest=digest,
                input=encoded if len(encoded) <= INPUT_BYTES_MAX else None,
                payload=await self.engine.journal.place(
                    self.holding, (end.output or b"") if end.error is None else codec.encode(end.error)
                ),
                take=end.message,
            )
            self.run += 1
            spent_us = (time.monotonic_ns() - began) // 1000
            if end.error is not None:
                self._tell(Happening.STEP_FAILED, path, 1, spent_us, end.error)
                raise _failed(path, end.error)
            self._tell(Happening.STEP_COMPLETED, path, 1, spent_us)
            return codec.decode(end.output or b"", annotation, what=path)
        finally:
            self.active -= 1
            self._look_quiet()

    async def _write(self, kind: EventType, path: str, **fields: Any) -> None:
        """Write one event of a step and wait until it is on disk."""
        entry = Entry(self.holding, kind, path, generation=self.history.generations.get(path, 0), **fields)
        if await self.engine.journal.append(entry) is Answer.RECORDED:
            self._stop_recorded(path)

    def _stop_recorded(self, path: str) -> NoReturn:
        self.stop(Conflict(f"step {path!r} has a result already", where=f"execution {self.execution_id}"))

    @property
    def is_sound(self) -> bool:
        """Whether the program's own end counts: the execution is ours and nothing ended this run."""
        return self.fatal is None and self.holding.lost is None

    def refuse_while_stopping(self) -> None:
        """Refuse a new call of a program that is being stopped; for the `finally` blocks it runs through.

        An execution that is handed back or suspended goes on later, and what its clean-up recorded now would
        stand in its history too early. One that is being cancelled for good may clean up.
        """
        if self.fatal is not None:
            raise self.fatal
        task = asyncio.current_task()
        if task is not None and task.cancelling() and getattr(self.drive, "cancelled", None) is None:
            raise asyncio.CancelledError

    def now(self) -> datetime:
        """The database's time as well as this process knows it."""
        return datetime.now(UTC) + self._clock_offset

    def stop(self, error: HoldfastError) -> NoReturn:
        """End this run, not the execution: `error` wins over whatever the program makes of it."""
        if self.fatal is None:
            self.fatal = error
        raise error

    def _look_quiet(self) -> None:
        if self.parked and not self.active and self.quiet is not None:
            self.quiet()

    def _tell(
        self,
        kind: Happening,
        path: str,
        attempt: int,
        spent_us: int | None = None,
        error: dict[str, Any] | None = None,
        until: float | None = None,
    ) -> None:
        if self.engine.observer is not None:
            duration = None if spent_us is None else timedelta(microseconds=spent_us)
            self.engine.observer(Progress(kind, self.execution_id, path, attempt, duration, error, until))


def shown(encoded: bytes) -> str:
    """Recorded arguments for an error message, cut to a readable length."""
    text = repr(codec.decode(encoded))
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def _failure(error: Exception | asyncio.CancelledError) -> Exception:
    """Why an attempt failed. A body that ends as cancelled though nobody cancelled it has failed as well."""
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    failure = StepFailed("the body was cancelled by something it awaited")
    failure.__cause__ = error
    return failure


async def _bounded(work: Awaitable[object], timeout: timedelta, path: str) -> object:
    try:
        async with asyncio.timeout(timeout.total_seconds()) as scope:
            return await work
    except TimeoutError as error:
        if scope.expired():
            raise _timed_out(path, timeout) from error
        raise


def _timed_out(path: str, timeout: timedelta) -> StepTimeout:
    return StepTimeout(f"the attempt took longer than {timeout.total_seconds():g} s", where=f"step {path}")


def _failed(path: str, error: dict[str, Any]) -> StepFailed:
    return StepFailed(
        f"step {path!r} failed: {error.get('type')}: {error.get('message')}",
        where=f"step {path}",
        error=error,
        path=path,
    )
