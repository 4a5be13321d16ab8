"""What an execution waits for: timers, and messages that its inbox brings for one of its steps.

A step that waits is parked: it costs nothing here but a task, and when every other step is parked as well the
execution is suspended and costs nothing at all. A wait is either sat through (the process has nothing better
to do) or parked, by `Engine.sleep_max_s`.

    step ── prepare ──▶ outside row (a wait, an approval, a task), fenced by the execution's epoch
      ▲                      │ somebody answers
      └── inbox message ◀────┘            the result's event takes the message: matched once
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.errors import HoldfastError, LeaseLost, RetryLater
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.workflows.failures import describe
from holdfast.workflows.progress import Happening
from holdfast.workflows.replay import Timer
from holdfast.workflows.results import failed, kept

if TYPE_CHECKING:
    from holdfast.workflows.engine import ExecutionRuntime

NAME_SEPARATOR = "\x1f"
"""Behind the path of a step, in the name of an inbox message: the mailbox that a signal came through."""
_LOOK_S = 60.0
"""A long wait looks at the clock this often, since it may be set meanwhile."""


class Reason(NamedTuple):
    """What a step waits for, in words: `signal approve:otters`, `timer nap`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Message(NamedTuple):
    """One message of the inbox that names a step."""

    id: bytes
    payload: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What a step waits for and how its end is recorded.

    `prepare` makes the outside row; it is called in every run that has no result yet, has to be idempotent
    and fenced, and may tell by True that the message is there already. `due` counts from the first call. When
    it has passed, `expire` takes the outside row back; False means that an answer came first, and that answer
    counts. Then `expired` is recorded and raised, or without it the result is None. `failure` may call an
    answer a failed step: it gives the error to record.
    """

    reason: Reason
    prepare: Callable[[], Awaitable[bool | None]]
    due: timedelta | None = None
    expire: Callable[[], Awaitable[bool]] | None = None
    expired: HoldfastError | None = None
    failure: Callable[[Any], dict[str, Any] | None] | None = None


class Parking:
    """The waits of one execution in this process."""

    def __init__(self, runtime: ExecutionRuntime) -> None:
        self._runtime = runtime
        self._ears: dict[str, asyncio.Future[None]] = {}
        self._heard: dict[str, dict[bytes, Message]] = {}
        self._reasons: dict[str, tuple[Reason, ...]] = {}

    @property
    def next_due(self) -> datetime | None:
        """When the first of the parked waits is over; None when all of them are for messages only."""
        return min((due for due in self._runtime.parked.values() if due is not None), default=None)

    @property
    def waits_for(self) -> tuple[Reason, ...]:
        """All that is waited for."""
        return tuple(reason for each in self._reasons.values() for reason in each)

    def deliver(self, path: str, message: Message) -> None:
        """A message has come for the step at `path`. Telling it again changes nothing."""
        known = self._heard.setdefault(path, {})
        if message.id in known:
            return
        known[message.id] = message
        ear = self._ears.get(path)
        if ear is not None and not ear.done():
            # At work from now on, not only when its task runs: nothing may suspend the execution in between.
            ear.set_result(None)
            self._leave(path)

    def heard(self, path: str) -> Message | None:
        """The message that came first for `path`."""
        known = self._heard.get(path)
        return next(iter(known.values())) if known else None

    def forget(self, path: str) -> None:
        """Drop what was heard for `path`: its step acts on it."""
        self._heard.pop(path, None)

    async def sit(self, path: str, due: datetime) -> None:
        """Wait for a timer here, which keeps the execution here."""
        runtime = self._runtime
        runtime.sitting += 1
        try:
            await self._until(asyncio.get_running_loop().create_future(), due)
        finally:
            runtime.sitting -= 1
            runtime.look_quiet()

    async def rest(self, seconds: float) -> None:
        """The pause between two attempts: no step is at work, and the execution stays here."""
        runtime = self._runtime
        runtime.active -= 1
        runtime.sitting += 1
        runtime.look_quiet()
        try:
            await asyncio.sleep(seconds)
            if runtime.pausing:
                await runtime.hold_while_pausing()
        finally:
            runtime.sitting -= 1
            runtime.active += 1

    async def park(self, path: str, due: datetime | None, *reasons: Reason) -> Message | None:
        """Wait for a message or until `due`, from within a step that counts as active.

        When nothing else moves the execution is suspended, which cancels this; unless `sleep_max_s` is None,
        then it sits here and hears its inbox.
        """
        if (message := self.heard(path)) is not None:
            return message
        runtime = self._runtime
        self._ears[path] = ear = asyncio.get_running_loop().create_future()
        self._reasons[path] = reasons
        if runtime.engine.sleep_max_s is None:
            runtime.sitting += 1
        else:
            runtime.parked[path] = due
        runtime.active -= 1
        runtime.look_quiet()
        try:
            await self._until(ear, due)
        finally:
            self._leave(path)
        return self.heard(path)

    def _leave(self, path: str) -> None:
        """The step at `path` is at work again, if it is not already."""
        if self._ears.pop(path, None) is None:
            return
        runtime = self._runtime
        if path in runtime.parked:
            del runtime.parked[path]
        else:
            runtime.sitting -= 1
        self._reasons.pop(path, None)
        runtime.active += 1

    async def _until(self, ear: asyncio.Future[None], due: datetime | None) -> None:
        if due is None:
            await ear
            return
        while not ear.done() and (left_s := (due - self._runtime.now()).total_seconds()) > 0:
            await asyncio.wait([ear], timeout=min(left_s, _LOOK_S))


async def sleep(runtime: ExecutionRuntime, path: str, duration: timedelta, *, ordinal: int | None) -> None:
    """A durable timer; see `Runtime.sleep`."""
    if runtime.history.results.pop(path, None) is not None:
        runtime.note_replayed(path)
        return
    if runtime.pausing:
        await runtime.hold_while_pausing()
    runtime.active += 1
    try:
        due = await _deadline(runtime, path, duration, ordinal)
        assert due is not None  # a sleep has a length
        await _wait_until(runtime, path, due)
        await runtime.write(EventType.TIMER_FIRED, path, ordinal=ordinal, result=True)
        runtime.run += 1
        runtime.tell(Happening.STEP_COMPLETED, path, 0)
    finally:
        runtime.active -= 1
        runtime.look_quiet()


async def _wait_until(runtime: ExecutionRuntime, path: str, due: datetime) -> None:
    limit_s = runtime.engine.sleep_max_s
    remaining_s = (due - runtime.now()).total_seconds()
    if remaining_s > 0:
        runtime.tell(Happening.TIMER_WAITING, path, 0, until=remaining_s)
    if limit_s is not None and remaining_s > limit_s:
        # Returns when other branches kept the execution busy until `due`.
        await runtime.parking.park(path, due, Reason("timer", path))
        return
    runtime.active -= 1
    try:
        await runtime.parking.sit(path, due)
    finally:
        runtime.active += 1


async def _deadline(
    runtime: ExecutionRuntime,
    path: str,
    duration: timedelta | None,
    ordinal: int | None,
    what: Reason | None = None,
) -> datetime | None:
    """When the wait at `path` is over, fixed by its first call, which is recorded. None: it has no end."""
    timer = runtime.history.timers.get(path)
    if timer is not None:
        return timer.due
    due = None if duration is None else runtime.now() + duration
    length_us = None if duration is None else round(duration / timedelta(microseconds=1))
    payload = None if what is None else runtime.engine.journal.place_small(codec.encode(what._asdict()))
    await runtime.write(
        EventType.TIMER_STARTED, path, ordinal=ordinal, duration_us=length_us, payload=payload
    )
    runtime.history.timers[path] = Timer(due)
    return due


async def await_message(
    runtime: ExecutionRuntime,
    path: str,
    ordinal: int | None,
    awaited: Awaited,
    annotation: Any,
    encoded: bytes,
) -> Any:
    """Wait for the message that ends the step at `path`; see `ExecutionRuntime.await_message`."""
    digest = codec.digest(encoded)
    recorded = runtime.history.results.pop(path, None)
    runtime.reaches_out = True
    if recorded is not None:
        return await runtime.replay(path, recorded, digest, encoded, annotation)
    if runtime.pausing:
        await runtime.hold_while_pausing()
    runtime.active += 1
    try:
        fields: dict[str, Any] = {
            "ordinal": ordinal,
            "attempt": 1,
            "input_digest": digest,
            "input": kept(encoded),
        }
        due = await _deadline(runtime, path, awaited.due, ordinal, awaited.reason)
        try:
            message = await _message(runtime, path, awaited, due)
        except LeaseLost as error:
            runtime.holding.lose(error)
            raise
        except RetryLater as error:
            runtime.stop(error)
        if message is None:
            return await _expire(runtime, path, awaited, fields)
        return await _receive(runtime, path, awaited, message, annotation, fields)
    finally:
        runtime.active -= 1
        runtime.look_quiet()


async def _message(
    runtime: ExecutionRuntime, path: str, awaited: Awaited, due: datetime | None
) -> Message | None:
    """The message for `path`, or None when the deadline came first and the outside row is taken back."""
    parking = runtime.parking
    message = parking.heard(path)
    if message is None:
        if await awaited.prepare():
            runtime.look_into_inbox()
        left_s = None if due is None else (due - runtime.now()).total_seconds()
        runtime.tell(Happening.MESSAGE_WAITING, path, 0, until=left_s, awaits=str(awaited.reason))
        message = await parking.park(path, due, awaited.reason)
    if message is None and awaited.expire is not None and not await awaited.expire():
        runtime.look_into_inbox()  # an answer that came first counts
        message = await parking.park(path, None, awaited.reason)
    return message


async def _receive(
    runtime: ExecutionRuntime,
    path: str,
    awaited: Awaited,
    message: Message,
    annotation: Any,
    fields: dict[str, Any],
) -> Any:
    value, error = _read(path, awaited, message, annotation)
    kind = EventType.SIGNAL_RECEIVED if error is None else EventType.STEP_FAILED
    payload = (message.payload or codec.encode(None)) if error is None else codec.encode(error)
    placed = await runtime.engine.journal.place(runtime.holding, payload)
    await runtime.write(kind, path, result=True, payload=placed, take=message.id, **fields)
    runtime.parking.forget(path)
    runtime.run += 1
    if error is not None:
        runtime.tell(Happening.STEP_FAILED, path, 1, error=error)
        raise failed(path, error)
    runtime.tell(Happening.STEP_COMPLETED, path, 1)
    return value


def _read(
    path: str, awaited: Awaited, message: Message, annotation: Any
) -> tuple[Any, dict[str, Any] | None]:
    """What came, or the error to record. A message that does not fit its type fails the step, and is gone."""
    if message.payload is None:
        return None, None
    try:
        value = codec.decode(message.payload, annotation, what=path)
    except HoldfastError as error:
        return None, describe(error)
    return value, None if awaited.failure is None else awaited.failure(value)


async def _expire(runtime: ExecutionRuntime, path: str, awaited: Awaited, fields: dict[str, Any]) -> None:
    runtime.run += 1
    if awaited.expired is None:
        await runtime.write(EventType.TIMER_FIRED, path, result=True, **fields)
        runtime.tell(Happening.STEP_COMPLETED, path, 0)
        return
    error = describe(awaited.expired)
    placed = await runtime.engine.journal.place(runtime.holding, codec.encode(error))
    await runtime.write(EventType.STEP_FAILED, path, result=True, payload=placed, **fields)
    runtime.tell(Happening.STEP_FAILED, path, 0, error=error)
    raise failed(path, error)
