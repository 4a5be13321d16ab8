"""What a worker says while it serves: lines on stderr, as many as `logging` asks for and in its form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.cli.output import one_line, seconds_text
from holdfast.workflows.progress import Happening, Progress

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation

_LEVELS = ("debug", "info", "warning", "error")
_LINE_MAX = 500
_VERBS = {
    Happening.STEP_COMPLETED: "completed",
    Happening.STEP_FAILED: "failed",
    Happening.ATTEMPT_FAILED: "failed and is tried again",
}


class WorkerLog:
    """Lines for a person or a service's journal. Values of steps are never among them."""

    def __init__(self, invocation: Invocation, level: str) -> None:
        self._invocation = invocation
        self._level = 0 if invocation.flags.verbose else _LEVELS.index(level)

    @property
    def tells_steps(self) -> bool:
        """Whether steps are worth observing."""
        return self._level == 0

    def say(self, text: str) -> None:
        """Something ordinary."""
        if self._level <= _LEVELS.index("info"):
            self._invocation.tell("info", one_line(text, _LINE_MAX))

    def warn(self, text: str) -> None:
        """Something that a person should do something about."""
        if self._level <= _LEVELS.index("warning"):
            self._invocation.tell("warning", one_line(text, _LINE_MAX))

    def step(self, progress: Progress) -> None:
        """One happening of one step."""
        verb = _VERBS.get(progress.kind)
        if verb is None:
            return
        took = "" if progress.duration is None else f" in {seconds_text(progress.duration.total_seconds())}"
        self._invocation.tell("debug", f"{progress.execution}  {progress.path} {verb}{took}")
