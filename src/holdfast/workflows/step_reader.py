"""Reads one step of a document: its kind, its policies and its values. See `reader` for the whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from holdfast.durations import format_duration, parse_duration
from holdfast.errors import HoldfastError, InvalidArgument
from holdfast.workflows.definition import StepDefinition
from holdfast.workflows.expressions import OPENING, Expression
from holdfast.workflows.problems import DocumentPath, Report, nearest
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.steps import registry
from holdfast.workflows.steps.base import BodyKind, StepKind
from holdfast.workflows.values import compile_condition, compile_text, compile_value

FAN_OUT_PARALLEL = 10
"""Items of a `for_each` that run at once when `max_parallel` says nothing."""
FAN_OUT_PARALLEL_MAX = 1_000

_POLICY_KEYS = ("retry", "timeout", "env")
_KEYS = ("id", "needs", "when", "for_each", "max_parallel", *_POLICY_KEYS, "with", "continue_on_error")
_RETRY_KEYS = ("max_attempts", "backoff", "multiplier", "max_backoff", "jitter", "on")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,99}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What steps have that say nothing themselves; `retry` is raw and filled key by key."""

    retry: Mapping[str, Any] = field(default_factory=dict)
    timeout: timedelta | None = None
    env: Mapping[str, Any] = field(default_factory=dict)


class StepReader:
    """Reads the step `raw` at `path`."""

    def __init__(self, path: DocumentPath, raw: Any, defaults: Defaults, report: Report) -> None:
        self.path = path
        self.raw: dict[str, Any] = raw if isinstance(raw, dict) else {}
        self.is_mapping = isinstance(raw, dict)
        self.defaults = defaults
        self.report = report

    def read(self) -> StepDefinition | None:
        """The step, or None when it has no usable id or kind; the report says why."""
        if not self.is_mapping:
            self._add((), "a step is a mapping", "write - id: hello and the rest below it")
            return None
        name, kind = self._id(), self._kind()
        if name is None or kind is None:
            return None
        arguments = self._arguments(kind)
        spec = self.raw[kind.name]
        kind.validate(spec, arguments, (*self.path, kind.name), self.report)
        if not isinstance(kind, BodyKind):
            self._refuse_policies(kind)
        takes_env = isinstance(kind, BodyKind) and kind.takes_env
        if not takes_env and isinstance(kind, BodyKind) and self.raw.get("env"):
            self._add(("env",), f"`{kind.name}` takes no env", "pass values through `with`")
        own_env = read_env(self.raw.get("env"), (*self.path, "env"), self.report)
        script = isinstance(spec, str) and OPENING in spec and kind.name == "shell"  # reported by its kind
        return StepDefinition(
            id=name,
            kind=kind,
            spec=spec if script else compile_value(spec, (*self.path, kind.name), self.report),
            arguments=compile_value(arguments, (*self.path, "with"), self.report),
            env={**self.defaults.env, **own_env} if takes_env else {},
            needs=self._needs(),
            when=self._when(),
            for_each=self._for_each(),
            max_parallel=self._max_parallel(),
            retry=self._retry(),
            timeout=self._timeout(),
            continue_on_error=self._flag("continue_on_error"),
        )

    def normalised(self) -> dict[str, Any]:
        """The step as the store keeps it: known spellings of the same thing become one."""
        step = {key: value for key, value in self.raw.items() if value is not None}
        if "needs" in step:
            step["needs"] = [step["needs"]] if isinstance(step["needs"], str) else step["needs"]
        if "timeout" in step:
            step["timeout"] = _duration_text(step["timeout"])
        if isinstance(step.get("retry"), dict):
            step["retry"] = {
                key: _duration_text(value) if key in ("backoff", "max_backoff") else value
                for key, value in step["retry"].items()
            }
        return step

    def _id(self) -> str | None:
        found = self.raw.get("id")
        if found is None:
            self._add((), "the step has no id", "add `id: …`")
        elif not isinstance(found, str) or not _ID.fullmatch(found):
            self._add(
                ("id",),
                f"{str(found)[:60]!r} is not an id",
                "use letters, digits, _ and -, up to 100, as text",
            )
        else:
            return found
        return None

    def _kind(self) -> StepKind | None:
        candidates: list[str] = []
        unknown = False
        for key in self.raw:
            if key in _KEYS:
                continue
            if key in registry.BUILT_IN or key in registry.plugins():
                candidates.append(key)
            else:
                unknown = True
                self._add(
                    (key,),
                    f"unknown key {key!r}",
                    nearest(key, (*_KEYS, *registry.BUILT_IN, *registry.plugins())),
                )
        if unknown and not candidates:
            return None  # the unknown key is most likely the misspelt kind
        if len(candidates) != 1:
            what = (
                "does nothing"
                if not candidates
                else f"is of {len(candidates)} kinds: {', '.join(candidates)}"
            )
            self._add((), f"the step {what}", f"give it one of {', '.join(registry.BUILT_IN)}")
            return None
        try:
            return registry.kind(candidates[0])
        except HoldfastError as error:
            self._add((candidates[0],), error.cause, error.fix)
            return None

    def _arguments(self, kind: StepKind) -> dict[str, Any]:
        found = self.raw.get("with")
        if found is None:
            return {}
        if not isinstance(found, dict):
            self._add(("with",), "`with` is a mapping", "write with: {name: value}")
            return {}
        for key in found:
            if kind.parameters is not None and key not in kind.parameters:
                known = nearest(key, kind.parameters) or f"{kind.name} takes none"
                self._add(("with", key), f"`{kind.name}` has no parameter {key!r}", known)
        return found

    def _refuse_policies(self, kind: StepKind) -> None:
        for key in _POLICY_KEYS:
            if self.raw.get(key) is not None:
                self._add((key,), f"`{kind.name}` takes no {key}", "remove it")

    def _needs(self) -> tuple[str, ...]:
        found = self.raw.get("needs")
        if found is None:
            return ()
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            self._add(("needs",), "`needs` is a list of step ids", "write needs: [a, b]")
            return ()
        return tuple(dict.fromkeys(listed))

    def _when(self) -> Expression | bool:
        found = self.raw.get("when")
        if found is None or isinstance(found, bool):
            return found is not False
        if not isinstance(found, str):
            self._add(("when",), "`when` is an expression", "write when: steps.test.status == 'completed'")
            return True
        return compile_condition(found, (*self.path, "when"), self.report) or True

    def _for_each(self) -> Any:
        found = self.raw.get("for_each")
        if found is None:
            return None
        path = (*self.path, "for_each")
        if isinstance(found, list):
            return compile_value(found, path, self.report)
        if isinstance(found, str) and OPENING in found:
            return compile_text(found, path, self.report)
        self.report.add(path, "`for_each` is a list", "write a list, or ${{ … }} that gives one")
        return []

    def _max_parallel(self) -> int:
        found = self.raw.get("max_parallel")
        if found is None:
            return FAN_OUT_PARALLEL
        if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= FAN_OUT_PARALLEL_MAX:
            self._add(("max_parallel",), f"max_parallel is {found!r}", f"use 1 to {FAN_OUT_PARALLEL_MAX}")
            return FAN_OUT_PARALLEL
        if self.raw.get("for_each") is None:
            self._add(("max_parallel",), "max_parallel without for_each", "remove it")
        return found

    def _retry(self) -> RetryPolicy:
        own = self.raw.get("retry")
        path = (*self.path, "retry")
        before = len(self.report.problems)
        read_retry(own, path, self.report)
        if len(self.report.problems) > before:
            return RetryPolicy()
        scratch = Report("")  # mistakes of the defaults are reported once, at the defaults
        return read_retry({**self.defaults.retry, **(own or {})}, path, scratch)

    def _timeout(self) -> timedelta | None:
        found = self.raw.get("timeout")
        if found is None:
            return self.defaults.timeout
        return read_timeout(found, (*self.path, "timeout"), self.report)

    def _flag(self, key: str) -> bool:
        found = self.raw.get(key, False)
        if not isinstance(found, bool):
            self._add((key,), f"{key} is {found!r}", "write true or false")
        return found is True

    def _add(self, below: DocumentPath, message: str, hint: str | None = None) -> None:
        self.report.add((*self.path, *below), message, hint)


def read_env(found: Any, path: DocumentPath, report: Report) -> dict[str, Any]:
    """Environment variables: names checked, values compiled."""
    if found is None:
        return {}
    if not isinstance(found, dict):
        report.add(path, "`env` is a mapping", "write env: {NAME: value}")
        return {}
    for name, value in found.items():
        if not _ENV_NAME.fullmatch(name):
            report.add((*path, name), f"{name[:60]!r} is not a variable's name", "use letters, digits and _")
        elif name.startswith("HOLDFAST_"):
            report.add((*path, name), f"{name!r} is set by the engine", "choose another name")
        if value is None:
            report.add((*path, name), f"{name!r} has no value", "write '' for an empty one")
    return {name: compile_value(value, (*path, name), report) for name, value in found.items()}


def read_retry(found: Any, path: DocumentPath, report: Report) -> RetryPolicy:
    """A retry policy; mistakes go to `report` and give the default one."""
    if found is None:
        return RetryPolicy()
    if not isinstance(found, dict):
        report.add(path, "`retry` is a mapping", "write retry: {max_attempts: 3}")
        return RetryPolicy()
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key not in _RETRY_KEYS:
            report.add((*path, key), f"unknown key {key!r}", nearest(key, _RETRY_KEYS))
        elif key in ("backoff", "max_backoff"):
            values[key] = _duration(value, (*path, key), report)
        elif key == "on":
            values[key] = tuple(value) if isinstance(value, list) else value
        elif key == "jitter" and not isinstance(value, bool):
            report.add((*path, key), f"jitter is {value!r}", "write true or false")
        else:
            values[key] = value
    try:
        return RetryPolicy(**{key: value for key, value in values.items() if value is not None})
    except InvalidArgument as error:
        report.add(path, error.cause, error.fix)
        return RetryPolicy()


def read_timeout(found: Any, path: DocumentPath, report: Report) -> timedelta | None:
    """A timeout of more than nothing."""
    duration = None if found is None else _duration(found, path, report)
    if duration == timedelta(0):
        report.add(path, "a timeout of 0s ends every attempt at once", "leave it out for no timeout")
    return duration


def _duration(found: Any, path: DocumentPath, report: Report) -> timedelta | None:
    if not isinstance(found, str):
        example = f"{found}s" if isinstance(found, int) and not isinstance(found, bool) else "30s"
        report.add(path, f"{found!r} is not a duration", f"write a number with a unit: {example}")
        return None
    try:
        return parse_duration(found)
    except InvalidArgument as error:
        report.add(path, error.cause, error.fix)
        return None


def _duration_text(value: Any) -> Any:
    try:
        return format_duration(parse_duration(value)) if isinstance(value, str) else value
    except InvalidArgument:
        return value
