"""Finds the kind of a step: built-in ones, then plugins of the entry-point group `holdfast.steps`.

A plugin is a `StepKind` class without constructor arguments, registered under the key it owns. Entry
points are looked up only when a definition uses a key that is not built in.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from holdfast.errors import InvalidConfiguration
from holdfast.workflows.steps.base import BodyKind, RuntimeKind, StepKind

GROUP = "holdfast.steps"
BUILT_IN = ("agent", "shell", "python", "http", "sleep", "wait", "approval", "workflow")


@cache
def plugins() -> dict[str, EntryPoint]:
    """The installed plugins by key; a key that two packages claim keeps the first by package name."""
    found = sorted(entry_points(group=GROUP), key=lambda each: each.dist.name if each.dist else "")
    return {each.name: each for each in reversed(found) if each.name not in BUILT_IN}


@cache
def kind(name: str) -> StepKind | None:
    """The kind that owns the key `name`, or None. `InvalidConfiguration`: its plugin can not be loaded."""
    if name in BUILT_IN:
        return _built_in(name)
    plugin = plugins().get(name)
    if plugin is None:
        return None
    try:
        made = plugin.load()()
    except Exception as error:
        raise InvalidConfiguration(
            f"the step kind {name!r} can not be loaded: {type(error).__name__}: {error}",
            where=f"entry point {plugin.value}",
            fix="reinstall or remove the package that provides it",
        ) from error
    if not isinstance(made, BodyKind | RuntimeKind):
        raise InvalidConfiguration(
            f"the step kind {name!r} is neither a BodyKind nor a RuntimeKind",
            where=f"entry point {plugin.value}",
            fix="derive it from holdfast.workflows.steps.base.BodyKind",
        )
    return made


def _built_in(name: str) -> StepKind:
    if name == "shell":
        from holdfast.workflows.steps.shell import ShellKind

        return ShellKind()
    if name == "wait":
        from holdfast.workflows.steps.wait import WaitKind

        return WaitKind()
    if name == "approval":
        from holdfast.workflows.steps.approval import ApprovalKind

        return ApprovalKind()
    if name == "agent":
        from holdfast.workflows.steps.agent import AgentKind

        return AgentKind()
    if name == "python":
        from holdfast.workflows.steps.python import PythonKind

        return PythonKind()
    if name == "http":
        from holdfast.workflows.steps.http import HttpKind

        return HttpKind()
    if name == "sleep":
        from holdfast.workflows.steps.sleep import SleepKind

        return SleepKind()
    from holdfast.workflows.steps.workflow import WorkflowKind

    return WorkflowKind()
