"""Which results a retry takes back, and which a fork keeps; nothing here touches a store.

A result may depend on what was recorded when it was called, for its arguments were made of that. So a set
that is taken back has to contain, with a result, whatever may depend on it. Two such sets are known:

* everything recorded from the first result of a step on (`retry --from`, and what a fork leaves behind);
* failures that nothing depends on. In YAML that is every failed step without `continue_on_error`, for its
  failure stops the execution. In Python it is a failed call behind which nothing began that could know of
  it: nothing in its own branch or one around it, and no new branch. What ran beside it began before it had
  failed.

If the failure that ended the execution is none of these, because the workflow caught it and went on to clean
up, everything that began after it is taken back with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from holdfast.errors import StepNotFound
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.store.drivers.base import Row
from holdfast.store.rows import moment
from holdfast.workflows.replay import Reset, read_reset

Moment = tuple[datetime, int]
"""A time by the database's clock, and the number of the event that tells it, for those of one flush."""
_FAILURES = (EventType.STEP_FAILED, EventType.CHILD_FAILED)


class Line(NamedTuple):
    """One event of a step that counts: nothing has taken it back."""

    seq: int
    type: str
    path: str
    ordinal: int | None
    result: bool
    at: datetime
    began: datetime  # not before the body really did
    digest: bytes | None

    @property
    def ended(self) -> Moment:
        """When it was recorded."""
        return self.at, self.seq

    @property
    def branch(self) -> str:
        """The line of calls it belongs to."""
        return self.path.rpartition("/")[0]

    @property
    def step(self) -> str:
        """The id of the YAML step, without the number of an item."""
        return self.path.partition("[")[0]


class Log:
    """The log of one execution as far as it counts now, from the rows of `events.history`."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.lines: list[Line] = []
        self.generations: dict[str, int] = {}
        self.renewed: dict[str, int] = {}
        self.input: bytes | None = None
        self.failed_at: str | None = None
        for (
            seq,
            kind,
            path,
            _generation,
            ordinal,
            _attempt,
            _epoch,
            result,
            at,
            spent_us,
            digest,
            value,
        ) in rows:
            if path is not None:
                told = moment(at)
                lies_ahead = spent_us is None or kind == EventType.TIMER_STARTED
                began = told if lies_ahead else told - timedelta(microseconds=spent_us)
                self.lines.append(Line(seq, kind, path, ordinal, bool(result), told, began, digest))
            elif kind == EventType.EXECUTION_STARTED:
                self.input = value
            elif kind == EventType.EXECUTION_FAILED:
                self.failed_at = _step_of(value)
            elif kind == EventType.STEP_RESET:
                self._take_back(read_reset(value))

    def _take_back(self, reset: Reset) -> None:
        self.generations.update(reset.paths)
        self.renewed.update({path: reset.paths[path] for path in reset.renewed})
        self.lines = [line for line in self.lines if line.path not in reset.paths]
        self.failed_at = None

    def results(self) -> list[Line]:
        """The results, in order."""
        return [line for line in self.lines if line.result]

    def began(self) -> dict[str, Moment]:
        """When the first attempt of every step began, or a little later."""
        first: dict[str, Moment] = {}
        for line in self.lines:
            began = (line.began, line.seq)
            first[line.path] = min(began, first.get(line.path, began))
        return first

    def first_of(self, step: str) -> int:
        """The number of the first result of `step`, or of its first event if it has none.

        `step` is a path, or the beginning of several: `fetch` means all of `fetch[0]`, `fetch[1]` …
        Raises `StepNotFound`.
        """
        found = [line for line in self.lines if line.path == step]
        found = found or [
            line for line in self.lines if line.path.startswith((f"{step}[", f"{step}#", f"{step}/"))
        ]
        if not found:
            paths = list(dict.fromkeys(line.path for line in self.lines))
            near = difflib.get_close_matches(step, paths, 3) or paths[:5]
            raise StepNotFound(
                f"the log has no step {step!r}",
                where=step,
                fix=f"name one of: {', '.join(near)}" if near else "it has recorded no step yet",
            )
        return next((line.seq for line in found if line.result), found[0].seq)

    def raised(self, paths: Iterable[str]) -> dict[str, int]:
        """The next generation of every path."""
        return {path: self.generations.get(path, 0) + 1 for path in paths}


def from_step(log: Log, step: str) -> set[str]:
    """The paths to take back when `step` and all that came behind it is to run again."""
    return _from_seq(log, log.first_of(step))


def _from_seq(log: Log, first: int) -> set[str]:
    recorded = {line.path: line.seq for line in log.results()}
    taken = {path for path, seq in recorded.items() if seq >= first}
    begun: dict[str, int] = {}
    for line in log.lines:
        begun.setdefault(line.path, line.seq)
    # What only began: behind the step it belongs to what is taken back, before it only its attempts count
    # anew.
    taken.update(path for path, seq in begun.items() if path not in recorded and seq >= first)
    return taken | _exhausted(log)


def failed(log: Log, is_caught: Callable[[str], bool]) -> set[str]:
    """The paths to take back when what failed is to run again.

    `is_caught` tells of the id of a YAML step whether the workflow goes on when it fails.
    """
    results = log.results()
    began = log.began()
    ends = {line.path for line in _loose(results, began) if line.ordinal is not None}
    ends |= {
        line.path
        for line in results
        if line.ordinal is None and line.type in _FAILURES and not is_caught(line.step)
    }
    fatal = next((line for line in results if line.path == log.failed_at), None)
    if fatal is not None and fatal.path not in ends:
        ends.add(fatal.path)
        ends |= {path for path, first in began.items() if first > fatal.ended}
    return ends | _exhausted(log)


def _exhausted(log: Log) -> set[str]:
    """Steps that have used attempts and have no result: they get all of them again."""
    recorded = {line.path for line in log.results()}
    tried = {line.path for line in log.lines if line.type == EventType.ATTEMPT_FAILED}
    return tried - recorded


def _loose(results: list[Line], began: dict[str, Moment]) -> list[Line]:
    """The failures that no other result can depend on.

    Nothing began behind them where it could know of them.
    """
    exactly = dict[str, Moment]()  # branch -> when the newest of its own calls began
    below = dict[str, Moment]()  # the same with all inside it
    opened = dict[str, Moment]()  # when the branch itself began
    for line in results:
        first = began[line.path]
        _raise(exactly, line.branch, first)
        for each in _around(line.branch):
            _raise(below, each, first)
            opened[each] = min(first, opened.get(each, first))
    newest = dict[str, Moment]()  # branch -> when the newest branch inside it began
    for branch, first in opened.items():
        if branch:
            _raise(newest, branch.rpartition("/")[0], first)

    def is_loose(line: Line) -> bool:
        own, around = line.branch, list(_around(line.branch))
        later = [below[own], *(each[name] for each in (exactly, newest) for name in around if name in each)]
        return all(first <= line.ended for first in later)

    return [line for line in results if line.type in _FAILURES and is_loose(line)]


def _raise(newest: dict[str, Moment], branch: str, first: Moment) -> None:
    newest[branch] = max(first, newest.get(branch, first))


def _around(branch: str) -> Iterable[str]:
    """A branch and those around it, innermost first; the workflow's own is the empty one."""
    while branch:
        yield branch
        branch = branch.rpartition("/")[0]
    yield ""


def _step_of(error: bytes | None) -> str | None:
    described: Any = codec.decode(error, what="error") if error else None
    step = described.get("step") if isinstance(described, dict) else None
    return step if isinstance(step, str) else None
