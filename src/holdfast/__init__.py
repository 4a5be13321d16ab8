"""Durable state for agents and workflows: one file on a laptop, PostgreSQL in production.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.app import App as App
    from holdfast.app import Handle as Handle
    from holdfast.errors import ExecutionCancelled as ExecutionCancelled
    from holdfast.errors import ExecutionFailed as ExecutionFailed
    from holdfast.errors import HoldfastError as HoldfastError
    from holdfast.errors import StepFailed as StepFailed
    from holdfast.orchestrator import Orchestrator as Orchestrator
    from holdfast.store.store import Store as Store
    from holdfast.workflows.branches import gather as gather
    from holdfast.workflows.branches import scope as scope
    from holdfast.workflows.functions import sleep as sleep

_HOME = {
    "App": "holdfast.app",
    "Handle": "holdfast.app",
    "ExecutionCancelled": "holdfast.errors",
    "ExecutionFailed": "holdfast.errors",
    "HoldfastError": "holdfast.errors",
    "Orchestrator": "holdfast.orchestrator",
    "StepFailed": "holdfast.errors",
    "Store": "holdfast.store.store",
    "gather": "holdfast.workflows.branches",
    "scope": "holdfast.workflows.branches",
    "sleep": "holdfast.workflows.functions",
}

__all__ = [
    "App",
    "ExecutionCancelled",
    "ExecutionFailed",
    "Handle",
    "HoldfastError",
    "Orchestrator",
    "StepFailed",
    "Store",
    "gather",
    "scope",
    "sleep",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
