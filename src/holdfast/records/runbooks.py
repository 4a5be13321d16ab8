"""Runbooks: workflows that answer incidents, their published editions, and every run of one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.records.declare import Record, SoftRecord, field, record


class RunOutcome(StrEnum):
    """How the execution of a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # its execution was removed before anybody asked; it counts for nothing


@record(table="runbooks")
class Runbook(SoftRecord):
    """A runbook by its name, which no other runbook that is not deleted has.

    `trigger_conditions` say which incidents it fits (`holdfast.domain.runbook_triggers`). `edition` is the
    one that runs, 0 before any was published. The figures count runs that have ended and were settled.
    """

    name: str
    title: str = field(default="", search=True, filter=None)
    description: str | None = field(default=None, search=True, filter=None)
    trigger_conditions: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = field(default=(), filter="tag")
    edition: int = 0
    execution_count: int = field(default=0, filter="executions")
    success_count: int = field(default=0, filter="successes")
    last_execution_at: datetime | None = field(default=None, filter="executed")

    @property
    def success_rate(self) -> float | None:
        """The share of its ended runs that completed, from 0 to 1; None before the first."""
        return self.success_count / self.execution_count if self.execution_count else None


@record(table="runbook_versions", owner=("runbooks", "runbook"), sealed=True)
class RunbookEdition(Record):
    """One published text of a runbook, which never changes. `hash` is the identity of its definition."""

    runbook: str = field(immutable=True)
    edition: int = field(immutable=True)
    definition: str = field(immutable=True, filter=None)
    hash: bytes = field(immutable=True)
    author: str | None = field(default=None, immutable=True, personal=True)
    note: str | None = field(default=None, immutable=True, filter=None)


@record(table="runbook_runs", owner=("runbooks", "runbook"), sealed=True)
class RunbookRun(Record):
    """One run of an edition. `execution` is the id of its execution, made of the run's own id.

    `started_at` is set once that execution is known to exist, `outcome` once it is known to have ended.
    """

    runbook: str = field(immutable=True)
    edition: int = field(immutable=True)
    execution: str = field(immutable=True)
    queue: str = field(immutable=True)
    incident: str | None = field(default=None, immutable=True)
    started_by: str | None = field(default=None, immutable=True, personal=True)
    inputs: Any = field(default=None, immutable=True)
    started_at: datetime | None = field(default=None, filter="started")
    outcome: RunOutcome | None = None
    finished_at: datetime | None = field(default=None, filter="finished")
