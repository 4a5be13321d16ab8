"""The port between what a workflow says and the engine that makes it durable.

An interpreter (of YAML, or of a decorated function) decides which step comes next; a `Runtime` gives it
the recorded result of that step, or runs the step and records it. Replay is therefore nothing special
here: the interpreter makes the same calls in a second run and gets recorded answers.

Cancelling an execution raises `asyncio.CancelledError` through these awaits; nobody swallows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from holdfast.workflows.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of one step.

    `path` is its identity, unique in the execution: `build`, or `fetch[3]` for an item of a fan-out;
    `name` is the step's id without an index. `arguments` is JSON-able: it is stored as the step's input
    and its digest is compared at replay, so it has to follow from recorded results alone. `body` takes
    the attempt number (from 1) and gives the result, which is decoded as `annotation` at replay.
    """

    path: str
    name: str
    arguments: object
    body: Callable[[int], Awaitable[object]]
    retry: RetryPolicy
    timeout: timedelta | None = None
    annotation: Any = Any


class Runtime(Protocol):
    """What an execution may ask for. Calls may run concurrently as long as their paths differ."""

    execution_id: str

    async def step(self, call: StepCall) -> Any:
        """The recorded result of `call.path`, or that of running its body with attempts and recording it.

        The result is durable when this returns. Raises `StepFailed`, with the error as a mapping in its
        details, when the step failed for good, now or in the recorded history; `DefinitionChanged` when
        the recorded arguments differ.
        """
        ...

    async def skip(self, path: str, name: str, reason: str) -> None:
        """Record that the step does not run. A second call for the same path changes nothing."""
        ...

    async def sleep(self, path: str, name: str, duration: timedelta) -> None:
        """Wait until `duration` after the first call for `path`, however often the process restarts."""
        ...

    async def child(self, path: str, name: str, workflow: str, version: str | None, input: object) -> Any:
        """Run `workflow` as a child execution and return its output; `StepFailed` when it failed.

        `version` None means the newest registered one. The child's id follows from the parent and `path`,
        so calling again finds the same child.
        """
        ...
