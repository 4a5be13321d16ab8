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
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from holdfast.config.schema import Http
from holdfast.errors import Conflict, HoldfastError, UnsupportedValue
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.store.drivers.base import Answer, Executor
from holdfast.store.entries import Entry, Holding
from holdfast.store.journal import Journal
from holdfast.workflows import descent, parking
from holdfast.workflows.descent import ChildCall, Children
from holdfast.workflows.failures import describe, error_type
from holdfast.workflows.outside import Outside
from holdfast.workflows.parking import Awaited, Parking
from holdfast.workflows.progress import Happening, Observer, Progress
from holdfast.workflows.replay import History, Recorded, arguments_changed
from holdfast.workflows.results import INPUT_BYTES_MAX, bounded, failed, failure_of, kept, shown
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.runtime import StepCall

STARTED_AFTER_S = 0.05


class Engine:
    """What all executions of a process share: the journal, chance for jitter, and one watch on long steps."""

    def __init__(
        self,
        journal: Journal,
        reader: Executor,
        *,
        children: Children | None = None,
        outside: Outside | None = None,
        observer: Observer | None = None,
        chance: Callable[[], float] = random.random,
        sleep_max_s: float | None = None,
        http: Http | None = None,
    ) -> None:
        self.journal = journal
        self.reader = reader
        self.children = children
        self.outside = outside
        self.observer = observer
        self.chance = chance
        self.sleep_max_s = sleep_max_s
        self.http = http
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
                    generation=runtime.history.generations.get(path, 0), ordinal=ordinal, attempt=attempt,
                    duration_us=elapsed_us,
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
        # Steps at work; waits that are sat through here; waits for which the execution may be suspended.
        self.active = 0
        self.sitting = 0
        self.parked: dict[str, datetime | None] = {}
        self.parking = Parking(self)
        self.pausing = False
        # The parent and the children that are driven here: a pause lets their running steps end too.
        self.above: ExecutionRuntime | None = None
        self.inner: set[ExecutionRuntime] = set()
        self._unpaused: asyncio.Event | None = None
        # Whether other rows or executions may refer to this one: an end without them cleans nothing up.
        self.reaches_out = False
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
            return await self.replay(path, recorded, digest, encoded, annotation)
        if self.pausing:
            await self.hold_while_pausing()
        self.active += 1
        try:
            attempt = self.history.attempts.get(path, 0) + 1 if self.history.attempts else 1
            while True:
                if self.engine.observer is not None:
                    self.tell(Happening.STEP_RUNNING, path, attempt)
                mark = self.engine.step_begins(self, path, attempt, ordinal)
                began = time.monotonic_ns()
                failure = None
                try:
                    value = await (
                        body(attempt) if timeout is None else bounded(body(attempt), timeout, path)
                    )
                    result = codec.encode(value, annotation, what=path)
                except (Exception, asyncio.CancelledError) as error:
                    failure = failure_of(error)
                finally:
                    self.engine.step_ends(mark)
                spent_us = (time.monotonic_ns() - began) // 1000
                if failure is None:
                    break
                await self._attempt_failed(path, ordinal, attempt, failure, retry, digest, encoded, spent_us)
                attempt += 1
            journal = self.engine.journal
            entry = Entry(
                self.holding, EventType.STEP_COMPLETED, path,
                generation=self.history.generations.get(path, 0) if self.history.generations else 0,
                ordinal=ordinal, attempt=attempt, result=True, duration_us=spent_us, input_digest=digest,
                input=encoded if len(encoded) <= INPUT_BYTES_MAX else None,
                payload=journal.place_small(result) or await journal.place(self.holding, result),
            )  # fmt: skip
            if await journal.append(entry) is Answer.RECORDED:
                self._stop_recorded(path)
            self.run += 1
            if self.engine.observer is not None:
                self.tell(Happening.STEP_COMPLETED, path, attempt, spent_us)
            return value
        finally:
            self.active -= 1
            if self.parked or self.pausing:
                self.look_quiet()

    async def replay(
        self, path: str, recorded: Recorded, digest: bytes, encoded: bytes, annotation: Any
    ) -> Any:
        """The recorded result of `path`, or its recorded failure, raised."""
        if recorded.input_digest is not None and recorded.input_digest != digest:
            await self._arguments_differ(path, encoded)
        self.replayed += 1
        if self.engine.observer is not None:
            self.tell(Happening.STEP_REPLAYED, path, recorded.attempt)
        if recorded.type in (EventType.STEP_FAILED, EventType.CHILD_FAILED):
            raise failed(path, codec.decode(recorded.payload or b"", what=path))
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
        again = not isinstance(error, UnsupportedValue) and retry.retries(
            error_type(error), attempt, final=getattr(error, "is_final", False)
        )
        placed = await self.engine.journal.place(self.holding, codec.encode(described, what=path))
        await self.write(
            EventType.ATTEMPT_FAILED if again else EventType.STEP_FAILED,
            path,
            ordinal=ordinal,
            attempt=attempt,
            result=not again,
            duration_us=spent_us,
            input_digest=digest,
            input=kept(encoded),
            payload=placed,
        )
        if not again:
            self.run += 1
            self.tell(Happening.STEP_FAILED, path, attempt, spent_us, described)
            raise failed(path, described) from error
        asked = getattr(error, "retry_after", timedelta(0))
        rest_s = retry.delay(attempt, self.engine.chance, at_least=asked).total_seconds()
        self.tell(Happening.ATTEMPT_FAILED, path, attempt, spent_us, described, until=rest_s)
        await self.parking.rest(rest_s)

    async def skip(self, path: str, name: str, reason: str) -> None:
        """See `Runtime.skip`."""
        if self.history.results.pop(path, None) is not None:
            self.note_replayed(path)
            return
        placed = await self.engine.journal.place(self.holding, codec.encode({"reason": reason}))
        await self.write(EventType.STEP_SKIPPED, path, result=True, payload=placed)
        self.run += 1
        self.tell(Happening.STEP_SKIPPED, path, 0)

    async def sleep(self, path: str, name: str, duration: timedelta, *, ordinal: int | None = None) -> None:
        """See `Runtime.sleep`."""
        await parking.sleep(self, path, duration, ordinal=ordinal)

    async def await_message(
        self, path: str, ordinal: int | None, awaited: Awaited, *, annotation: Any = Any, encoded: bytes = b""
    ) -> Any:
        """The value of the message that ends the step at `path`, recorded as its result.

        The message is one of kind `signal` in this execution's inbox whose name is `path`; its payload
        is the encoded value. `encoded` are the step's arguments, compared at replay. Raises `StepFailed`, the
        one that `awaited` names at a deadline or for an answer that means failure, now and at every replay.
        """
        return await parking.await_message(self, path, ordinal, awaited, annotation, encoded)

    async def child(self, path: str, name: str, workflow: str, version: str | None, input: object) -> Any:
        """See `Runtime.child`."""
        call = ChildCall(workflow=workflow, version=version, input=codec.encode(input, what=path))
        return await descent.descend(self, path, None, call, Any, child=path)

    async def descend(
        self, path: str, ordinal: int | None, call: ChildCall, annotation: Any, *, child: str | None = None
    ) -> Any:
        """The output of a child execution; `StepFailed` when it failed.

        The child is that of `child`, the path it was started at, or without it that of `path`.
        """
        return await descent.descend(self, path, ordinal, call, annotation, child=child or path)

    async def start_child(self, path: str, ordinal: int | None, call: ChildCall) -> str:
        """Start the child execution at `path` and go on; its id."""
        return await descent.start(self, path, ordinal, call)

    async def hold_while_pausing(self) -> None:
        """Begin nothing: the execution is being set aside, which cancels this, unless it is taken back."""
        while self._unpaused is not None:
            self.look_quiet()
            await self._unpaused.wait()

    def pause(self) -> None:
        """Begin no step from now on."""
        if self._unpaused is None:
            self.pausing, self._unpaused = True, asyncio.Event()
            for child in self.inner:
                child.pause()
            self.look_quiet()

    def unpause(self) -> None:
        """Go on with what was held."""
        event, self._unpaused, self.pausing = self._unpaused, None, False
        if event is not None:
            event.set()
            for child in self.inner:
                child.unpause()

    @property
    def is_at_work(self) -> bool:
        """Whether a step of it, or of a child that runs here, is under way."""
        return self.active > 0 or any(child.is_at_work for child in self.inner)

    def look_into_inbox(self) -> None:
        """Have the inbox read: a message is known to be there."""
        if self.holding.on_wake is not None:
            self.holding.on_wake()

    async def write(self, kind: EventType, path: str, **fields: Any) -> None:
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

    def look_quiet(self) -> None:
        """Nothing may be at work any more: have it looked at."""
        if not self.active and (self.parked or self.pausing) and self.quiet is not None:
            self.quiet()
        if self.pausing and self.above is not None:
            self.above.look_quiet()

    def note_replayed(self, path: str) -> None:
        """A step had its result already."""
        self.replayed += 1
        self.tell(Happening.STEP_REPLAYED, path, 0)

    def tell(
        self,
        kind: Happening,
        path: str,
        attempt: int,
        spent_us: int | None = None,
        error: dict[str, Any] | None = None,
        until: float | None = None,
        awaits: str | None = None,
    ) -> None:
        """Tell whoever watches this run."""
        if self.engine.observer is not None:
            duration = None if spent_us is None else timedelta(microseconds=spent_us)
            progress = Progress(kind, self.execution_id, path, attempt, duration, error, until, awaits)
            self.engine.observer(progress)
