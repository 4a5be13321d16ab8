"""`sleep: 30s`: a durable timer; its end is fixed when it starts and outlives the process; no output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.durations import parse_duration
from holdfast.errors import BodyFailed, InvalidArgument
from holdfast.workflows.expressions import OPENING
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.runtime import Runtime
from holdfast.workflows.steps.base import RuntimeKind, StepContext


class SleepKind(RuntimeKind):
    """A duration with its unit, or a template that gives one."""

    name = "sleep"
    only_waits = True

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """The duration, unless a template gives it later."""
        if not isinstance(spec, str):
            report.add(path, f"{spec!r} is not a duration", "write a number with a unit: sleep: 30s")
        elif OPENING not in spec:
            try:
                parse_duration(spec)
            except InvalidArgument as error:
                report.add(path, error.cause, error.fix)

    async def perform(self, runtime: Runtime, context: StepContext) -> None:
        """Wait."""
        if not isinstance(context.spec, str):
            raise BodyFailed(
                f"sleep got {context.spec!r}, which has no unit",
                fix="write the unit into the template: ${{ inputs.seconds }}s",
                kind="expression",
            )
        try:
            duration = parse_duration(context.spec)
        except InvalidArgument as error:
            raise BodyFailed(error.cause, fix=error.fix, kind="expression") from error
        await runtime.sleep(context.path, context.step, duration)
