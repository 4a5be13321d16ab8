"""`agent: {capability: …}`: a task that an agent with that capability carries out; its result is the output.

`with` is the task's payload. The step costs no worker while it waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.durations import parse_duration
from holdfast.errors import BodyFailed, HoldfastError
from holdfast.workflows.agent_tasks import perform_task
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.expressions import OPENING
from holdfast.workflows.outside import TaskSpec
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.runtime import Runtime
from holdfast.workflows.steps.base import RuntimeKind, StepContext

_KEYS = ("capability", "type", "priority", "timeout", "lease", "max_attempts")


class AgentKind(RuntimeKind):
    """A task for an agent."""

    name = "agent"
    parameters = None
    only_waits = True

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """The keys, and the values that hold no template."""
        if not isinstance(spec, Mapping) or not spec.get("capability"):
            report.add(path, "`agent` needs a capability", "write agent: {capability: research}")
            return
        for key in spec:
            if key not in _KEYS:
                report.add((*path, key), f"`agent` has no key {key!r}", f"use {', '.join(_KEYS)}")
        for key in ("timeout", "lease"):
            value = spec.get(key)
            if isinstance(value, str) and OPENING in value:
                continue
            try:
                if value is not None:
                    parse_duration(value)
            except HoldfastError as error:
                report.add((*path, key), error.cause, error.fix or "write it like 30s")

    async def perform(self, runtime: Runtime, context: StepContext) -> Any:
        """Offer the task, or find it again, and wait for its answer."""
        assert isinstance(runtime, ExecutionRuntime)  # the only runtime that reaches outside
        given: Mapping[str, Any] = context.spec
        try:
            spec = TaskSpec(
                capability=str(given["capability"]),
                payload=dict(context.arguments),
                type=given.get("type"),
                priority=int(given.get("priority") or 0),
                lease=parse_duration(given.get("lease") or "60s"),
                max_attempts=int(given.get("max_attempts") or 3),
            )
            timeout = None if given.get("timeout") is None else parse_duration(given["timeout"])
        except (HoldfastError, ValueError, TypeError) as error:
            raise BodyFailed(f"the task can not be offered: {error}", kind="agent") from error
        return await perform_task(runtime, context.path, None, spec, timeout)
