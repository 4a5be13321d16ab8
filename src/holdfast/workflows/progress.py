"""What an engine tells whoever watches a run: one call per thing that happens, on the event loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any


class Happening(Enum):
    """The kinds of progress."""

    STEP_RUNNING = auto()
    STEP_REPLAYED = auto()  # its result came from storage
    STEP_COMPLETED = auto()
    STEP_FAILED = auto()
    STEP_SKIPPED = auto()
    ATTEMPT_FAILED = auto()  # another attempt follows
    TIMER_WAITING = auto()
    MESSAGE_WAITING = auto()  # a signal or an approval that is waited for
    CHILD_RUNNING = auto()


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened to one step of one execution."""

    kind: Happening
    execution: str
    path: str
    attempt: int = 1
    duration: timedelta | None = None
    error: dict[str, Any] | None = None
    until: float | None = None  # seconds that a timer or the next attempt is away
    awaits: str | None = None  # `signal approve:otters`


Observer = Callable[[Progress], None]
