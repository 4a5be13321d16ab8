"""Child executions as steps of their parent: awaited here, or parked for until their end is told.

A child that runs in this process is awaited. One that is queued, waits, or runs elsewhere parks its parent:
its end leaves a message in the parent's inbox, so nobody polls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.errors import StepFailed
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.workflows.parking import Reason
from holdfast.workflows.progress import Happening
from holdfast.workflows.results import failed, kept

if TYPE_CHECKING:
    from holdfast.workflows.engine import ExecutionRuntime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCall:
    """Which workflow a step starts, and how. With a `queue` it is left there for a worker.

    `detach` is the policy for the parent's end: the child goes on then, instead of being cancelled.
    """

    workflow: str
    version: str | None
    input: bytes
    queue: str | None = None
    class_: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    limit_key: str | None = None
    dedupe_key: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    detach: bool = False


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child execution ended, and the message in the parent's inbox that says so."""

    output: bytes | None
    error: dict[str, Any] | None
    message: bytes


@dataclass(frozen=True, slots=True)
class ChildAway:
    """A child that is not at work here: its end will be told. With `until` it is worth a look then."""

    id: str
    until: datetime | None = None
    waits_for: tuple[Reason, ...] = ()


class Children(Protocol):
    """Starts child executions and waits for their end."""

    async def run(self, parent: ExecutionRuntime, path: str, call: ChildCall) -> ChildEnd | ChildAway:
        """Run the child that belongs to `path`, or go on with it; the same path is the same child."""
        ...

    async def start(self, parent: ExecutionRuntime, path: str, call: ChildCall) -> str:
        """Start the child that belongs to `path` without waiting for it; its id."""
        ...


async def descend(
    runtime: ExecutionRuntime,
    path: str,
    ordinal: int | None,
    call: ChildCall,
    annotation: Any,
    *,
    child: str,
) -> Any:
    """The end of the child that was started at `child`, as the result of `path`."""
    digest = codec.digest(call.input)
    recorded = runtime.history.results.pop(path, None)
    runtime.reaches_out = True
    if recorded is not None:
        return await runtime.replay(path, recorded, digest, call.input, annotation)
    if runtime.pausing:
        await runtime.hold_while_pausing()
    runtime.active += 1
    try:
        runtime.tell(Happening.CHILD_RUNNING, path, 1)
        began = time.monotonic_ns()
        end = await _end_of(runtime, child, call)
        spent_us = (time.monotonic_ns() - began) // 1000
        payload = (end.output or b"") if end.error is None else codec.encode(end.error)
        await runtime.write(
            EventType.CHILD_COMPLETED if end.error is None else EventType.CHILD_FAILED,
            path,
            ordinal=ordinal,
            attempt=1,
            result=True,
            duration_us=spent_us,
            input_digest=digest,
            input=kept(call.input),
            payload=await runtime.engine.journal.place(runtime.holding, payload),
            take=end.message,
        )
        runtime.run += 1
        if end.error is not None:
            runtime.tell(Happening.STEP_FAILED, path, 1, spent_us, end.error)
            raise failed(path, end.error)
        runtime.tell(Happening.STEP_COMPLETED, path, 1, spent_us)
        return codec.decode(end.output or b"", annotation, what=path)
    finally:
        runtime.active -= 1
        runtime.look_quiet()


async def _end_of(runtime: ExecutionRuntime, path: str, call: ChildCall) -> ChildEnd:
    children = runtime.engine.children
    if children is None:
        raise StepFailed(f"step {path!r} starts a child, but this engine runs none", where=path)
    while True:
        # Waiting for a child that runs here is no work of ours: a pause need not wait for it.
        runtime.active -= 1
        runtime.sitting += 1
        try:
            found = await children.run(runtime, path, call)
        finally:
            runtime.sitting -= 1
            runtime.active += 1
        if isinstance(found, ChildEnd):
            return found
        await runtime.parking.park(path, found.until, *(found.waits_for or (Reason("child", found.id),)))
        runtime.parking.forget(path)


async def start(runtime: ExecutionRuntime, path: str, ordinal: int | None, call: ChildCall) -> str:
    """Start the child at `path` and do not wait: its id. The same path is the same child in every run."""
    digest = codec.digest(call.input)
    recorded = runtime.history.results.pop(path, None)
    runtime.reaches_out = True
    if recorded is not None:
        return str(await runtime.replay(path, recorded, digest, call.input, str))
    children = runtime.engine.children
    if children is None:
        raise StepFailed(f"step {path!r} starts a child, but this engine runs none", where=path)
    if runtime.pausing:
        await runtime.hold_while_pausing()
    runtime.active += 1
    try:
        id_ = await children.start(runtime, path, call)
        await runtime.write(
            EventType.STEP_COMPLETED,
            path,
            ordinal=ordinal,
            attempt=1,
            result=True,
            input_digest=digest,
            input=kept(call.input),
            payload=runtime.engine.journal.place_small(codec.encode(id_)),
        )
        runtime.run += 1
        runtime.tell(Happening.STEP_COMPLETED, path, 1)
        return id_
    finally:
        runtime.active -= 1
        runtime.look_quiet()
