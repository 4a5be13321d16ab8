"""Workflow definitions as the store keeps them: content-addressed, registered by name, deployed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.records.declare import Record, SoftRecord, field, record


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDefinition:
    """One immutable definition. `kind` is `yaml` or `python`; `document` is what `resume` runs.

    A YAML document is the normalised definition itself; a Python one names its entry point
    (`{"target": "hello.py:report", "path": "/abs/hello.py"}`), because code is not data.
    """

    hash: bytes
    name: str
    version: str
    kind: str
    document: dict[str, Any]
    created_at: datetime


class WorkflowStatus(StrEnum):
    """How far along a registered version is."""

    DRAFT = "draft"  # started by name and version alone
    ACTIVE = "active"
    DEPRECATED = "deprecated"  # a bare name means it only where no version is active
    ARCHIVED = "archived"  # starts nothing new; what runs goes on


@record(table="workflows", sealed=True)
class WorkflowVersion(SoftRecord):
    """One registered version of a workflow, unique by name and version; its definition never changes.

    `parameters` is the JSON Schema of its inputs. `triggers` say what is meant to start it, and `environment`
    where it is deployed unless said otherwise.
    """

    name: str = field(search=True, immutable=True)
    version: str = field(immutable=True)
    definition: bytes = field(immutable=True)
    description: str | None = field(default=None, search=True, filter=None)
    author: str | None = field(default=None, immutable=True)
    tags: tuple[str, ...] = field(default=(), search=True, filter="tag")
    status: WorkflowStatus = WorkflowStatus.ACTIVE
    triggers: tuple[dict[str, Any], ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict, immutable=True)
    environment: str | None = None


class DeploymentStatus(StrEnum):
    """What a deployment is to its environment."""

    ACTIVE = "active"  # what a bare name starts there; one at most
    SUPERSEDED = "superseded"  # another version followed; a rollback returns to it
    ROLLED_BACK = "rolled_back"


@record(table="deployments", sealed=True)
class Deployment(Record):
    """A version of a workflow in an environment: since `created_at`, by `deployed_by`, until `ended_at`."""

    workflow: str = field(immutable=True)
    version: str = field(immutable=True)
    environment: str = field(immutable=True)
    status: DeploymentStatus = DeploymentStatus.ACTIVE
    deployed_by: str | None = field(default=None, filter="by", immutable=True)
    ended_at: datetime | None = field(default=None, filter="ended")
    ended_by: str | None = field(default=None, filter=None)
