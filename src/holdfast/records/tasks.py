"""Agents and the tasks they carry out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from holdfast.records.declare import Record, field, record


class TaskStatus(StrEnum):
    """Where a task stands. The last three are final."""

    BLOCKED = "blocked"  # waits for other tasks
    PENDING = "pending"  # waits for an agent
    CLAIMED = "claimed"  # an agent has it, and renews its lease
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # nobody waits for it any more

    @property
    def is_final(self) -> bool:
        """Whether no agent will take it any more, unless somebody puts it back."""
        return self in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


class DependencyPolicy(StrEnum):
    """What becomes of a task when one that it depends on fails or is cancelled."""

    FAIL = "fail"
    CANCEL = "cancel"


class AgentStatus(StrEnum):
    """What an agent said of itself last."""

    IDLE = "idle"
    BUSY = "busy"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of work for an agent. `epoch` rises with every claim; only its holder may finish the task."""

    id: str
    tenant: str
    capability: str
    type: str | None
    priority: int
    status: TaskStatus
    payload: Any
    agent: str | None
    epoch: int
    attempts: int
    max_attempts: int
    lease: timedelta
    created_at: datetime


@record(table="tasks", sealed=True)
class TaskRecord(Record):
    """A task with all that is known of it: a step of an execution, or one that stands by itself.

    One that stands by itself may depend on others of its kind. `agent` is who claimed it last; `epoch` and
    `attempts` count its claims. `execution` is the key of the execution whose step at `path` it is.
    """

    capability: str = field(immutable=True)
    type: str | None = field(default=None, immutable=True)
    priority: int = 0
    status: TaskStatus = TaskStatus.PENDING
    payload: Any = field(default=None, immutable=True)
    result: Any = None
    error: Any = None
    agent: str | None = None
    epoch: int = field(default=0, filter=None)
    attempts: int = 0
    max_attempts: int = 3
    lease: timedelta = timedelta(seconds=60)
    lease_until: datetime | None = field(default=None, filter="lapses")
    depends_on: tuple[str, ...] = field(default=(), immutable=True)
    on_failed_dependency: DependencyPolicy = field(default=DependencyPolicy.FAIL, immutable=True, filter=None)
    metadata: dict[str, Any] = field(default_factory=dict)
    execution: bytes | None = field(default=None, immutable=True)
    path: str | None = field(default=None, immutable=True)
    finished_at: datetime | None = field(default=None, filter="finished")


@record(table="agents")
class AgentRecord(Record):
    """An agent as it is registered. `heartbeat_at` is by the database's clock."""

    role: str | None = None
    type: str | None = None
    capabilities: tuple[str, ...] = field(default=(), filter="capability")
    status: AgentStatus = AgentStatus.IDLE
    metadata: dict[str, Any] = field(default_factory=dict)
    heartbeat_at: datetime | None = field(default=None, filter="heartbeat")
