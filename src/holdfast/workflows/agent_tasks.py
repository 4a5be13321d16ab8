"""A step that an agent carries out: the workflow's side."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar, overload

from holdfast.durations import Duration, parse_duration
from holdfast.errors import InvalidArgument, StepTimeout
from holdfast.store import codec
from holdfast.workflows import branches
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.outside import TaskSpec
from holdfast.workflows.parking import Awaited, Reason

T = TypeVar("T")


@overload
async def agent_task(
    capability: str,
    payload: object = None,
    *,
    model: type[T],
    type: str | None = None,
    priority: int = 0,
    timeout: Duration | None = None,
    lease: Duration = "60s",
    max_attempts: int = 3,
) -> T: ...
@overload
async def agent_task(
    capability: str,
    payload: object = None,
    *,
    model: None = None,
    type: str | None = None,
    priority: int = 0,
    timeout: Duration | None = None,
    lease: Duration = "60s",
    max_attempts: int = 3,
) -> Any: ...
async def agent_task(
    capability: str,
    payload: object = None,
    *,
    model: Any = None,
    type: str | None = None,
    priority: int = 0,
    timeout: Duration | None = None,
    lease: Duration = "60s",
    max_attempts: int = 3,
) -> Any:
    """Have an agent with `capability` carry out a task, and give its result; costs no worker while it waits.

    The agent renews its claim within `lease`; the task of a lost one returns, until `max_attempts` claims
    have been used up. `model` is what the result is decoded as. Raises `StepFailed` when the task failed, or
    `timeout` passed, counted from the first call. Example::

        notes = await hf.agent_task("research", {"topic": topic}, timeout="1h", model=Notes)
    """
    branch = branches.current.get()
    if branch is None:
        raise InvalidArgument(
            f"a task for {capability!r} was asked for outside a workflow", fix="call it in a workflow"
        )
    spec = TaskSpec(
        capability=capability, payload=payload, type=type, priority=priority, lease=parse_duration(lease),
        max_attempts=max_attempts,
    )  # fmt: skip
    path, ordinal = branch.call("agent_task")
    limit = None if timeout is None else parse_duration(timeout)
    result = await perform_task(branch.runtime, path, ordinal, spec, limit)
    return result if model is None else codec.decode(codec.encode(result), model, what=path)


async def perform_task(
    runtime: ExecutionRuntime, path: str, ordinal: int | None, spec: TaskSpec, timeout: timedelta | None
) -> Any:
    """The result of the task that belongs to the step at `path`."""
    outside, holding = runtime.engine.outside, runtime.holding
    if outside is None:
        raise InvalidArgument(f"step {path!r} asks for an agent, but this engine has no store for tasks")
    generation = runtime.history.generations.get(path, 0)
    id_ = f"{runtime.execution_id}:{path}" + (f"~{generation}" if generation else "")  # `#` counts calls
    awaited = Awaited(
        reason=Reason("agent", spec.capability),
        prepare=lambda: outside.offer_task(holding, path, id_, spec),
        due=timeout,
        expire=lambda: outside.withdraw_task(holding, id_),
        expired=StepTimeout(f"no agent completed the task within {timeout}", where=f"step {path}"),
        failure=lambda answer: answer.get("error"),
    )
    arguments = {"capability": spec.capability, "type": spec.type, "payload": spec.payload}
    encoded = codec.encode(arguments, what=path)
    answer = await runtime.await_message(path, ordinal, awaited, encoded=encoded)
    return answer["result"]
