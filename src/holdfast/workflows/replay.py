"""What an execution's log says when it goes on: recorded results, failed attempts, timers.

Reading is one pass over the events in order. Results are handed out once each: what is left over when the
workflow has ended was recorded by code that is no longer there. A Python workflow also checks the order: each
call has a number within its branch, and the name recorded under a number must be the name that is called.

A retry takes results back: a `step.reset` event names paths and the generation that counts for each from
there on. What stands in front of it for such a path (results, attempts, timers, the order of calls) is as if
it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from holdfast.errors import DamagedData, DefinitionChanged
from holdfast.records.events import EventType
from holdfast.store import codec
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
    """A wait that has begun and not ended; without `due` it is for a message only."""

    due: datetime | None


@dataclass(slots=True)
class _Reach:
    """How far a branch came: its last call, and the last number of each inner branch by name."""

    calls: int = 0
    inner: dict[str, int] = field(default_factory=dict)


class Reset(NamedTuple):
    """What a `step.reset` event says: paths with the generation that counts now; children that start anew."""

    paths: dict[str, int]
    renewed: tuple[str, ...] = ()


def read_reset(payload: bytes | None) -> Reset:
    """The value of a `step.reset` event. Raises `DamagedData`."""
    value = codec.decode(payload or b"", dict[str, Any], what="step.reset")
    return Reset(value["paths"], tuple(value.get("renewed", ())))


class History:
    """The log of one execution, ready for replay."""

    __slots__ = (
        "_calls", "_reached", "attempts", "generations", "input", "last_seq", "renewed", "results", "saved",
        "timers",
    )  # fmt: skip

    def __init__(self) -> None:
        self.results: dict[str, Recorded] = {}
        self.attempts: dict[str, int] = {}
        self.timers: dict[str, Timer] = {}
        self.generations: dict[str, int] = {}
        self.renewed: dict[str, int] = {}  # paths whose child starts anew, and the generation that names it
        self.input: bytes | None = None
        self.last_seq = 0
        self.saved = 0
        self._calls: dict[str, dict[int, str]] = {}
        self._reached: dict[str, _Reach] | None = None

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
            elif kind == EventType.STEP_RESET:
                self._take_back(read_reset(payload))
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
            length = None if duration_us is None else timedelta(microseconds=duration_us)
            self.timers[path] = Timer(None if length is None else moment(at) + length)

    def _take_back(self, reset: Reset) -> None:
        self.generations.update(reset.paths)
        self.renewed.update({path: reset.paths[path] for path in reset.renewed})
        for path in reset.paths:
            for kept in (self.results, self.attempts, self.timers):
                kept.pop(path, None)
        for branch, calls in list(self._calls.items()):
            prefix = f"{branch}/" if branch else ""
            left = {number: name for number, name in calls.items() if prefix + name not in reset.paths}
            if left:
                self._calls[branch] = left
            else:
                del self._calls[branch]

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

    def goes_on(self, branch: str, calls: int, opened: Mapping[str, int]) -> bool:
        """Whether an earlier run got behind `calls` calls and the `opened` inner branches of `branch`."""
        if self._reached is None:
            self._reached = _reach(self._calls)
        reached = self._reached.get(branch)
        if reached is None:
            return False
        return reached.calls > calls or any(
            number > opened.get(f"{name}/", 0) for name, number in reached.inner.items()
        )

    def check_consumed(self) -> None:
        """When the workflow has ended: raise `DefinitionChanged` if recorded results were never asked for."""
        if self.results:
            paths = sorted(self.results)
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            raise _diverged(
                "", f"{paths[0]!r}{more} recorded, but the code no longer calls it", paths[0], None
            )


def _reach(calls: Mapping[str, Mapping[int, str]]) -> dict[str, _Reach]:
    reached: dict[str, _Reach] = {}
    for branch, numbers in calls.items():
        reached.setdefault(branch, _Reach()).calls = max(numbers)
        while branch:
            branch, _, last = branch.rpartition("/")
            name, _, number = last.partition("#")
            inner = reached.setdefault(branch, _Reach()).inner
            inner[name] = max(inner.get(name, 0), int(number or 1))
    return reached


def _diverged(branch: str, difference: str, recorded: str, called: str | None) -> DefinitionChanged:
    place = f"branch {branch!r}" if branch else "the workflow"
    fix = "restore the code this execution started with, or start anew with --new"
    if called is None and (patch := recorded.rpartition("/")[2]).startswith("patch:"):
        fix = f"call deprecate_patch({patch.removeprefix('patch:')!r}) where patched() stood"
    return DefinitionChanged(
        f"the code does not follow the recorded history: {difference}",
        where=place,
        fix=fix,
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
