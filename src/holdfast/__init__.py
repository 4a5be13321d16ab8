"""Durable state for agents and workflows: one file on a laptop, PostgreSQL in production.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.app import App as App
    from holdfast.errors import ApprovalExpired as ApprovalExpired
    from holdfast.errors import ExecutionCancelled as ExecutionCancelled
    from holdfast.errors import ExecutionFailed as ExecutionFailed
    from holdfast.errors import HoldfastError as HoldfastError
    from holdfast.errors import SignalTimeout as SignalTimeout
    from holdfast.errors import StepFailed as StepFailed
    from holdfast.events.files.copying import InMemoryEventLog as InMemoryEventLog
    from holdfast.events.files.kinds import FileSystemEventLog as FileSystemEventLog
    from holdfast.fleet.agents import Agent as Agent
    from holdfast.handles import Handle as Handle
    from holdfast.orchestrator import Orchestrator as Orchestrator
    from holdfast.platform import Platform as Platform
    from holdfast.platform import open as open
    from holdfast.records.declare import Record as Record
    from holdfast.records.declare import SoftRecord as SoftRecord
    from holdfast.records.declare import field as field
    from holdfast.records.declare import record as record
    from holdfast.store.store import Store as Store
    from holdfast.workflows.agent_tasks import agent_task as agent_task
    from holdfast.workflows.branches import gather as gather
    from holdfast.workflows.branches import scope as scope
    from holdfast.workflows.functions import sleep as sleep
    from holdfast.workflows.patching import deprecate_patch as deprecate_patch
    from holdfast.workflows.patching import patched as patched
    from holdfast.workflows.waiting import Approval as Approval
    from holdfast.workflows.waiting import approval as approval
    from holdfast.workflows.waiting import wait_signal as wait_signal

_HOME = {
    "Agent": "holdfast.fleet.agents",
    "agent_task": "holdfast.workflows.agent_tasks",
    "Approval": "holdfast.workflows.waiting",
    "ApprovalExpired": "holdfast.errors",
    "SignalTimeout": "holdfast.errors",
    "approval": "holdfast.workflows.waiting",
    "wait_signal": "holdfast.workflows.waiting",
    "App": "holdfast.app",
    "FileSystemEventLog": "holdfast.events.files.kinds",
    "Handle": "holdfast.handles",
    "InMemoryEventLog": "holdfast.events.files.copying",
    "ExecutionCancelled": "holdfast.errors",
    "ExecutionFailed": "holdfast.errors",
    "HoldfastError": "holdfast.errors",
    "Orchestrator": "holdfast.orchestrator",
    "StepFailed": "holdfast.errors",
    "Platform": "holdfast.platform",
    "Record": "holdfast.records.declare",
    "SoftRecord": "holdfast.records.declare",
    "Store": "holdfast.store.store",
    "field": "holdfast.records.declare",
    "open": "holdfast.platform",
    "record": "holdfast.records.declare",
    "deprecate_patch": "holdfast.workflows.patching",
    "gather": "holdfast.workflows.branches",
    "patched": "holdfast.workflows.patching",
    "scope": "holdfast.workflows.branches",
    "sleep": "holdfast.workflows.functions",
}

__all__ = [
    "Agent",
    "agent_task",
    "App",
    "Approval",
    "ApprovalExpired",
    "ExecutionCancelled",
    "ExecutionFailed",
    "FileSystemEventLog",
    "Handle",
    "HoldfastError",
    "InMemoryEventLog",
    "Orchestrator",
    "Platform",
    "Record",
    "SignalTimeout",
    "SoftRecord",
    "StepFailed",
    "Store",
    "approval",
    "deprecate_patch",
    "field",
    "gather",
    "open",
    "patched",
    "record",
    "scope",
    "sleep",
    "wait_signal",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
