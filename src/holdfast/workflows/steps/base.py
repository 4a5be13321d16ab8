"""What a kind of step is: the port that built-in kinds and plugins implement.

A kind owns one key of a step (`shell:`, `python:` …), the *spec*, and says which keys `with` may have.
`validate` looks at the raw definition and never runs or imports anything of the user's; `prepare` runs
once before the first step of an execution and may. A `BodyKind` does its work in `run`, at least once
per attempt; a `RuntimeKind` has no body and maps to the engine itself (a timer, a child execution).

Both are stateless: one instance serves all executions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdfast.config.schema import Http
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """One attempt of one step, everything rendered.

    `folder` is where the definition's file stood: relative paths start there. `idempotency_key` is the same
    for every attempt of this step of this execution, on every machine. `timeout` is the step's own, which
    bounds the attempt already; `http` is what the operator lets requests do.
    """

    execution_id: str
    path: str
    step: str
    attempt: int
    spec: Any
    arguments: Mapping[str, Any]
    env: Mapping[str, str]
    folder: Path
    timeout: timedelta | None = None
    http: Http = field(default_factory=Http)

    @property
    def idempotency_key(self) -> str:
        """What to send to services that take such a key."""
        return f"{self.execution_id}:{self.path}"


class StepKind(ABC):
    """What both sorts of kinds have."""

    name: str
    """The key of the step that selects this kind."""
    parameters: frozenset[str] | None = frozenset()
    """The keys that `with` may have; None for any."""

    @abstractmethod
    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """Report what is wrong with the raw `spec` (at `path`) and with `with` (beside it)."""

    def prepare(self, spec: Any, folder: Path) -> None:
        """Raise a `HoldfastError` for what would make every run fail, such as a missing function.

        `spec` is raw: it may hold templates, about which nothing is known yet.
        """
        return


class BodyKind(StepKind):
    """A kind whose steps do something, as attempts that are recorded."""

    takes_env: bool = False
    """Whether `env` means something to it: it starts processes."""

    @abstractmethod
    async def run(self, context: StepContext) -> Any:
        """One attempt; its result is the step's output. Cancelling it has to end everything it started."""


class RuntimeKind(StepKind):
    """A kind that the engine itself performs; it takes no retry, timeout or env."""

    only_waits: bool = False
    """Whether nothing is lost when the rest of the execution has failed and it is left alone."""

    @abstractmethod
    async def perform(self, runtime: Runtime, context: StepContext) -> Any:
        """The step's output. Called again at replay, with equal arguments."""
