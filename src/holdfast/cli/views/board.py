"""What the happenings of a run add up to: a few rows, however many steps there are.

A row stands for one step, or for all steps that differ only in a number (`fetch[0]`, `fetch[1]`, `fetch#2`).
Up to `ITEMS_SHOWN` of them are kept one by one; of more, only counts and what is active right now, so that
ten thousand items cost as much as ten. Noting a happening is a few dictionary operations on the event loop
of the engine; everything that formats is done when something is painted.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from holdfast.fleet.starts import child_id
from holdfast.workflows.progress import Happening, Progress

ITEMS_SHOWN = 8
_NUMBER = re.compile(r"\[\d+\]|#\d+")


class State(Enum):
    """Where a step stands, in the order of counts in a line."""

    DONE = "done"
    SAVED = "saved before"
    FAILED = "failed"
    SKIPPED = "skipped"
    RUNNING = "running"
    RETRYING = "waiting for the next attempt"
    WAITING = "waiting"


_STATE_OF = {
    Happening.STEP_RUNNING: State.RUNNING,
    Happening.STEP_REPLAYED: State.SAVED,
    Happening.STEP_COMPLETED: State.DONE,
    Happening.STEP_FAILED: State.FAILED,
    Happening.STEP_SKIPPED: State.SKIPPED,
    Happening.ATTEMPT_FAILED: State.RETRYING,
    Happening.TIMER_WAITING: State.WAITING,
    Happening.MESSAGE_WAITING: State.WAITING,
    Happening.CHILD_RUNNING: State.RUNNING,
}
ACTIVE = frozenset({State.RUNNING, State.RETRYING, State.WAITING})


@dataclass(slots=True)
class Item:
    """One step."""

    path: str
    state: State
    began: float
    attempt: int = 1
    seconds: float | None = None
    remark: str = ""
    until: float | None = None  # on the board's clock


@dataclass(slots=True)
class Row:
    """One step, or several that differ in a number. `items` is None once there are too many to keep."""

    key: str
    began: float
    items: dict[str, Item] | None = field(default_factory=dict)
    active: dict[str, Item] = field(default_factory=dict)
    counts: Counter[State] = field(default_factory=Counter)
    retries: int = 0
    ended: float | None = None
    remark: str = ""

    @property
    def total(self) -> int:
        """Steps of this row so far."""
        return self.counts.total()


class Board:
    """The rows of one execution and its children. `root` is known once the execution is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.root: str | None = None
        self.rows: dict[str, Row] = {}
        self.changed = False
        self.saved = 0
        self._places: dict[str, str] = {}

    def place(self, progress: Progress) -> str:
        """The path of a step, with the paths of the children it is in before it."""
        if self.root is None:
            self.root = progress.execution
        inside = self._places.get(progress.execution)
        return progress.path if inside is None else f"{inside} › {progress.path}"

    def note(self, progress: Progress) -> tuple[Row, Item]:
        """Take in one happening."""
        path = self.place(progress)
        if progress.kind is Happening.CHILD_RUNNING:
            self._places[child_id(progress.execution, progress.path)] = path
        key = _NUMBER.sub("", path) if "[" in path or "#" in path else path
        now = self.clock()
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(key, now)
        item = row.active.pop(path, None)
        state = _STATE_OF[progress.kind]
        if item is None:
            item = Item(path, state, now)
            if row.items is not None:
                row.items[path] = item
                if len(row.items) > ITEMS_SHOWN:
                    row.items = None
        else:
            row.counts[item.state] -= 1
        self._update(row, item, state, progress, now)
        return row, item

    def _update(self, row: Row, item: Item, state: State, progress: Progress, now: float) -> None:
        self.changed = True
        item.state = state
        item.attempt = max(progress.attempt, 1)
        row.counts[state] += 1
        item.until = None if progress.until is None else now + progress.until
        if progress.error is not None:
            item.remark = row.remark = f"{progress.error.get('type')}: {progress.error.get('message')}"
        elif progress.awaits is not None:
            item.remark = f"for {progress.awaits}"
        if state is State.RETRYING:
            row.retries += 1
        if state in ACTIVE:
            row.active[item.path] = item
            row.ended = None
        else:
            self.saved += state is State.SAVED
            row.ended = now
            item.seconds = (
                now - item.began if progress.duration is None else progress.duration.total_seconds()
            )
