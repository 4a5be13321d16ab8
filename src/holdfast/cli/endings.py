"""How an execution stood when a command was done with it: lines for a person, the record, the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdfast.cli.output import counted, one_line, seconds_text
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.workflows.driving import Outcome
    from holdfast.workflows.parking import Reason

FAILED = 7
CANCELLED = 8
WAITING = 9
_CODES = {
    ExecutionStatus.COMPLETED: 0,
    ExecutionStatus.FAILED: FAILED,
    ExecutionStatus.CANCELLED: CANCELLED,
}
INTERRUPTED = "interrupted"
_STDERR_LINES = 10
_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One execution and how it ended, or that it has not.

    `status` is `interrupted` after Ctrl-C, and after --timeout.
    """

    id: str
    workflow: str
    status: str
    output: Any = None
    error: Mapping[str, Any] | None = None
    until: datetime | None = None
    waits_for: tuple[Reason, ...] = ()
    saved: int = 0
    run: int = 0
    repeated: int = 0
    seconds: float = 0.0
    already: bool = False  # it had ended before this command
    counted: bool = True  # false for what another process ran

    @property
    def exit_code(self) -> int:
        """The exit code of a command whose only execution this is."""
        return (
            WAITING
            if self.status not in list(ExecutionStatus)
            else _CODES.get(ExecutionStatus(self.status), WAITING)
        )

    def record(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "id": self.id,
            "workflow": self.workflow,
            "status": self.status,
            "output": self.output,
            "error": self.error,
            "until": self.until,
            "waits_for": [reason._asdict() for reason in self.waits_for],
            "saved": self.saved,
            "run": self.run,
            "repeated": self.repeated,
            "duration": round(self.seconds, 3),
        }


def ending_of(
    id: str, workflow: str, outcome: Outcome, *, seconds: float, repeated: int = 0, already: bool = False
) -> Ending:
    """The ending that an outcome tells of."""
    output = codec.decode(outcome.output, what=f"output of {id}") if outcome.output else None
    return Ending(
        id=id,
        workflow=workflow,
        status=str(outcome.status),
        output=output,
        error=outcome.error,
        until=outcome.until,
        waits_for=outcome.waits_for,
        saved=outcome.saved,
        run=outcome.run,
        repeated=repeated,
        seconds=seconds,
        already=already,
    )


def tell(ending: Ending, invocation: Invocation, *, resume: str) -> None:
    """The last lines on stderr: what became of it and what to do next. `resume` is the command."""
    counted = f"   ({_counts(ending)})" if ending.counted else ""
    took = seconds_text(ending.seconds)
    match ending.status:
        case "completed" if ending.already:
            lines = [f"✔ {ending.id} had completed before; nothing was run"]
        case "completed":
            lines = [f"✔ {ending.id} completed in {took}{counted}"]
        case "failed":
            how = f"failed after {took}{counted}"
            how = "had failed before; nothing was run" if ending.already else how
            lines = [f"✖ {ending.id} {how}", *_error_lines(ending)]
        case "cancelled":
            why = one_line(str((ending.error or {}).get("message", "")))
            lines = [f"⊘ {ending.id} was cancelled{f': {why}' if why else ''}"]
        case "waiting":
            lines = _waiting_lines(ending, counted, resume)
        case "paused":
            lines = [
                f"⏸ {ending.id} is paused{counted}",
                f"  go on with: holdfast executions resume {ending.id}",
            ]
        case _:
            after = f" after {took}" if ending.seconds else ""
            lines = [f"⏸ {ending.id} was stopped{after}; what is done is saved", f"  resume with: {resume}"]
    for line in lines:
        invocation.say(_styled(line, invocation))


def _styled(line: str, invocation: Invocation) -> str:
    color = {"✔": "32", "✖": "31", "⊘": "33", "⏸": "34"}.get(line[:1])
    if color is None or not invocation.colored(invocation.stderr):
        return line
    return f"\x1b[{color}m{line[0]}\x1b[0m{line[1:]}"


def _counts(ending: Ending) -> str:
    saved = counted(ending.saved, "step", "steps")
    return f"{saved} saved before, {ending.run:,} run, {ending.repeated:,} repeated"


def _waiting_lines(ending: Ending, counts: str, resume: str) -> list[str]:
    reasons = [reason for reason in ending.waits_for if reason.kind != "timer"]
    if not reasons:
        return [f"⏸ {ending.id} waits {_until(ending.until)}{counts}", f"  go on with: {resume}"]
    names = ", ".join(one_line(str(reason)) for reason in reasons[:_REASONS_SHOWN])
    more = f" and {len(reasons) - _REASONS_SHOWN} more" if len(reasons) > _REASONS_SHOWN else ""
    saved = counted(ending.saved + ending.run, "step", "steps")
    lines = [f"⏸ {ending.id} waiting for {names}{more}   ({saved} saved, resume any time)"]
    answers = {"signal": "holdfast signals send", "approval": "holdfast approvals approve"}
    if ending.until is not None:
        lines.append(f"  at most {_until(ending.until)}")
    lines += [
        f"  answer with: {answers[reason.kind]} {shlex.quote(reason.name)}"
        for reason in reasons[:_REASONS_SHOWN]
        if reason.kind in answers
    ]
    return [*lines, f"  go on with: {resume}"]


def _until(until: datetime | None) -> str:
    if until is None:
        return "for a timer or a message"
    left = (until - datetime.now(UTC)).total_seconds()
    return f"until {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC (in {seconds_text(max(left, 0))})"


def _error_lines(ending: Ending) -> list[str]:
    error = ending.error or {}
    lines = [f"  step    {error['step']}"] if error.get("step") else []
    details = error.get("details")
    stderr = str(details.get("stderr") or "").strip() if isinstance(details, Mapping) else ""
    tail = [one_line(line) for line in stderr.splitlines()[-_STDERR_LINES:]]
    message = str(error.get("message", ""))
    if len(tail) > 1:  # it follows line by line
        message = message.removesuffix(stderr).rstrip(": \n")
    lines.append(f"  error   {error.get('type')}: {one_line(message, 500)}")
    if len(tail) > 1:
        lines += [f"  stderr  {tail[0]}", *(f"          {line}" for line in tail[1:])]
    trace = error.get("trace")
    if isinstance(trace, list) and trace:
        lines.append(f"  where   {trace[-1]}")
    return [*lines, f"  look    holdfast executions show {ending.id}"]
