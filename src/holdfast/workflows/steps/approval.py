"""`approval: {title, form, timeout}`: a person decides; the output has approved, by, at, answer, comment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.errors import BodyFailed, InvalidArgument
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.forms import check_form
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.requests import ApprovalRequest, ask_for_approval
from holdfast.workflows.runtime import Runtime
from holdfast.workflows.steps.base import RuntimeKind, StepContext
from holdfast.workflows.steps.wait import check_choice, check_keys, check_timeout, duration_of

_KEYS = ("title", "form", "timeout", "on_timeout", "on_reject", "id")


class ApprovalKind(RuntimeKind):
    """A title, which may be a template, and a JSON Schema for the answer.

    A rejection fails the step unless `on_reject: continue`; a deadline that passes does unless
    `on_timeout: continue`, which gives null.
    """

    name = "approval"
    only_waits = True

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """Everything that is no template."""
        if not check_keys(spec, _KEYS, ("title",), path, report, "approval: {title: Publish?, timeout: 3d}"):
            return
        for key in ("title", "id"):
            if spec.get(key) is not None and not isinstance(spec[key], str):
                report.add((*path, key), f"{key} is {spec[key]!r}", "write text")
        if spec.get("form") is not None:
            try:
                check_form(spec["form"])
            except InvalidArgument as error:
                report.add((*path, "form"), error.cause, error.fix)
        check_timeout(spec, path, report)
        check_choice(spec, "on_reject", path, report)

    async def perform(self, runtime: Runtime, context: StepContext) -> Any:
        """Ask, and wait for the decision."""
        spec: dict[str, Any] = context.spec
        try:
            request = ApprovalRequest(
                title=str(spec["title"]),
                form=spec.get("form"),
                due=duration_of(spec.get("timeout")),
                id=None if spec.get("id") is None else str(spec["id"]),
                goes_on=spec.get("on_timeout") == "continue",
                fails_rejected=spec.get("on_reject") != "continue",
            )
            if request.form is not None:
                check_form(request.form)
        except InvalidArgument as error:
            raise BodyFailed(error.cause, fix=error.fix, kind="expression") from error
        assert isinstance(runtime, ExecutionRuntime)  # the only runtime that reaches outside
        return await ask_for_approval(runtime, context.path, None, request)
