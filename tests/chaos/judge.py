"""The judge: reads the history and the store when everything is over, and knows nothing of how it went.

Each rule is a function of the record that raises `Wrong` with what it found. `judge` applies them all.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.events.log import EventLog
from holdfast.records.events import EventType
from holdfast.store import codec
from holdfast.store.store import Store
from tests.chaos.program import NAP_S, STEPS
from tests.crash.harness import Wrong

CLOCK_SLACK_S = 0.25
"""What may lie between a moment in the database and the note of it, on a busy machine."""
_ENDS = ("execution.completed", "execution.failed", "execution.cancelled")
_AT_US = {
    "sqlite": "at",
    "postgresql": "(extract(epoch FROM at) * 1000000)::bigint",
    "mysql": "timestampdiff(MICROSECOND, '1970-01-01', at)",
}
_GIVEN_UP = (*_ENDS, "execution.suspended")


class Event(NamedTuple):
    """One line of the log."""

    seq: int
    epoch: int
    type: str
    path: str | None
    generation: int
    attempt: int
    is_result: bool
    at_us: int
    value: Any


class Row(NamedTuple):
    """One execution as it stands."""

    id: str
    status: str
    epoch: int
    recoveries: int
    is_owned: bool
    is_child: bool


@dataclass
class Record:
    """All that is known of a run."""

    history: list[dict[str, Any]]
    rows: dict[str, Row]
    events: dict[str, list[Event]]
    slots_held: int = 0
    findings: list[str] = field(default_factory=list)
    lease_s: float = 2.0

    def lines(self, *kinds: str) -> Iterator[dict[str, Any]]:
        return (line for line in self.history if line["kind"] in kinds)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The whole lines, in the order in which things happened."""
    lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return sorted(lines, key=lambda line: line["t"])


async def read_record(store: Store, history: Path, *, lease_s: float) -> Record:
    """What the judge needs, from the store and the history."""
    schema = f"{store.driver.schema}." if store.driver.schema else ""
    rows = await store.driver.fetch_text(
        "SELECT e.id, e.status, e.epoch, e.recoveries, e.owner IS NOT NULL, e.parent IS NOT NULL, e.key "
        f"FROM {schema}executions e"
    )
    ids = {bytes(row[6]): row[0] for row in rows}
    at = _AT_US[store.driver.dialect]
    events: dict[str, list[Event]] = defaultdict(list)
    for key, *rest, payload in await store.driver.fetch_text(
        f"SELECT execution, seq, epoch, type, path, generation, attempt, result, {at}, payload "
        f"FROM {schema}events ORDER BY execution, seq"
    ):
        seq, epoch, kind, path, generation, attempt, is_result, at_us = rest
        value = codec.decode(payload) if payload else None
        events[ids[bytes(key)]].append(
            Event(seq, epoch, kind, path, generation, attempt, bool(is_result), at_us, value)
        )
    held = await store.driver.fetch_text(f"SELECT count(*) FROM {schema}slots WHERE holder IS NOT NULL")
    findings = [str(found) for found in await EventLog(store).verify()]
    log = {id: [[*event] for event in found] for id, found in events.items()}
    history.with_name("log.json").write_text(json.dumps(log, default=str))  # for whoever looks into a failure
    return Record(
        read_history(history),
        {row[0]: Row(row[0], row[1], row[2], row[3], bool(row[4]), bool(row[5])) for row in rows},
        events,
        held[0][0],
        findings,
        lease_s,
    )


# Rules.


def nothing_is_lost(record: Record) -> None:
    """Every acknowledged start is there and has completed, with all of its steps."""
    wanted = {*STEPS, "sleep", "wait_signal", "pair", "hop"}
    for line in record.lines("acknowledged"):
        id = line["execution"]
        row = record.rows.get(id)
        if row is None:
            raise Wrong(f"{id}: its start was acknowledged and it is not there")
        if row.status != "completed":
            raise Wrong(f"{id}: it is {row.status}: {record.events[id][-1]}")
        values = {str(event.value).partition(":")[0] for event in record.events[id] if event.is_result}
        paths = {str(event.path) for event in record.events[id] if event.is_result}
        if missing := wanted - values - paths:
            raise Wrong(f"{id}: it completed without {sorted(missing)}")
        for name in ("pair", "hop"):
            child = record.rows.get(f"{id}.{name}")
            if child is None or child.status != "completed":
                raise Wrong(f"{id}: its child {name} is {child}")


def nothing_stays_held(record: Record) -> None:
    """No execution has an owner, no slot has a holder."""
    if held := [row.id for row in record.rows.values() if row.is_owned]:
        raise Wrong(f"still owned: {held[:5]}")
    if record.slots_held:
        raise Wrong(f"{record.slots_held} slots are still held")


def the_log_is_whole(record: Record) -> None:
    """What `storage verify` looks for."""
    if record.findings:
        raise Wrong(f"{len(record.findings)} findings in the log: {record.findings[:3]}")


def results_are_single(record: Record) -> None:
    """One result for each step, made by a body of the very epoch that wrote it."""
    made = {
        (line["execution"], line["value"]): line["epoch"] for line in record.lines("left") if line["value"]
    }
    for id, events in record.events.items():
        seen: dict[tuple[str | None, int], Any] = {}
        for event in events:
            if not event.is_result:
                continue
            place = (event.path, event.generation)
            if place in seen:
                raise Wrong(f"{id}: two results of {event.path}: {seen[place]} and {event.value}")
            seen[place] = event.value
            if event.type != EventType.STEP_COMPLETED:
                continue
            epoch = made.get((id, event.value))
            if epoch != event.epoch:
                raise Wrong(
                    f"{id}: {event.value} was recorded in epoch {event.epoch}, its body ran in {epoch}"
                )


def told_is_stored(record: Record) -> None:
    """What an awaited step gave to the workflow is what stands in the log, and the output is made of it."""
    for id, events in record.events.items():
        stored = {str(event.value) for event in events if event.is_result}
        for event in events:
            if event.type == "execution.completed":
                parts = [part for part in str(event.value).split() if "+" not in part]
                if not record.rows[id].is_child and (
                    strange := [part for part in parts if part not in stored]
                ):
                    raise Wrong(f"{id}: its output has {strange}, which no step gave")
    for line in record.lines("told"):
        id, value = line["execution"], line["value"]
        if not any(event.value == value and event.is_result for event in record.events.get(id, ())):
            raise Wrong(f"{id}: {value} was given to the workflow and is not stored")


def nothing_runs_again_after_its_result(record: Record) -> None:
    """A body that begins after its result was given back belongs to an older epoch, which knew nothing."""
    paths = {
        (id, event.value): event.path
        for id, events in record.events.items()
        for event in events
        if event.type == EventType.STEP_COMPLETED
    }
    told: dict[tuple[str, str | None], int] = {}
    for line in record.lines("told", "body"):
        id = line["execution"]
        if line["kind"] == "told":
            told.setdefault((id, paths.get((id, line["value"]))), line["epoch"])
        elif line["epoch"] >= told.get((id, line["path"]), line["epoch"] + 1):
            raise Wrong(f"{id}: the body of {line['path']} ran again after its result was given back")


class _Moments:
    """When something was done to which process. In a long run the system gives a number out again."""

    def __init__(self, record: Record, *kinds: str) -> None:
        self._times: dict[int, list[float]] = defaultdict(list)
        for line in record.lines(*kinds):
            self._times[line["worker"]].append(line["t"])

    def next(self, pid: int, after: float) -> float:
        """The first time at or behind `after`; infinity when there is none."""
        times = self._times[pid]
        place = bisect_left(times, after)
        return times[place] if place < len(times) else float("inf")


class _Run(NamedTuple):
    began: float
    ended: float
    epoch: int
    attempt: int
    pid: int


def _bodies(record: Record) -> dict[tuple[str, str], list[_Run]]:
    """Every run of every body, from its beginning to its end or the death of its process."""
    deaths = _Moments(record, "killed", "died")
    open_: dict[tuple[str, str, int, int, int], float] = {}
    runs: dict[tuple[str, str], list[_Run]] = defaultdict(list)
    for line in record.lines("body", "left"):
        mark = (line["execution"], line["path"], line["epoch"], line["attempt"], line["pid"])
        if line["kind"] == "body":
            open_[mark] = line["t"]
        elif mark in open_:
            runs[mark[:2]].append(_Run(open_.pop(mark), line["t"], *mark[2:]))
    for mark, began in open_.items():
        runs[mark[:2]].append(_Run(began, deaths.next(mark[4], began), *mark[2:]))
    return runs


def bodies_overlap_only_across_epochs(record: Record) -> None:
    """Two bodies of one step at once: only in two epochs, of which the newer one is recorded."""
    for (id, path), runs in _bodies(record).items():
        runs.sort()
        for place, first in enumerate(runs):
            for second in runs[place + 1 :]:
                if second.began >= first.ended:
                    continue
                if second.epoch == first.epoch:
                    raise Wrong(f"{id}: two bodies of {path} at once in epoch {first.epoch}")
                if max(first.epoch, second.epoch) > record.rows[id].epoch:
                    raise Wrong(f"{id}: a body of {path} ran in an epoch that is not recorded")


def epochs_follow_each_other(record: Record) -> None:
    """The log never goes back to an older epoch, and each epoch had one owner: a zombie wrote nothing."""
    owners: dict[tuple[str, int], str] = {}
    for line in record.lines("owns"):
        place = (line["execution"], line["epoch"])
        if owners.setdefault(place, line["boot"]) != line["boot"]:
            raise Wrong(f"{place[0]}: two owners in epoch {place[1]}")
    for id, events in record.events.items():
        epoch = 0
        for event in events:
            if event.epoch < epoch:
                raise Wrong(
                    f"{id}: event {event.seq} ({event.type}) of epoch {event.epoch} behind epoch {epoch}"
                )
            epoch = event.epoch
        if epoch > record.rows[id].epoch:
            raise Wrong(f"{id}: the log has epoch {epoch}, the row {record.rows[id].epoch}")


def signals_are_taken_once(record: Record) -> None:
    """Every signal whose sending was acknowledged was received by its execution, once and as it was sent."""
    for line in record.lines("signalled"):
        events = record.events.get(line["execution"], [])
        received = [event.value for event in events if event.type == EventType.SIGNAL_RECEIVED]
        if received != [line["value"]]:
            raise Wrong(f"{line['execution']}: the signal {line['value']} was sent, {received} received")


def attempts_are_durable(record: Record) -> None:
    """The end of attempt k is in the log before a body of attempt k + 1 runs."""
    failed = {
        (id, event.path, event.attempt)
        for id, events in record.events.items()
        for event in events
        if event.type == "attempt.failed"
    }
    for line in record.lines("body"):
        if line["attempt"] > 1 and (line["execution"], line["path"], line["attempt"] - 1) not in failed:
            raise Wrong(
                f"{line['execution']}: attempt {line['attempt']} of {line['path']} has no predecessor"
            )


def timers_are_not_early(record: Record) -> None:
    """Nothing goes on behind a rest before the rest is over, counted from the first time it was asked for."""
    asked: dict[str, float] = {}
    for line in record.lines("rests", "rested"):
        began = asked.setdefault(line["execution"], line["t"])
        if line["kind"] == "rested" and line["t"] < began + NAP_S - CLOCK_SLACK_S:
            raise Wrong(f"{line['execution']}: it rested {line['t'] - began:.2f} s instead of {NAP_S} s")


class Takeover(NamedTuple):
    """An execution that went from one owner to the next without having been given up."""

    execution: str
    epoch: int
    owner: str
    pid: int
    since: float
    at: float
    successor: str


def takeovers(record: Record) -> list[Takeover]:
    """All of them, by the notes of the owners and the log."""
    given_up = {
        (id, event.epoch)
        for id, events in record.events.items()
        for event in events
        if event.type in _GIVEN_UP
    }
    given_back = {(line["key"], line["epoch"]) for line in record.lines("gives_back")}
    owned: dict[str, dict[str, Any]] = {}
    found = []
    for line in record.lines("owns"):
        before = owned.get(line["execution"])
        if before is not None and line["epoch"] < before["epoch"]:
            continue  # the answer to its claim came when others had taken it long ago
        owned[line["execution"]] = line
        if before is None or (before.get("key"), before["epoch"]) in given_back:
            continue
        if (line["execution"], before["epoch"]) not in given_up:
            owner = (before[field] for field in ("epoch", "boot", "pid", "t"))
            found.append(Takeover(line["execution"], *owner, line["t"], line["boot"]))
    return found


def nobody_is_robbed(record: Record) -> None:
    """What a live owner runs is taken from it only when its lease is over.

    A claim that was under way when the lease ran out was made under the boot before, whose lease is over. The
    process may note it under the boot that it is about to come back with, before it notes that it is back.
    """
    deaths = _Moments(record, "killed", "died")
    back_since = {line["boot"]: line["t"] for line in record.lines("boots")}
    first_lapse: dict[int, float] = {}
    for line in record.lines("lapsed"):
        first_lapse.setdefault(line["pid"], line["t"])
    renewed: dict[str, list[float]] = defaultdict(list)
    for line in record.lines("renewed"):
        renewed[line["boot"]].append(line["asked"])
    for taken in takeovers(record):
        if deaths.next(taken.pid, taken.since) <= taken.at or taken.owner == taken.successor:
            continue  # dead; or its own, under a new epoch, when the answer to its first claim was lost
        lapsed_before = first_lapse.get(taken.pid, taken.since + 1) <= taken.since
        if lapsed_before and taken.since < back_since.get(taken.owner, 0.0):
            continue
        times = renewed[taken.owner]
        place = bisect_right(times, taken.at)
        left_s = times[place - 1] + record.lease_s - taken.at if place else 0.0
        if left_s > CLOCK_SLACK_S:
            raise Wrong(f"{taken.execution}: taken from a live owner whose lease had {left_s:.2f} s left")


def takeover_times(record: Record) -> list[float]:
    """Seconds from the kill of an owner to the first sign of the next one, ascending."""
    kills = _Moments(record, "killed")
    times = (taken.at - kills.next(taken.pid, taken.since) for taken in takeovers(record))
    return sorted(time_s for time_s in times if time_s >= 0)


AT_ANY_TIME: tuple[Callable[[Record], None], ...] = (
    results_are_single,
    told_is_stored,
    nothing_runs_again_after_its_result,
    bodies_overlap_only_across_epochs,
    epochs_follow_each_other,
    attempts_are_durable,
    timers_are_not_early,
    nobody_is_robbed,
)
AT_THE_END: tuple[Callable[[Record], None], ...] = (
    nothing_is_lost,
    nothing_stays_held,
    the_log_is_whole,
    signals_are_taken_once,
)


def judge(record: Record, *, finished: bool = True) -> dict[str, int]:
    """Apply every rule that holds at any time, and at the end the others; what was checked, in numbers.

    Raises `Wrong`.
    """
    for rule in (*AT_ANY_TIME, *(AT_THE_END if finished else ())):
        rule(record)
    return {
        "executions_checked": sum(1 for _ in record.lines("acknowledged")),
        "events_checked": sum(map(len, record.events.values())),
        "signals_checked": sum(1 for _ in record.lines("signalled")),
        "results_checked": sum(event.is_result for events in record.events.values() for event in events),
        "bodies_run": sum(1 for _ in record.lines("body")),
        "takeovers": len(takeovers(record)),
        "executions_lost_by_their_owner": sum(1 for _ in record.lines("lost")),
        "leases_lapsed": sum(1 for _ in record.lines("lapsed")),
        "workers_started": sum(1 for _ in record.lines("spawned")),
    }


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed; `values` are ascending."""
    return values[min(len(values) - 1, round(share * (len(values) - 1)))]
