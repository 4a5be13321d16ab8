"""Incidents, and their timelines: what happened when, and who did it."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from holdfast.records.declare import NOT_YET, Record, SoftRecord, field, record


class Severity(StrEnum):
    """How bad an incident is, from the least to the worst."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place in the order, counted from 0: texts do not sort this way."""
        return list(Severity).index(self)


class IncidentStatus(StrEnum):
    """Where an incident stands. One that is reopened is open again."""

    OPEN = "open"  # nobody has taken it yet
    ACKNOWLEDGED = "acknowledged"  # somebody works on it
    MITIGATED = "mitigated"  # users do not feel it any more
    RESOLVED = "resolved"  # its cause is gone
    CLOSED = "closed"  # nothing more is to be done or learnt


class TimelineKind(StrEnum):
    """What a line of a timeline tells."""

    OPENED = "opened"
    ACKNOWLEDGED = "acknowledged"
    ASSIGNED = "assigned"
    MITIGATED = "mitigated"
    RESOLVED = "resolved"
    CLOSED = "closed"
    REOPENED = "reopened"
    NOTE = "note"
    SEVERITY = "severity"
    SCOPE = "scope"
    RUNBOOK = "runbook"


@record(table="incidents")
class Incident(SoftRecord):
    """One incident. Its verbs (`holdfast.domain.incidents`) set its status and its times.

    `acknowledged_at` is the first acknowledgement; the times behind it are taken back when it is reopened.
    """

    title: str = field(search=True)
    description: str | None = field(default=None, search=True, filter=None)
    severity: Severity = Severity.MEDIUM
    status: IncidentStatus = IncidentStatus.OPEN
    assignee: str | None = field(default=None, personal=True)
    blast_radius: str | None = field(default=None, filter=None)
    affected_services: tuple[str, ...] = field(default=(), filter="service")
    root_cause: str | None = field(default=None, filter=None)
    remediation: str | None = field(default=None, filter=None)
    tags: tuple[str, ...] = field(default=(), filter="tag")
    reopened: int = 0
    detected_at: datetime = field(default=NOT_YET, filter="detected")
    acknowledged_at: datetime | None = field(default=None, filter="acknowledged")
    mitigated_at: datetime | None = field(default=None, filter="mitigated")
    resolved_at: datetime | None = field(default=None, filter="resolved")
    closed_at: datetime | None = field(default=None, filter="closed")

    @property
    def time_to_acknowledge(self) -> timedelta | None:
        """From its detection until somebody took it; None while nobody has."""
        return self._since_detection(self.acknowledged_at)

    @property
    def time_to_mitigate(self) -> timedelta | None:
        """From its detection until users felt it no more."""
        return self._since_detection(self.mitigated_at)

    @property
    def time_to_resolve(self) -> timedelta | None:
        """From its detection until its cause was gone, the time of every reopening included."""
        return self._since_detection(self.resolved_at)

    def _since_detection(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else moment - self.detected_at


@record(table="incident_timeline", owner=("incidents", "incident"), sealed=True)
class TimelineEntry(Record):
    """One line of an incident's timeline; `seq` counts from 1 without gaps.

    `data` has what changed, as `{field: [before, after]}`, and what a note or a runbook adds.
    """

    incident: str = field(immutable=True)
    seq: int = field(immutable=True)
    at: datetime = field(immutable=True)
    kind: TimelineKind = field(immutable=True)
    actor: str = field(immutable=True, personal=True)
    text: str = field(default="", immutable=True, filter=None)
    data: dict[str, Any] = field(default_factory=dict, immutable=True)
