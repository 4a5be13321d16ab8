"""Everything about one execution, for `executions show`: facts, steps on a time line, its end, the way on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdfast.cli.endings import Ending, ending_of
from holdfast.cli.output import one_line, seconds_text
from holdfast.cli.reading import execution_record
from holdfast.events.log import EventLog
from holdfast.events.progress import read_progress
from holdfast.events.steps import read_steps
from holdfast.fleet.ends import read_outcome, read_waits
from holdfast.fleet.ownership import is_abandoned
from holdfast.fleet.tasks import agents_of
from holdfast.records.executions import (
    Execution,
    ExecutionDetails,
    ExecutionStatus,
    Step,
    StepProgress,
    StepStatus,
)

if TYPE_CHECKING:
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

STEPS_SHOWN = 40
ITEMS_SHOWN = 8
_NUMBER = re.compile(r"\[\d+\]|#\d+")
_BAR = 30
_VALUE_MAX = 300
_SIGNS = {
    StepStatus.COMPLETED: "✔",
    StepStatus.FAILED: "✖",
    StepStatus.SKIPPED: "↷",
    StepStatus.RUNNING: "▸",
    StepStatus.RETRYING: "↻",
    StepStatus.WAITING: "⏸",
}


@dataclass(frozen=True, slots=True)
class Portrait:
    """What is known about one execution."""

    execution: Execution
    ending: Ending
    input: Any
    steps: Sequence[Step]
    details: ExecutionDetails
    progress: StepProgress
    agents: Sequence[str]
    abandoned: bool  # it is running by its status, but its owner is dead

    @property
    def way_on(self) -> str | None:
        """The command that goes on with it, or watches it; None when it has ended."""
        match self.execution.status:
            case ExecutionStatus.READY | ExecutionStatus.WAITING | ExecutionStatus.PAUSED:
                return f"holdfast resume {self.execution.id}"
            case ExecutionStatus.RUNNING if self.abandoned:
                return f"holdfast resume {self.execution.id}"
            case ExecutionStatus.RUNNING:
                return f"holdfast executions tail {self.execution.id}"
            case _:
                return None

    def record(self) -> dict[str, Any]:
        """The JSON form. Steps are counted; `executions steps` lists them."""
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[str(step.status)] = counts.get(str(step.status), 0) + 1
        return {
            **execution_record(self.execution),
            "duration_ms": self.execution.duration_ms,
            "tags": list(self.details.tags),
            "trigger": self.details.trigger,
            "started_by": self.details.started_by,
            "metadata": self.details.metadata,
            "context": self.details.context,
            "agents": list(self.agents),
            "progress": {
                "ended": self.progress.ended,
                "known": self.progress.known,
                "fraction": self.progress.fraction,
            },
            "input": self.input,
            "output": self.ending.output,
            "error": self.ending.error,
            "waits_for": [reason._asdict() for reason in self.ending.waits_for],
            "steps": counts,
            "next": self.way_on,
        }


async def read_portrait(store: Store, id: str) -> Portrait:
    """Read it all; `ExecutionNotFound`."""
    execution = await store.get_execution(id)
    first = await EventLog(store).page(execution, limit=1)
    steps = await read_steps(store, execution, values=False)
    ending = Ending(id=execution.id, workflow=execution.workflow, status=str(execution.status))
    if execution.status.is_final:
        outcome = await read_outcome(store, execution.key)
        ending = ending_of(execution.id, execution.workflow, outcome, seconds=0.0)
    else:
        ending = replace(ending, until=execution.due_at, waits_for=await read_waits(store, execution))
    running = execution.status is ExecutionStatus.RUNNING
    return Portrait(
        execution,
        ending,
        first[0].payload if first else None,
        steps,
        await store.execution_details(execution.key),
        await read_progress(store, execution, steps),
        await agents_of(store, execution),
        running and await is_abandoned(store, execution),
    )


def draw(portrait: Portrait, invocation: Invocation) -> str:
    """The page for a person."""
    execution, ending, details = portrait.execution, portrait.ending, portrait.details
    facts: list[tuple[str, str]] = [
        ("id", execution.id),
        ("workflow", f"{execution.workflow} {execution.version}"),
        ("status", _status(portrait)),
        (
            "started",
            f"{_time(execution.created_at)}{f' by {details.started_by}' if details.started_by else ''}",
        ),
    ]
    if execution.finished_at is not None and execution.duration is not None:
        took = seconds_text(execution.duration.total_seconds())
        facts.append(("finished", f"{_time(execution.finished_at)}, after {took}"))
    if execution.recoveries:
        times = "once" if execution.recoveries == 1 else f"{execution.recoveries} times"
        facts.append(("taken over", f"{times} since its last result"))
    if not execution.status.is_final and portrait.progress.known:
        facts.append(("progress", f"{portrait.progress.ended} of {portrait.progress.known} steps"))
    if details.tags:
        facts.append(("tags", ", ".join(details.tags)))
    if portrait.agents:
        facts.append(("agents", ", ".join(portrait.agents)))
    told = (("metadata", details.metadata), ("context", details.context))
    facts += [(name, _value(value)) for name, value in told if value]
    facts.append(("input", _value(portrait.input)))
    if ending.status == "completed":
        facts.append(("output", _value(ending.output)))
    lines = [f"{name:<10}  {value}" for name, value in facts]
    lines += _error(ending)
    width = shutil.get_terminal_size().columns if invocation.stdout.isatty() else None
    lines += ["", *_steps(portrait, width=width)]
    if portrait.way_on is not None:
        lines += ["", f"go on with: {portrait.way_on}"]
    return "\n".join(lines)


def _status(portrait: Portrait) -> str:
    due = portrait.execution.due_at
    if portrait.execution.status is ExecutionStatus.WAITING:
        reasons = [str(reason) for reason in portrait.ending.waits_for if reason.kind != "timer"]
        what = f" for {one_line(', '.join(reasons))}" if reasons else ""
        return f"waiting{what}{f' until {_time(due)}' if due is not None else ''}"
    if portrait.execution.status is ExecutionStatus.READY:
        return "ready (was interrupted; nobody runs it)"
    if portrait.abandoned:
        return "running (its owner is dead; nobody runs it)"
    return str(portrait.execution.status)


def _error(ending: Ending) -> list[str]:
    if ending.error is None:
        return []
    error = ending.error
    step = f" in step {error['step']}" if error.get("step") else ""
    lines = [f"{'error':<10}  {error.get('type')}{step}: {one_line(str(error.get('message', '')), 1000)}"]
    details = error.get("details")
    stderr = str(details.get("stderr") or "") if isinstance(details, dict) else ""
    said = stderr.rstrip().splitlines()[-10:]
    lines += [f"{'' if number else 'stderr':<10}  {one_line(each)}" for number, each in enumerate(said)]
    trace = error.get("trace")
    lines += [f"{'':12}{each}" for each in trace] if isinstance(trace, list) else []
    return lines


def _steps(portrait: Portrait, *, width: int | None) -> list[str]:
    """A line per step; `width` is that of a terminal, which gets a time line too."""
    steps = _grouped(portrait.steps)
    if not steps:
        return ["no steps yet"]
    shown = steps
    if len(steps) > STEPS_SHOWN:
        # What did not go well comes first, then the beginning.
        telling = [step for step in steps if step.status is not StepStatus.COMPLETED]
        chosen = {id(step) for step in [*telling, *steps][:STEPS_SHOWN]}
        shown = [step for step in steps if id(step) in chosen]
    start = portrait.execution.created_at
    end = portrait.execution.finished_at or max(
        (moment for step in steps for moment in (step.started_at, step.finished_at) if moment), default=start
    )
    longest = max(len(step.path) for step in shown)
    lines = [_step(step, longest, start, end, gantt=width is not None) for step in shown]
    if width is not None:
        lines = [_cut(line, width) for line in lines]
    if len(portrait.steps) > len(shown):
        lines.append(f"all {len(portrait.steps):,}: holdfast executions steps {portrait.execution.id}")
    return lines


def _cut(line: str, width: int) -> str:
    """`line` cut to the width of the terminal."""
    return line if len(line) <= width else line[: width - 1] + "…"


def _grouped(steps: Sequence[Step]) -> list[Step]:
    """Many steps that differ in a number count as one; those that did not complete stay by themselves."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(_NUMBER.sub("", step.path), []).append(step)
    shown: list[Step] = []
    for key, members in groups.items():
        well = [step for step in members if step.status is StepStatus.COMPLETED]
        if len(members) <= ITEMS_SHOWN or not well:
            shown += members
            continue
        shown.append(_together(key, well))
        shown += [step for step in members if step.status is not StepStatus.COMPLETED]
    return shown


def _together(key: str, steps: Sequence[Step]) -> Step:
    began = [step.started_at for step in steps if step.started_at is not None]
    ended = [step.finished_at for step in steps if step.finished_at is not None]
    first, last = min(began, default=None), max(ended, default=None)
    return replace(
        steps[0],
        path=f"{key} ×{len(steps):,}",
        attempts=max(step.attempts for step in steps),
        started_at=first,
        finished_at=last,
        duration=last - first if first is not None and last is not None else None,
    )


def _step(step: Step, width: int, start: datetime, end: datetime, *, gantt: bool) -> str:
    took = "" if step.duration is None else seconds_text(step.duration.total_seconds())
    line = f"{_SIGNS[step.status]} {step.path:<{width}}  {took:>10}"
    if gantt:
        line += f"  {_bar(step, start, end)}"
    if step.attempts > 1:
        line += f"  {step.attempts} attempts"
    if step.status not in (StepStatus.COMPLETED, StepStatus.FAILED):
        line += f"  {step.status}"
    if step.error is not None:
        line += f"  {one_line(str(step.error.get('message', '')), 80)}"
    return line.rstrip()


def _bar(step: Step, start: datetime, end: datetime) -> str:
    total_s = max((end - start).total_seconds(), 0.001)
    began = max(((step.started_at or start) - start).total_seconds(), 0.0)
    ended = ((step.finished_at or end) - start).total_seconds()
    left = min(int(began / total_s * _BAR), _BAR - 1)
    length = max(min(round((ended - began) / total_s * _BAR), _BAR - left), 1)
    return f"|{' ' * left}{'█' * length}{' ' * (_BAR - left - length)}|"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _value(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False, default=str), _VALUE_MAX)
