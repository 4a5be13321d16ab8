"""Agents and the tasks they carry out, as the store returns them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class TaskStatus(StrEnum):
    """Where a task stands. The last three are final."""

    PENDING = "pending"  # waits for an agent
    CLAIMED = "claimed"  # an agent has it, and renews its lease
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # nobody waits for it any more


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """An agent as it is registered. `heartbeat_at` is by the database's clock."""

    id: str
    role: str | None
    type: str | None
    capabilities: tuple[str, ...]
    status: AgentStatus
    metadata: dict[str, Any]
    heartbeat_at: datetime | None
    created_at: datetime
