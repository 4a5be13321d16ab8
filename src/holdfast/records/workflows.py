"""Workflow definitions as the store keeps them: content-addressed documents and their registered names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """One registered version of a workflow: immutable, unique by name and version."""

    name: str
    version: str
    definition: bytes
    description: str | None
    author: str | None
    tags: tuple[str, ...]
    created_at: datetime
