"""What an execution's log says when it goes on: recorded results, failed attempts, timers.

Reading is one pass over the events in order. Results are handed out once each: what is left over when the
workflow has ended was recorded by code that is no longer there. A Python workflow also checks the order: each
call has a number within its branch, and the name recorded under a number must be the name that is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from holdfast.errors import DamagedData, DefinitionChanged
from holdfast.records.events import EventType
from holdfast.store.drivers.base import Row
from holdfast.store.rows import moment


class Recorded(NamedTuple):
    """One recorded result."""

    type: EventType
    payload: bytes | None
    input_digest: bytes | None
    ordinal: int | None
    attempt: int
    generation: int


@dataclass(frozen=True, slots=True)
class Timer:
    """A durable timer that was started and has not fired."""

    due: datetime


class History:
    """The log of one execution, ready for replay."""

    __slots__ = ("_calls", "attempts", "generations", "input", "last_seq", "results", "saved", "timers")

    def __init__(self) -> None:
        self.results: dict[str, Recorded] = {}
        self.attempts: dict[str, int] = {}
        self.timers: dict[str, Timer] = {}
        self.generations: dict[str, int] = {}
        self.input: bytes | None = None
        self.last_seq = 0
        self.saved = 0
        self._calls: dict[str, dict[int, str]] = {}

    @classmethod
    def read(cls, rows: Iterable[Row]) -> History:
        """Build it from the rows of `events.history`, in order of their numbers.

        Raises `DamagedData` if a number is missing.
        """
        history = cls()
        for row in rows:
            history._add(row)
        history.saved = len(history.results)
        return history

    def _add(self, row: Row) -> None:
        (
            seq,
            kind,
            path,
            generation,
            ordinal,
            attempt,
            _epoch,
            result,
            at,
            duration_us,
            input_digest,
            payload,
        ) = row
        if seq != self.last_seq + 1:
            raise DamagedData(f"the log misses event {self.last_seq + 1}; the next one is {seq}")
        self.last_seq = seq
        if path is None:
            if kind == EventType.EXECUTION_STARTED:
                self.input = payload
            return
        if ordinal is not None:
            branch, _, name = path.rpartition("/")
            self._calls.setdefault(branch, {})[ordinal] = name
        if result:
            type_ = EventType(kind)
            self.results[path] = Recorded(type_, payload, input_digest, ordinal, attempt, generation)
        elif kind == EventType.ATTEMPT_FAILED:
            self.attempts[path] = max(attempt, self.attempts.get(path, 0))
        elif kind == EventType.TIMER_STARTED:
            self.timers[path] = Timer(moment(at) + timedelta(microseconds=duration_us or 0))

    def check_call(self, branch: str, ordinal: int, name: str) -> None:
        """Compare a call with what its branch recorded under the same number.

        Raises `DefinitionChanged` that names both, before anything runs.
        """
        recorded = self._calls.get(branch)
        if recorded is None:
            return
        known = recorded.get(ordinal)
        if known is not None and known != name:
            raise _diverged(branch, f"call {ordinal} was {known!r} and is now {name!r}", known, name)

    def check_consumed(self) -> None:
        """When the workflow has ended: raise `DefinitionChanged` if recorded results were never asked for."""
        if self.results:
            paths = sorted(self.results)
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            raise _diverged(
                "", f"{paths[0]!r}{more} recorded, but the code no longer calls it", paths[0], None
            )


def _diverged(branch: str, difference: str, recorded: str, called: str | None) -> DefinitionChanged:
    place = f"branch {branch!r}" if branch else "the workflow"
    return DefinitionChanged(
        f"the code does not follow the recorded history: {difference}",
        where=place,
        fix="restore the code this execution started with, or start anew with --new",
        recorded=recorded,
        called=called,
    )


def arguments_changed(path: str, recorded: str, called: str) -> DefinitionChanged:
    """The error for a step that is called with other arguments than the recorded ones."""
    return DefinitionChanged(
        f"step {path!r} was recorded with other arguments\n  recorded  {recorded}\n  called    {called}",
        where=f"step {path}",
        fix="restore the code or the data this execution started with, or start anew with --new",
        path=path,
        recorded=recorded,
        called=called,
    )
