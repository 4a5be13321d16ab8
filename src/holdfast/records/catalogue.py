"""Every kind of record and every table, in the order in which they can be filled."""

from __future__ import annotations

from holdfast.records.audit import AuditEntry, AuditHead
from holdfast.records.conversations import ContextSnapshot, Conversation, Message
from holdfast.records.declare import Record, table_of
from holdfast.records.engine_tables import ENGINE_TABLES, LINK_TABLES
from holdfast.records.identity import Achievement, ApiKey, Session, User
from holdfast.records.incidents import Incident, TimelineEntry
from holdfast.records.runbooks import Runbook, RunbookEdition, RunbookRun
from holdfast.records.schedules import Schedule, ScheduleFiring
from holdfast.records.tables import Table
from holdfast.records.tasks import AgentRecord, TaskRecord
from holdfast.records.workflows import Deployment, WorkflowVersion

RECORDS: tuple[type[Record], ...] = (
    User, ApiKey, Session, Achievement, WorkflowVersion, Deployment, Schedule, ScheduleFiring, AgentRecord,
    TaskRecord, Conversation, Message, ContextSnapshot,
    Incident, TimelineEntry, Runbook, RunbookEdition, RunbookRun, AuditEntry, AuditHead,
)  # fmt: skip
"""The kinds that Holdfast brings; a platform's own are declared by the platform."""


def all_tables() -> tuple[Table, ...]:
    """The tables of a store."""
    return (*ENGINE_TABLES, *(table_of(cls) for cls in RECORDS), *LINK_TABLES)
