"""Counting what the fleet did: from the log in the store, and from the ledger that the step bodies wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from holdfast.events.log import EventLog
from holdfast.records.events import EventType
from holdfast.records.executions import ExecutionStatus
from holdfast.store.store import Store

STEPS = ("reserve", "charge", "pack", "ship")
Step = tuple[int, str]
"""An order's number and the name of a step."""


@dataclass(frozen=True, slots=True)
class Body:
    """One body that began: of which step, in which process."""

    step: Step
    pid: int


@dataclass(slots=True)
class Counted:
    """What came of it."""

    completed: int
    results: dict[Step, list[int]]
    """By step, the process whose body the recorded result is of; more than one would be a doubled result."""
    bodies: list[Body]
    killed: int
    orphans: set[int] = field(default_factory=set)

    @property
    def saved(self) -> int:
        """Results that the killed worker had recorded of the orders that others finished."""
        return sum(self.killed in pids for step, pids in self.results.items() if step[0] in self.orphans)

    @property
    def cut_off(self) -> list[Step]:
        """Bodies of the killed worker whose result was not recorded: they began once more elsewhere."""
        return [
            each.step
            for each in self.bodies
            if each.pid == self.killed and each.pid not in self.results.get(each.step, [])
        ]

    @property
    def repeated(self) -> list[Step]:
        """Steps of which a body began although the result of an earlier body had been recorded."""
        found, recorded = [], set()
        for each in self.bodies:
            if each.step in recorded:
                found.append(each.step)
            if each.pid in self.results.get(each.step, []):
                recorded.add(each.step)
        return found

    def problems(self, orders: int) -> list[str]:
        """What must not be; empty when all is well."""
        wanted = {(number, step) for number in range(1, orders + 1) for step in STEPS}
        lost = sorted(wanted - set(self.results))
        doubled = sorted(step for step, pids in self.results.items() if len(pids) > 1)
        begun = {each.step: each.pid for each in self.bodies}
        unexplained = sorted(
            each.step
            for each in self.bodies
            if each.pid != self.killed and each.pid not in self.results.get(each.step, [])
        )
        found = [f"{orders - self.completed} orders did not complete"] if self.completed != orders else []
        for what, steps in (
            ("lost", lost),
            ("recorded twice", doubled),
            ("repeated", self.repeated),
            ("recorded without a body", sorted(set(self.results) - set(begun))),
            ("begun by a live worker and not recorded", unexplained),
        ):
            if steps:
                found.append(f"{what}: {', '.join(f'order {number} {step}' for number, step in steps)}")
        return found


def say_numbers(counted: Counted, orders: int) -> None:
    """The numbers, a line each."""
    results = sum(len(pids) for pids in counted.results.values())
    lost = len(STEPS) * orders - len(counted.results)
    for number, what, meaning in (
        (counted.completed, "orders", f"completed, with {results} results of {len(STEPS) * orders} steps"),
        (len(counted.orphans), "taken over", "orders that the killed worker ran; the others finished them"),
        (counted.saved, "saved", "results it had recorded of them, given back from the store"),
        (len(counted.cut_off), "cut off", "bodies that the kill stopped; these alone began a second time"),
        (len(counted.repeated), "repeated", "bodies that began although their result was recorded"),
        (lost, "lost", "steps without a result"),
    ):
        print(f"  {number:>3}  {what:<10}  {meaning}", flush=True)


async def count(store: Store, ledger: Path, killed: int, orphans: list[str]) -> Counted:
    """Read the log and the ledger."""
    log, completed = EventLog(store), 0
    results: dict[Step, list[int]] = {}
    for execution in await store.list_executions(limit=1000):
        completed += execution.status is ExecutionStatus.COMPLETED
        for event in await log.page(execution, limit=1000):
            if event.type is EventType.STEP_COMPLETED:
                results.setdefault((_number(execution.id), str(event.path)), []).append(event.payload)
    return Counted(completed, results, read_ledger(ledger), killed, {_number(id) for id in orphans})


def read_ledger(ledger: Path) -> list[Body]:
    """Every body that has begun so far, in order; none before the first."""
    text = ledger.read_text(encoding="utf-8") if ledger.exists() else ""
    lines = (line.split() for line in text.splitlines())
    return [Body((int(number), step), int(pid)) for number, step, pid in lines]


def _number(id: str) -> int:
    return int(id.rpartition("-")[2])
