"""How far an execution is, from what its log tells; nothing is written for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.events.steps import UNFINISHED, read_steps
from holdfast.records.executions import Execution, ExecutionStatus, Step, StepProgress
from holdfast.records.workflows import StoredDefinition
from holdfast.store.store import Store


async def read_progress(
    store: Store, execution: Execution, steps: Sequence[Step] | None = None
) -> StepProgress:
    """How far an execution is. Reads its log, unless its `steps` were read before."""
    known = await read_steps(store, execution, values=False) if steps is None else steps
    definition = await store.get_definition(execution.definition, tenant=execution.tenant)
    return progress_of(execution, known, definition)


def progress_of(
    execution: Execution, steps: Sequence[Step], definition: StoredDefinition | None
) -> StepProgress:
    """How far an execution with these steps is."""
    if definition is None or definition.kind != "yaml":
        ended = sum(step.status not in UNFINISHED for step in steps)
        completed = execution.status is ExecutionStatus.COMPLETED
        return StepProgress(ended=ended, known=ended if completed else None)
    planned: Sequence[Mapping[str, Any]] = definition.document.get("steps", ())
    if execution.status is ExecutionStatus.COMPLETED:
        return StepProgress(ended=len(planned), known=len(planned))
    seen: dict[str, list[bool]] = {}
    for step in steps:
        name = step.path.partition("/")[0].partition("[")[0]
        seen.setdefault(name, []).append(step.status not in UNFINISHED)
    return StepProgress(ended=sum(_has_ended(each, planned, seen) for each in planned), known=len(planned))


def _has_ended(
    step: Mapping[str, Any], planned: Sequence[Mapping[str, Any]], seen: Mapping[str, Sequence[bool]]
) -> bool:
    ended = seen.get(step["id"])
    if "for_each" not in step:
        return ended is not None and all(ended)
    # How many elements it has is not known from outside; that it has ended shows in what comes after it.
    followed = any(step["id"] in (each.get("needs") or ()) and each["id"] in seen for each in planned)
    return followed and all(ended or ())
