"""Audit entries: who did what, when, to what, from where; each holds the digest of the one before it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.records.declare import Record, field, record

HEAD = "head"
"""The id of a tenant's only `AuditHead`."""


class ActorKind(StrEnum):
    """What acted."""

    USER = "user"
    KEY = "key"  # an API key
    SYSTEM = "system"


@record(table="audit_logs", sealed=True)
class AuditEntry(Record):
    """One entry of a tenant's chain; `seq` counts from 1 without gaps.

    `before` and `after` are what the act changed, with secrets left out. `hash` is made of everything here,
    the tenant, and `previous`, which is the hash of the entry before. `sealed_by` names the key of a keyed
    hash and is empty for a plain one.
    """

    seq: int = field(immutable=True)
    at: datetime = field(immutable=True)
    actor_kind: ActorKind = field(immutable=True)
    actor: str = field(immutable=True, personal=True)
    action: str = field(immutable=True)
    resource_kind: str = field(immutable=True, filter="resource")
    resource_id: str | None = field(default=None, immutable=True)
    before: dict[str, Any] | None = field(default=None, immutable=True)
    after: dict[str, Any] | None = field(default=None, immutable=True)
    details: dict[str, Any] = field(default_factory=dict, immutable=True)
    ip: str | None = field(default=None, immutable=True, personal=True)
    user_agent: str | None = field(default=None, immutable=True, personal=True, filter=None)
    request_id: str | None = field(default=None, immutable=True, filter="request")
    sealed_by: str = field(default="", immutable=True, filter=None)
    previous: bytes = field(immutable=True)
    hash: bytes = field(immutable=True)


@record(table="audit_heads", sealed=True)
class AuditHead(Record):
    """The end of a tenant's chain: the number, hash and time of its newest entry.

    Whoever appends holds its row's lock.
    """

    seq: int
    hash: bytes
    at: datetime
