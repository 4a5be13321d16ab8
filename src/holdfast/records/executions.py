"""Executions and their steps as the store returns them: frozen values, no behaviour that touches a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

ExecutionKey = NewType("ExecutionKey", bytes)
"""The 16 bytes of a UUIDv7: internal identity of an execution, ordered by creation time."""

BootId = NewType("BootId", bytes)
"""16 random bytes that name one registration of one process; never reused, never derived from a host."""


class ExecutionStatus(StrEnum):
    """Where an execution stands. The last three are final: only a retry takes such an end back."""

    READY = "ready"  # may be claimed
    RUNNING = "running"  # has an owner
    WAITING = "waiting"  # suspended: a timer or a message wakes it
    PAUSED = "paused"  # set aside by a person
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can change the execution any more."""
        return self in _FINAL


_FINAL = frozenset({ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED})


class StepStatus(StrEnum):
    """Where a step stands, derived from its events."""

    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a workflow. Times are UTC with microseconds."""

    key: ExecutionKey
    id: str
    tenant: str
    workflow: str
    version: str
    definition: bytes  # hash of the stored definition this execution runs
    status: ExecutionStatus
    queue: str
    priority: int
    due_at: datetime | None
    owner: BootId | None
    epoch: int
    recoveries: int
    wakes: int
    parent: ExecutionKey | None
    fingerprint: bytes  # hash of workflow name and input: what a bare second `run` looks for
    created_at: datetime
    finished_at: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """From creation to the end; None while it has not ended."""
        return None if self.finished_at is None else self.finished_at - self.created_at

    @property
    def duration_ms(self) -> float | None:
        """The same in milliseconds."""
        return None if self.duration is None else self.duration / timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionDetails:
    """What was said about an execution when it was started. `metadata` and `context` are its caller's."""

    tags: tuple[str, ...] = ()
    trigger: str = "api"
    started_by: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """How far an execution is: steps that have ended, of those that are known to come.

    Of a workflow in YAML all steps are known, and those left out by a condition have ended; of one in Python
    only its code knows: `known` is None until it has completed.
    """

    ended: int
    known: int | None

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None where the whole is not known."""
        if self.known is None:
            return None
        return self.ended / self.known if self.known else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an execution, as its events tell it."""

    path: str
    name: str
    status: StepStatus
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    duration: timedelta | None  # of the body of the last attempt
    input: Any
    output: Any
    error: dict[str, Any] | None


def key_text(key: bytes) -> str:
    """The usual text form of a key, which is also the default id of an execution."""
    return str(UUID(bytes=bytes(key)))
