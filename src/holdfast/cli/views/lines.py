"""A run as lines on stderr: plain ones for a pipe or a log file, or one JSON object per happening.

Items of a fan-out get lines of their own until there are too many; then one line a second with counts, and a
last one once something else begins or the run ends.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from holdfast.cli.output import counted, one_line, plain, seconds_text
from holdfast.cli.views.board import ACTIVE, Board, Item, Row, State
from holdfast.workflows.progress import Happening, Progress

if TYPE_CHECKING:
    pass

SIGNS = {
    State.DONE: "✔",
    State.SAVED: "✔",
    State.FAILED: "✖",
    State.SKIPPED: "↷",
    State.RUNNING: "▸",
    State.RETRYING: "↻",
    State.WAITING: "⏸",
}
_EVERY_S = 1.0


class View(Protocol):
    """Shows what happens. `note` is called on the event loop of the engine and has to be quick."""

    def note(self, progress: Progress) -> None:
        """One happening."""
        ...

    def begin(self) -> None:
        """The run is about to start."""
        ...

    def end(self) -> None:
        """Nothing more will happen; what is on the screen stays."""
        ...

    def remark(self, text: str) -> None:
        """A line that changes in place on a terminal, and is printed once in a pipe; empty: take it away."""
        ...


class Silent:
    """Shows nothing."""

    def note(self, progress: Progress) -> None:
        """See `View.note`."""

    def begin(self) -> None:
        """See `View.begin`."""

    def end(self) -> None:
        """See `View.end`."""

    def remark(self, text: str) -> None:
        """See `View.remark`."""


class JsonLines(Silent):
    """One JSON object per happening."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, progress: Progress) -> None:
        """See `View.note`."""
        line: dict[str, object] = {
            "at": plain(datetime.now(UTC)),
            "event": progress.kind.name.lower(),
            "execution": progress.execution,
            "path": progress.path,
            "attempt": progress.attempt,
        }
        if progress.duration is not None:
            line["duration"] = progress.duration.total_seconds()
        if progress.error is not None:
            line["error"] = progress.error
        if progress.awaits is not None:
            line["awaits"] = progress.awaits
        if progress.until is not None:
            line["until_seconds"] = round(progress.until, 3)
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    def end(self) -> None:
        """See `View.end`."""
        self._stream.flush()

    def remark(self, text: str) -> None:
        """See `View.remark`."""
        if text:
            self._stream.write(json.dumps({"event": "remark", "text": text}, ensure_ascii=False) + "\n")
            self._stream.flush()


class Lines:
    """Plain lines. With several executions at once each line says whose it is."""

    def __init__(self, stream: TextIO, *, several: bool = False) -> None:
        self._stream = stream
        self._several = several
        self._boards: dict[str, Board] = {}
        self._told_saved = 0
        self._untold: dict[tuple[str, str], Row] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._remark = ""

    def begin(self) -> None:
        """See `View.begin`."""

    def note(self, progress: Progress) -> None:
        """See `View.note`."""
        whose = progress.execution if self._several else ""
        board = self._boards.setdefault(whose, Board())
        known = len(board.rows)
        row, item = board.note(progress)
        if len(board.rows) > known:
            self._tell_counts(ended=True)
        if item.state is State.SAVED or progress.kind in (Happening.STEP_RUNNING, Happening.CHILD_RUNNING):
            return
        saved = sum(each.saved for each in self._boards.values())
        if saved > self._told_saved:
            steps = counted(saved - self._told_saved, "step was", "steps were")
            self._write(whose, f"{SIGNS[State.SAVED]} {steps} saved before")
            self._told_saved = saved
        if row.items is None and item.state in (State.DONE, State.SKIPPED):
            self._untold[whose, row.key] = row
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._tick)
        else:
            self._write(whose, f"{SIGNS[item.state]} {item_text(item, board.clock())}")

    def _tick(self) -> None:
        self._timer = None
        self._tell_counts()

    def _tell_counts(self, *, ended: bool = False) -> None:
        """Print the counts that changed; with `ended` only of rows where nothing is at work."""
        for (whose, key), row in list(self._untold.items()):
            if not (ended and row.active):
                del self._untold[whose, key]
                self._write(whose, row_text(row))

    def end(self) -> None:
        """See `View.end`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for whose, board in self._boards.items():
            many = [row for row in board.rows.values() if row.items is None]
            self._untold.update({(whose, row.key): row for row in many if row.active})
        self._tell_counts()
        self._boards.clear()
        self._stream.flush()

    def remark(self, text: str) -> None:
        """See `View.remark`."""
        if text and not self._remark:
            self._stream.write(text + "\n")
            self._stream.flush()
        self._remark = text

    def _write(self, whose: str, text: str) -> None:
        self._stream.write(f"  {whose}  {text}\n" if whose else f"  {text}\n")
        self._stream.flush()


def item_text(item: Item, now: float) -> str:
    """One step in a line, without its sign."""
    text = f"{item.path}"
    if item.seconds is not None and item.state not in (State.SAVED, State.SKIPPED):
        text += f"  {seconds_text(item.seconds)}"
    elif item.state is State.RUNNING:
        text += f"  {seconds_text(now - item.began)}"
    if item.attempt > 1:
        text += f"  attempt {item.attempt}"
    if item.state in (State.RETRYING, State.WAITING) and item.until is not None:
        left = seconds_text(max(item.until - now, 0))
        text += f"  again in {left}" if item.state is State.RETRYING else f"  {left} left"
    if item.state is State.WAITING and item.remark:
        text += f"  {one_line(item.remark)}"
    if item.state in (State.SAVED, State.SKIPPED):
        text += f"  {item.state.value}"
    if item.remark and item.state in (State.RETRYING, State.FAILED):
        text += f"  {one_line(item.remark)}"
    return text


def row_text(row: Row) -> str:
    """Many steps in a line: `fetch ×10,000  9,990 done, 10 running`."""
    parts = [f"{row.counts[state]:,} {state.value}" for state in State if row.counts[state]]
    if row.retries:
        parts.append(counted(row.retries, "retry", "retries"))
    sign = SIGNS[State.FAILED] if row.counts[State.FAILED] else SIGNS[State.DONE]
    if any(row.counts[state] for state in ACTIVE):
        sign = SIGNS[State.RUNNING]
    return f"{sign} {row.key} ×{row.total:,}  {', '.join(parts)}"
