"""`wait: {signal: NAME, timeout: 3d}`: the next signal of that name; its payload is the step's output."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from holdfast.durations import parse_duration
from holdfast.errors import BodyFailed, InvalidArgument
from holdfast.workflows.engine import ExecutionRuntime
from holdfast.workflows.expressions import OPENING
from holdfast.workflows.problems import DocumentPath, Report, nearest
from holdfast.workflows.requests import check_signal_name, wait_for_signal
from holdfast.workflows.runtime import Runtime
from holdfast.workflows.steps.base import RuntimeKind, StepContext

OUTCOMES = ("fail", "continue")
_KEYS = ("signal", "timeout", "on_timeout")


class WaitKind(RuntimeKind):
    """A signal by name, which may be a template. At the deadline the step fails, or goes on with null."""

    name = "wait"
    only_waits = True

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """The name, unless a template gives it later, and what happens at the deadline."""
        if not check_keys(spec, _KEYS, ("signal",), path, report, "wait: {signal: name, timeout: 3d}"):
            return
        name = spec["signal"]
        if not (isinstance(name, str) and OPENING in name):
            try:
                check_signal_name(name)
            except InvalidArgument as error:
                report.add((*path, "signal"), error.cause, error.fix)
        check_timeout(spec, path, report)

    async def perform(self, runtime: Runtime, context: StepContext) -> Any:
        """Wait."""
        spec: dict[str, Any] = context.spec
        due = duration_of(spec.get("timeout"))
        try:
            check_signal_name(spec["signal"])
        except InvalidArgument as error:
            raise BodyFailed(error.cause, fix=error.fix, kind="expression") from error
        assert isinstance(runtime, ExecutionRuntime)  # the only runtime that reaches outside
        goes_on = spec.get("on_timeout") == "continue"
        return await wait_for_signal(runtime, context.path, None, spec["signal"], due, goes_on=goes_on)


def check_keys(
    spec: Any,
    known: tuple[str, ...],
    required: tuple[str, ...],
    path: DocumentPath,
    report: Report,
    example: str,
) -> bool:
    """Whether `spec` is a mapping with the required keys; the report says what is wrong with them."""
    if not isinstance(spec, dict):
        report.add(path, f"`{path[-1]}` is a mapping", f"write {example}")
        return False
    for key in spec:
        if key not in known:
            report.add((*path, key), f"unknown key {key!r}", nearest(key, known))
    missing = [key for key in required if spec.get(key) is None]
    for key in missing:
        report.add(path, f"`{path[-1]}` has no {key}", f"write {example}")
    return not missing


def check_timeout(spec: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
    """The timeout, unless a template gives it later, and `on_timeout`."""
    timeout = spec.get("timeout")
    if timeout is not None and not (isinstance(timeout, str) and OPENING in timeout):
        try:
            if not isinstance(timeout, str):
                raise InvalidArgument(f"{timeout!r} is not a duration", fix="write a number with a unit: 3d")
            parse_duration(timeout)
        except InvalidArgument as error:
            report.add((*path, "timeout"), error.cause, error.fix)
    check_choice(spec, "on_timeout", path, report)
    if spec.get("on_timeout") is not None and timeout is None:
        report.add((*path, "on_timeout"), "on_timeout without timeout", "remove it, or say how long to wait")


def check_choice(spec: Mapping[str, Any], key: str, path: DocumentPath, report: Report) -> None:
    """A key that says whether a step fails or goes on."""
    if spec.get(key) is not None and spec[key] not in OUTCOMES:
        report.add((*path, key), f"{key} is {spec[key]!r}", "write fail or continue")


def duration_of(value: Any) -> timedelta | None:
    """A rendered timeout; `BodyFailed` when a template gave something else."""
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise InvalidArgument(
                f"{value!r} has no unit", fix="write it into the template: ${{ inputs.days }}d"
            )
        return parse_duration(value)
    except InvalidArgument as error:
        raise BodyFailed(error.cause, fix=error.fix, kind="expression") from error
